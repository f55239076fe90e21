"""Community models: whatever ``spandrel`` (an extra) recognises, as networks of the suite.

Only its recognition and its networks are used. Files are read by this suite, as plain data, so that
a stranger's file cannot run code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.formats import ExternalWeights

__all__ = ["CommunityNetwork", "community_network"]


class CommunityNetwork(SRNetwork):
    """A model of spandrel; its images are padded as it needs, and its results lie in [0, 1].

    How far it sees is not known: in tiles its result is an approximation.

    Args:
        scale: Scale that it upscales by.
        channels: 3, or 1 for models of grey images, which upscale each colour by itself.
    """

    descriptor: Any

    def __init__(self, scale: int, channels: int = 3) -> None:
        super().__init__()
        self.scales = (scale,)
        self.channels = channels

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        images = lr if self.channels == 3 else lr.flatten(0, 1).unsqueeze(1)
        sr: Tensor = self.descriptor(images)
        return sr if self.channels == 3 else sr.reshape(-1, 3, *sr.shape[-2:])


def community_network(weights: ExternalWeights) -> SRNetwork:
    """The network of a file that spandrel recognises.

    Args:
        weights: Content of the file.

    Raises:
        UserError: spandrel is not there, does not know it, or knows it for something other than
            super-resolution.
    """
    some = ", ".join(f"'{name}'" for name in list(weights.tensors)[:3])
    unknown = (
        f"{weights.path} does not say which network it belongs to, and tensors such as {some} are "
        "of no release that is known"
    )
    try:
        import spandrel
    except ImportError as error:
        raise UserError(
            f"{unknown}; give the folder of its run, or name its architecture ('sr-lightning "
            "weights convert FILE --arch NAME'). Models that spandrel knows need pip install "
            f"'sr-lightning[community]' (not found: {error.name})."
        ) from error
    except Exception as error:
        # torchvision stops with whatever its libraries say when it meets another torch.
        raise UserError(
            f"{unknown}; spandrel might know it, but cannot be imported ({error}): install the "
            f"torchvision that was made for torch {torch.__version__}, from where that came."
        ) from error
    try:
        found = spandrel.ModelLoader().load_from_state_dict(
            spandrel.canonicalize_state_dict(dict(weights.tensors))
        )
    except spandrel.UnsupportedModelError as error:
        raise UserError(f"{unknown}, nor of a model that spandrel knows.") from error
    except Exception as error:
        # What is recognised by some names may have anything under others.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{weights.path} is damaged, or no whole model: {reason}.") from error
    kind = found.architecture.name
    channels = (found.input_channels, found.output_channels)
    if found.purpose not in {"SR", "FaceSR"} or channels not in {(3, 3), (1, 1)}:
        raise UserError(
            f"{weights.path} is a {kind} for {found.purpose}, {channels[0]} to {channels[1]} "
            "channels; only super-resolution of colour or grey images can be used here."
        )
    # People read the name of the class.
    network: CommunityNetwork = type(kind, (CommunityNetwork,), {})(found.scale, channels[0])
    network.model = found.model.float()
    network.descriptor = found
    return network.eval()
