"""AWSRN-S (Wang, Li and Shi, arXiv:1904.02358): adaptive weighted learning, the small network.

Residual units whose residual and identity have a learnable scalar each, fused locally (LFB), and a
reconstruction of four kernel sizes weighted by scalars (AWMS); all convolutions weight-normalised.

Recipe: RGB; DIV2K, LR patches of 48, batch 16; L1; Adam 1e-3 halved every 200k of 1,000k steps
(released options, whose default is to restart that schedule once); protocol edsr2017.
Cost (published in brackets): 397,482, 476,757, 587,742 parameters [397k, 477k, 588k] and 91.2,
48.7, 33.7 GMACs at x2, x3, x4 (1280 x 720) [91.2G, 48.6G, 33.7G].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.layers import MeanShift, is_reference
from sr_lightning.nn.network import SRNetwork

__all__ = ["AWSRN"]

# Sides of AWMS's kernels.
_KERNELS = (3, 5, 7, 9)
_WIDEST = max(_KERNELS)


class NormedConvolution(nn.Conv2d):
    """Convolution with weight normalisation (Salimans and Kingma 2016): gain * v / |v|.

    Args:
        inputs: Channels in.
        outputs: Number of channels of the output.
        kernel: Side of the kernel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(self._norm().detach())

    def _norm(self) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        return norm

    def kernel(self) -> Tensor:
        """The kernel, (outputs, inputs, k, k)."""
        return self.weight * (self.gain / self._norm())

    def forward(self, x: Tensor, by: Tensor | None = None) -> Tensor:
        """Convolve, and multiply the result by the scalar `by`."""
        kernel, bias = self.kernel(), self.bias
        assert bias is not None
        # Scaling the kernel saves a pass over the features.
        if by is not None:
            kernel, bias = kernel * by, bias * by
        return F.conv2d(x, kernel, bias, padding=self.padding)


class AdaptiveResidualUnit(nn.Module):
    """AWRU: convolution to `wide` channels, ReLU, convolution back; both summands are weighted.

    Args:
        channels: Number of channels in and out.
        wide: Number of channels between the convolutions.
    """

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.conv1 = NormedConvolution(channels, wide)
        self.conv2 = NormedConvolution(wide, channels)
        self.residual_weight = nn.Parameter(torch.ones(()))
        self.identity_weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual: Tensor = self.conv2(self.conv1(x).relu(), self.residual_weight)
        return self.identity_weight * x + residual


class LocalFusionBlock(nn.Module):
    """LFB: units in a row, whose outputs are concatenated and fused, and a weighted skip.

    Args:
        channels: Number of channels in and out.
        wide: Number of channels inside the units.
        units: Number of them.
    """

    def __init__(self, channels: int, wide: int, units: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(AdaptiveResidualUnit(channels, wide) for _ in range(units))
        self.fusion = NormedConvolution(units * channels, channels)
        self.residual_weight = nn.Parameter(torch.ones(()))
        self.identity_weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        seen, state = [], x
        for unit in self.units:
            state = unit(state)
            seen.append(state)
        fused: Tensor = self.fusion(torch.cat(seen, dim=1), self.residual_weight)
        return self.identity_weight * x + fused


class MultiScaleReconstruction(nn.Module):
    """AWMS: the weighted sum of a 3x3, a 5x5, a 7x7 and a 9x9 convolution.

    Which is one 9x9 convolution by the weighted sum of the kernels, with half of the MACs.

    Args:
        channels: Number of channels of the features.
        outputs: Channels of the shuffled image.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(NormedConvolution(channels, outputs, k) for k in _KERNELS)
        self.weights = nn.Parameter(torch.full((len(_KERNELS),), 1 / len(_KERNELS)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H, W)."""
        if is_reference(x):
            pairs = zip(self.branches, self.weights, strict=True)
            return torch.stack([weight * branch(x) for branch, weight in pairs]).sum(dim=0)
        kernels, biases = [], []
        for side, branch in zip(_KERNELS, self.branches, strict=True):
            assert isinstance(branch, NormedConvolution)
            assert branch.bias is not None
            kernels.append(F.pad(branch.kernel(), ((_WIDEST - side) // 2,) * 4))
            biases.append(branch.bias)
        kernel = torch.einsum("k,koihw->oihw", self.weights, torch.stack(kernels))
        bias = self.weights @ torch.stack(biases)
        return F.conv2d(x, kernel, bias, padding=_WIDEST // 2)


class AWSRN(SRNetwork):
    """Adaptive weighted SR network; the defaults are AWSRN-S, 4 blocks make AWSRN.

    Args:
        scale: 2, 3, 4 or 8.
        channels: Number of channels of the features.
        wide: Number of channels inside the residual units.
        blocks: Number of local fusion blocks.
        units: Number of units of a block.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 32,
        wide: int = 128,
        blocks: int = 1,
        units: int = 4,
    ) -> None:
        super().__init__()
        self.scales = (scale,)
        self.reach = 1 + blocks * (2 * units + 1) + _WIDEST // 2
        self.shift = MeanShift()
        self.head = NormedConvolution(3, channels)
        self.body = nn.Sequential(*(LocalFusionBlock(channels, wide, units) for _ in range(blocks)))
        self.reconstruct = MultiScaleReconstruction(channels, 3 * scale**2)
        self.skip = NormedConvolution(3, 3 * scale**2)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, where all layers are."""
        return 2 * self.reach + 1

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        # The release works on images in [-1, 1] less the mean.
        x = 2 * self.shift(lr)
        cells = self.reconstruct(self.body(self.head(x))) + self.skip(x)
        return self.shift.back(F.pixel_shuffle(cells, self.scale) / 2)
