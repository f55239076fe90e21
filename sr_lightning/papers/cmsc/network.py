"""CMSC: cascaded multi-scale cross network (Hu, Gao, Li, Huang and Wang, 2018), in plain torch.

https://arxiv.org/abs/1802.08808. What is known is the figure, the abstract and the published
depth, width, size and results; every other choice is an argument marked "inferred" (see the card).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_lightning.nn.network import PreUpsamplingYNetwork
from sr_lightning.nn.start import zero

__all__ = ["CMSC"]


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class Branch(nn.Module):
    """One branch of an MSC module: 1x1 to `width` channels, k x k back, ReLU before each.

    Args:
        channels: Number of channels in and out.
        width: Number of channels between the two convolutions.
        kernel: Side k.
    """

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.narrow = _convolution(channels, width, 1)
        self.spread = _convolution(width, channels, kernel)

    def forward(self, state: Tensor) -> Tensor:
        """F(state), (N, C, H, W) to the same shape."""
        inner = F.relu(self.narrow(state.relu()), inplace=True)
        return self.spread(inner)  # type: ignore[no-any-return]


class MultiScaleCross(nn.Module):
    """MSC module: two branches of different kernels, crossed by merge-and-run.

    ``a' = F_a(a) + R`` and ``b' = F_b(b) + R`` with the merge ``R = share * (a + b)``
    (merge-and-run mappings, https://arxiv.org/abs/1611.07718).

    Args:
        channels: Number of channels of both states.
        width: Number of channels inside the branches.
        kernels: Kernel sizes of the two branches.
        share: 1/2 for the mean of the states, 1 for their sum.
        cross: Off leaves each branch its own identity, ``a' = F_a(a) + a``.
    """

    def __init__(
        self, channels: int, width: int, kernels: tuple[int, int], share: float, cross: bool
    ) -> None:
        super().__init__()
        self.first, self.second = (Branch(channels, width, kernel) for kernel in kernels)
        self.share = share
        self.cross = cross

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Next states of both branches, (N, C, H, W) each."""
        if not self.cross:
            return a + self.first(a), b + self.second(b)
        both = a + b
        return (
            torch.add(self.first(a), both, alpha=self.share),
            torch.add(self.second(b), both, alpha=self.share),
        )

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """F_a(a) + F_b(b) + R, with which the last module of a stage ends."""
        return torch.add(self.first(a) + self.second(b), a + b, alpha=self.share)


class Stage(nn.Module):
    """One subnetwork of the cascade: a convolution, MSC modules and the identity around them.

    Args:
        channels: Number of channels in and out.
        crosses: Its MSC modules, at least one.
        residual: Residual-features learning, the identity from the stage's input to its output.
    """

    def __init__(self, channels: int, crosses: list[MultiScaleCross], residual: bool) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.crosses = nn.ModuleList(crosses)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        a = b = self.first(x.relu())
        *others, last = self.crosses
        for cross in others:
            a, b = cross(a, b)
        change: Tensor = last.join(a, b)  # type: ignore[operator]
        return x + change if self.residual else change


class CMSC(PreUpsamplingYNetwork):
    """Cascaded multi-scale cross network: coarse to fine, on interpolated luminance.

    Features of the interpolated image pass a cascade of stages; every stage gives a prediction of
    its own, ``y_s = x + reconstruct(f_s)``, and the assembled one is ``sum_s w_s y_s``. The
    defaults have 35 layers on the longest path, 64 channels and 1.22 million parameters, as
    published.

    Args:
        scale: 2, 3 or 4, or several for one model of all of them.
        stages: Number of stages of the cascade. inferred: 3, from the depth, 35 = 1 + S (1 + 2 M) +
            1.
        modules: MSC modules of a stage. inferred: 5, from the same.
        channels: Number of channels of the features.
        width: Number of channels inside the branches. inferred: 32, with which the parameters come
            to 1.22 million.
        kernels: Kernel sizes of the two branches; equal ones are the single-scale ablation.
            inferred: 3 and 5.
        merge: R is the "mean" of both branches, as in the merge-and-run paper, or the "sum" that
            the figure's plus sign may mean. inferred: "mean".
        cross: Merge-and-run; off is the ablation with plain residual branches. inferred: they
            still join at the end of a stage, or there would be no one output.
        residual: Residual-features learning; off is its ablation.
        reconstruction: Every stage has its "own" convolution to the image, or all one "shared".
            inferred: "own", after the figure's colours.
        assembly: Assembly of the predictions: "learned" scalar weights, "uniform" ones, or the
            "last" prediction alone. inferred: "learned" from 1 / stages on, after "weighted
            average".
        start: Start of the last layers: zero, so that the untrained network gives its "skip", the
            bicubic image; or "random", PyTorch's start. inferred: ours, "skip".

    Attributes:
        outputs: Names of the supervised predictions, in order.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        scale: int | list[int] = 4,
        stages: int = 3,
        modules: int = 5,
        channels: int = 64,
        width: int = 32,
        kernels: tuple[int, int] = (3, 5),
        merge: Literal["mean", "sum"] = "mean",
        cross: bool = True,
        residual: bool = True,
        reconstruction: Literal["own", "shared"] = "own",
        assembly: Literal["learned", "uniform", "last"] = "learned",
        start: Literal["skip", "random"] = "skip",
    ) -> None:
        super().__init__([scale] if isinstance(scale, int) else scale)
        if stages < 1 or modules < 1:
            raise ValueError(f"CMSC needs a stage and a module, not {stages} and {modules}.")
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"CMSC's kernels must be odd, not {tuple(kernels)}.")
        self.outputs = tuple(f"stage_{number}" for number in range(1, stages + 1))
        if assembly != "last":
            self.outputs += ("assembled",)
        self.extract = _convolution(1, channels)
        share = 0.5 if merge == "mean" else 1.0
        self.stages = nn.ModuleList(
            Stage(
                channels,
                [MultiScaleCross(channels, width, kernels, share, cross) for _ in range(modules)],
                residual,
            )
            for _ in range(stages)
        )
        self.reconstruct = nn.ModuleList(
            _convolution(channels, 1) for _ in range(stages if reconstruction == "own" else 1)
        )
        if start == "skip":
            zero(*self.reconstruct)
        uniform = torch.full((stages,), 1 / stages)
        if assembly == "learned":
            self.weights: Tensor = nn.Parameter(uniform)
        else:
            self.register_buffer("weights", uniform, persistent=False)

    @property
    def receptive_field(self) -> int:
        """Side in LR pixels, of the scale that needs most."""
        kernel = max(self.config["kernels"])
        per_stage = 1 + self.config["modules"] * (kernel // 2)
        reach = 1 + self.config["stages"] * per_stage + 1
        return 2 * max(_reach_at_lr(int(scale), reach) for scale in self.scales) + 1

    def refine(self, y: Tensor) -> list[Tensor]:
        """Predictions of every stage, then the assembled one; see `outputs`."""
        state = self.extract(y)
        predictions = []
        for index, stage in enumerate(self.stages):
            state = stage(state)
            reconstruct = self.reconstruct[index % len(self.reconstruct)]
            predictions.append(y + reconstruct(state.relu()))
        if "assembled" in self.outputs:
            weighted = self.weights[:, None, None, None, None] * torch.stack(predictions)
            predictions.append(weighted.sum(dim=0))
        return predictions


def _reach_at_lr(scale: int, finer: int) -> int:
    """LR pixels to each side that an LR pixel's cell sees by `finer` HR pixels and bicubic."""
    reach = 0
    for pixel in range(-finer, scale + finer):
        centre = (pixel + 0.5) / scale - 0.5
        # An HR pixel in the middle of an LR pixel is that pixel; others see two to each side.
        low, high = math.ceil(centre), math.floor(centre)
        if low != high:
            low, high = low - 2, high + 2
        reach = max(reach, -low, high)
    return reach
