"""Parameters and multiply-accumulates (MACs) of a network, in named conventions.

Papers count differently, and tables mix the counts: HR size 1280 x 720 or another; a
deconvolution's MACs per input pixel (true) or per output pixel (thop and others), with or without
bias additions. The convention is part of every number given here.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sr_lightning.cubic import upscaled_size
from sr_lightning.nn.bicubic import uncounted_bicubic
from sr_lightning.nn.network import SRNetwork

__all__ = [
    "HR_720P",
    "HR_HFDN",
    "Complexity",
    "Footprint",
    "complexity",
    "footprint",
    "parameter_count",
]

HR_720P = (720, 1280)
"""HR image (H, W) of most tables since CARN."""
HR_HFDN = (720, 1080)
"""HR image of the HFDN paper's own rows and of TSCN's, as their numbers show."""


@dataclass(frozen=True)
class Complexity:
    """Cost of one forward pass.

    Attributes:
        parameters: Trainable parameters.
        hr_size: (H, W) of the output; the input is that over the scale, rounded.
        macs: Multiply-accumulates of convolutions and matrix products, without biases and without
            bicubic interpolation.
        macs_out: The same with every deconvolution counted once per output pixel, as thop does.
        macs_out_bias: `macs_out` and one for every bias addition.
    """

    parameters: int
    hr_size: tuple[int, int]
    macs: int
    macs_out: int
    macs_out_bias: int

    def __str__(self) -> str:
        height, width = self.hr_size
        return (
            f"{self.parameters:,} parameters, {self.macs / 1e9:.2f} GMACs "
            f"for a {width} x {height} output"
        )


def parameter_count(network: nn.Module, *, trainable: bool = True) -> int:
    """Number of parameters; frozen ones (mean shifts) are left out unless asked for."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)


def complexity(
    network: SRNetwork, hr_size: tuple[int, int] = HR_720P, scale: float | None = None
) -> Complexity:
    """Count a network's cost, without computing anything if it can do without (meta device).

    Args:
        network: Left as it is.
        hr_size: (H, W) of the output.
        scale: Scale of the input, for networks of several scales; default the network's own.
    """
    scale = scale or network.scale
    height, width = upscaled_size(hr_size, 1 / scale)
    try:
        twin = _on_meta(network)
        macs, extra = _count(twin, torch.empty(1, 3, height, width, device="meta"), scale)
    except (RuntimeError, NotImplementedError):
        # Some networks look at numbers, which are not there on the meta device.
        like = next(network.parameters())
        twin = copy.deepcopy(network).eval()
        macs, extra = _count(twin, torch.zeros(1, 3, height, width, device=like.device), scale)
    return Complexity(
        parameters=parameter_count(network),
        hr_size=hr_size,
        macs=macs,
        macs_out=macs + extra["out"],
        macs_out_bias=macs + extra["out"] + extra["bias"],
    )


def _on_meta(network: SRNetwork) -> SRNetwork:
    with torch.device("meta"):
        twin = type(network)(**network.config)
    return twin.eval()


def _count(twin: SRNetwork, lr: Tensor, scale: float) -> tuple[int, dict[str, int]]:
    extra = {"out": 0, "bias": 0}
    counter = FlopCounterMode(display=False)
    with _counting(twin, extra), counter, uncounted_bicubic(), torch.no_grad():
        twin.upscale(lr, scale)
    return counter.get_total_flops() // 2, extra


@contextmanager
def _counting(network: nn.Module, extra: dict[str, int]) -> Iterator[None]:
    """Add up, while the network runs, what separates the conventions from the counted MACs."""

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        pixels = output.shape[0] * output.shape[2] * output.shape[3]
        if isinstance(module, nn.ConvTranspose2d):
            given = inputs[0].shape[0] * inputs[0].shape[2] * inputs[0].shape[3]
            extra["out"] += module.weight.numel() * (pixels - given)
        if module.bias is not None:
            extra["bias"] += module.bias.numel() * pixels

    handles = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Footprint:
    """What one forward pass keeps, as the NTIRE challenges on efficient super-resolution count it.

    Attributes:
        activations: Elements of the outputs of all convolutions and deconvolutions.
        memory: Most bytes of tensors that are there at a time in float32, weights and input
            included; without the workspace of the machine's kernels.
    """

    activations: int
    memory: int


def footprint(network: SRNetwork, lr_size: tuple[int, int], scale: float) -> Footprint:
    """Count what a network keeps, without computing anything if it can do without (meta device).

    Args:
        network: Left as it is.
        lr_size: (H, W) of the input.
        scale: Scale that it is upscaled by.
    """
    try:
        return _footprint(_on_meta(network), lr_size, scale, torch.device("meta"))
    except (RuntimeError, NotImplementedError):
        # As in `complexity`.
        device = next(network.parameters()).device
        return _footprint(copy.deepcopy(network).eval(), lr_size, scale, device)


def _footprint(
    twin: SRNetwork, lr_size: tuple[int, int], scale: float, device: torch.device
) -> Footprint:
    activations = 0

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    for module in twin.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(note)
    lr = torch.zeros(1, 3, *lr_size, device=device)
    with _LivingTensors((*twin.parameters(), *twin.buffers(), lr)) as living, torch.no_grad():
        twin.upscale(lr, scale)
    return Footprint(activations, living.peak)


class _LivingTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of the tensors that are there, and keeps the most of it."""

    def __init__(self, there: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        for tensor in there:
            self._add(tensor)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return output

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.bytes -= size
