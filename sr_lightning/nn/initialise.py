"""Initial weights that several papers share."""

from __future__ import annotations

from torch import nn

__all__ = ["he_normal"]


def he_normal(network: nn.Module, slope: float = 0.0) -> None:
    """Initialise convolutions as He et al. (ICCV 2015) do, and biases with 0, in place.

    Args:
        network: all of whose convolutions and transposed convolutions are initialised.
        slope: of the leaky ReLU for negative values.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=slope, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
