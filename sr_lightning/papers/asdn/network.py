"""ASDN and FSDN: bi-dense networks for any and for one scale (Shen, Wang and Zhang, 2020).

https://arxiv.org/abs/2010.02414, known from slides by A. Dicosola and the code of his student
project's counts. The authors' code is not public; choices marked "inferred" are in the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sr_lightning.nn.bicubic import bicubic
from sr_lightning.nn.layers import ChannelAttention
from sr_lightning.nn.network import SRNetwork
from sr_lightning.nn.receptive_field import (
    side_of,
    through_bicubic,
    through_convolution,
    through_deconvolution,
)
from sr_lightning.nn.start import zero
from sr_lightning.papers.asdn.lfr import (
    LaplacianNetwork,
    Normalise,
    ReconstructionBranch,
    SplitConv,
)

__all__ = ["ASDN", "FSDN", "FeatureMapping"]

Pool = Literal["mean", "max", "none"]

# Kernel, stride and padding of each deconvolution, after the code of DBDN.
_DECONVOLUTIONS = {2: [(6, 2, 2)], 3: [(9, 3, 3)], 4: [(6, 2, 2)] * 2, 8: [(6, 2, 2)] * 3}


class DenseAttentionBlock(nn.Module):
    """DAB: an intra-dense block (IDB), then channel attention.

    The IDB compresses what it is given to C channels, x; runs densely connected 3x3 convolutions
    on x; compresses x and all of their outputs to C channels again; and adds x.

    Args:
        widths: Channels of the feature maps that it is given.
        channels: C.
        growth: Growth rate of each convolution.
        layers: Densely connected convolutions.
        pool: Pool of the channel attention; "none" leaves it out.
        reduction: Factor by which the channel attention reduces the channels.
        compression: Kernel of the input compression; that of 3 has a ReLU, as in DBDN.
    """

    def __init__(
        self,
        widths: Sequence[int],
        channels: int,
        growth: int,
        layers: int,
        pool: Pool,
        reduction: int,
        compression: int,
    ) -> None:
        super().__init__()
        inner = [channels] + [growth] * layers
        self.compress = SplitConv(widths, channels, compression)
        self.rectify = compression > 1
        self.layers = nn.ModuleList(
            SplitConv(inner[: layer + 1], growth, 3) for layer in range(layers)
        )
        self.fuse = SplitConv(inner, channels, 1)
        self.attention = (
            nn.Identity() if pool == "none" else ChannelAttention(channels, reduction, pool)
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """All feature maps so far (N, C_i, H, W) to the next, (N, C, H, W)."""
        x = self.compress(maps)
        parts = [x.relu_() if self.rectify else x]
        for layer in self.layers:
            parts.append(layer(parts).relu_())
        fused: Tensor = self.attention(parts[0] + self.fuse(parts))
        return fused


class FeatureMapping(nn.Module):
    """FMB: a convolution, then DABs that are each given all feature maps before them.

    Args:
        blocks: DABs.
        layers: Number of convolutions in the IDB of each.
        channels: Number of channels that each adds.
        growth: Growth rate of the convolutions in the IDBs.
        stem: Channels of the first convolution.
        pool: See :class:`DenseAttentionBlock`, as for the rest.
        reduction: Factor by which the channel attention reduces the channels.
        compression: Kernel of the input compressions.
        checkpointing: Compute feature maps again in the backward pass instead of keeping them.

    Attributes:
        widths: Channels of each feature map that it gives.
    """

    def __init__(
        self,
        blocks: int,
        layers: int,
        channels: int,
        growth: int,
        stem: int,
        pool: Pool,
        reduction: int,
        compression: int,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.widths = [stem] + [channels] * blocks
        self.checkpointing = checkpointing
        self.head = nn.Conv2d(3, stem, 3, padding=1)
        self.blocks = nn.ModuleList(
            DenseAttentionBlock(
                self.widths[: block + 1], channels, growth, layers, pool, reduction, compression
            )
            for block in range(blocks)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to the feature maps H_0 to H_B, (N, C_i, H, W) each."""
        maps = [self.head(image)]
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                maps.append(checkpoint(block, *maps, use_reentrant=False))
            else:
                maps.append(block(*maps))
        return maps


class ASDN(LaplacianNetwork):
    """Arbitrary-scale deep network: bi-dense features of the upscaled image and the LFR head.

    The defaults are the paper's size as the student project counts it, 22.4 million parameters.

    Args:
        blocks: DABs.
        layers: 3x3 convolutions in each.
        channels: Number of channels of a DAB. For this and `layers`: "16 DABs, 8 convolutions, 64
            filters".
        growth: Growth rate of the convolutions. inferred: 64, the same.
        stem: Channels of the first convolution. inferred: 64, as the published counts show.
        channel_attention: Pooling of CA, or "none" as in its ablation. inferred: "mean", as in RCAN
            which the paper cites; the student project takes the "max".
        reduction: Reduction of CA. inferred: 16, as in RCAN and by the published counts.
        compression: Kernel of a DAB's first convolution. inferred: 1, which the published count of
            22,405,168 parameters shows; 3 (with ReLU) is DBDN's, and with `layers` of 6 nearer
            (17.9 million) to the paper's own plot (about 19).
        levels: See :class:`~sr_lightning.papers.asdn.lfr.LaplacianNetwork`, as for the rest.
        factors: Factors of every recursion.
        shared_pass: One run of the trunk for both levels.
        spatial_attention: Spatial attention in the branches.
        skip: The global one.
        expansion: Expansion of the spatial attention.
        normalise: Colours.
        checkpointing: Compute feature maps again in the backward pass instead of keeping them.
        start: As the "skip" or "random".
    """

    def __init__(
        self,
        blocks: int = 16,
        layers: int = 8,
        channels: int = 64,
        growth: int = 64,
        stem: int = 64,
        channel_attention: Pool = "mean",
        reduction: int = 16,
        compression: int = 1,
        levels: int | list[float] = 11,
        factors: list[float] | None = None,
        shared_pass: bool = False,
        spatial_attention: bool = True,
        skip: bool = True,
        expansion: int = 2,
        normalise: Literal["mean", "mean_std"] = "mean",
        checkpointing: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        trunk = FeatureMapping(
            blocks,
            layers,
            channels,
            growth,
            stem,
            channel_attention,
            reduction,
            compression,
            checkpointing,
        )
        super().__init__(
            trunk,
            trunk.widths,
            levels,
            factors,
            shared_pass,
            spatial_attention,
            skip,
            expansion,
            normalise,
            start,
        )


class FSDN(SRNetwork):
    """Fixed-scale deep network: ASDN's trunk at LR size, and deconvolutions before one branch.

    Its trunk has the names of ASDN's, from whose weights it is fine-tuned (``init_from``).

    Args:
        scale: 2, 3, 4 or 8.
        blocks: See :class:`ASDN`, as for all but `width`.
        layers: Number of convolutions of a DAB.
        channels: Number of channels of a DAB.
        growth: Growth rate of the convolutions.
        stem: Channels of the first convolution.
        width: Number of channels that are upscaled, after a 1x1 convolution of all feature maps.
            inferred: that there is one, of 64 channels, as in DBDN; its deconvolutions are 64 wide
                too.
        channel_attention: Pooling of CA.
        reduction: Reduction of CA.
        compression: Kernel of a DAB's first convolution.
        spatial_attention: Spatial attention in the branch.
        skip: Add the bicubic upscaling. inferred: of the LR image.
        expansion: Expansion of the spatial attention.
        normalise: Colours.
        checkpointing: Checkpointing of the trunk.
        start: The branch is zero, so that the untrained network gives its "skip"; or "random",
            PyTorch's start. inferred: ours, "skip".

    Raises:
        ValueError: the scale is none of these.
    """

    def __init__(
        self,
        scale: int = 4,
        blocks: int = 16,
        layers: int = 8,
        channels: int = 64,
        growth: int = 64,
        stem: int = 64,
        width: int = 64,
        channel_attention: Pool = "mean",
        reduction: int = 16,
        compression: int = 1,
        spatial_attention: bool = True,
        skip: bool = True,
        expansion: int = 2,
        normalise: Literal["mean", "mean_std"] = "mean",
        checkpointing: bool = False,
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__()
        if scale not in _DECONVOLUTIONS:
            raise ValueError(f"FSDN upscales by 2, 3, 4 or 8, not {scale}.")
        self.scales = (scale,)
        self.skip = skip
        self.normalise = Normalise(normalise)
        self.trunk = FeatureMapping(
            blocks,
            layers,
            channels,
            growth,
            stem,
            channel_attention,
            reduction,
            compression,
            checkpointing,
        )
        self.transition = SplitConv(self.trunk.widths, width, 1)
        self.deconvolution = nn.Sequential(
            *(nn.ConvTranspose2d(width, width, *geometry) for geometry in _DECONVOLUTIONS[scale])
        )
        self.branch = ReconstructionBranch([width], spatial_attention, expansion)
        if start == "skip" and skip:
            zero(self.branch.reconstruct)

    @property
    def receptive_field(self) -> int | None:
        """Side in LR pixels; None with channel attention, which pools the whole image."""
        if self.config["channel_attention"] != "none":
            return None
        span = (0, self.scale - 1)
        for kernel, factor, padding in reversed(_DECONVOLUTIONS[self.scale]):
            span = through_deconvolution(span, kernel, factor, padding)
        per_block = self.config["layers"] + self.config["compression"] // 2
        span = through_convolution(span, 1 + self.config["blocks"] * per_block)
        return max(side_of(span), side_of(through_bicubic((0, self.scale - 1), self.scale)))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale RGB images; see :meth:`SRNetwork.forward`."""
        parts = self.trunk(self.normalise(lr))
        larger = self.deconvolution(self.transition(parts))
        base = bicubic(lr, self.scale) if self.skip else self.normalise.mean
        return self.normalise.onto(base, self.branch([larger]))
