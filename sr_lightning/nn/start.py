"""Where networks start: every tensor by its name, those with a skip as their skip."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sr_lightning.nn.layers import ConvShuffle

__all__ = [
    "bilinear",
    "carry_image",
    "draw_by_name",
    "he_normal",
    "passage",
    "zero",
]


def draw_by_name(network: nn.Module, construct: Callable[[], None]) -> None:
    """Construct a network whose every tensor starts as a pure function of (seed, its name).

    Usually random numbers are drawn in the order of construction, so that a layer more or less
    changes the start of all that follow: two levels of an ablation then differ by their start as
    much as by what is compared. Here the network is constructed twice, once to see which tensor
    each draw belongs to, and once with a random state of its own for each. The constructor may
    initialise as it likes. The global random state is left as it was; its seed is the seed.

    Args:
        network: Network which `construct` fills.
        construct: Runs its constructor; called twice.
    """
    if _DrawnTensors.active:
        # The network is part of another, which names its tensors.
        construct()
        return
    devices = range(torch.cuda.device_count())
    seed = torch.initial_seed()
    with torch.random.fork_rng(devices):
        with _DrawnTensors() as first:
            construct()
        if all(drawn.is_meta for drawn in first.drawn):
            return
        names = {_storage(t): name for name, t in network.state_dict(keep_vars=True).items()}
        owners = [names.get(_storage(drawn)) for drawn in first.drawn]
        with _DrawnTensors(seed, owners):
            construct()


class _DrawnTensors(TorchDispatchMode):
    """Notes which tensors are filled with random numbers; given their names, seeds each by its own.

    Draws are followed into parameters, and into tensors that come to be by one (``torch.randn``).
    Draws into others, as rejection sampling makes them, continue the random numbers of the tensor
    before: how many there are depends on the numbers.

    Args:
        seed: Seed of the run.
        names: Names of the tensors in the order of the draws; None is no tensor of the network.
    """

    active = False

    def __init__(self, seed: int = 0, names: Iterable[str | None] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn: list[Tensor] = []
        self._seed = seed
        self._names = None if names is None else iter(names)
        self._count: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise the first operation imports PyTorch's compiler: seconds and 70 MB, to skip it.
        return False

    def __enter__(self) -> _DrawnTensors:
        _DrawnTensors.active = True
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        _DrawnTensors.active = False
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        draws = torch.Tag.nondeterministic_seeded in func.tags
        into = next((arg for arg in args if isinstance(arg, Tensor)), None)
        if not draws or (into is not None and not isinstance(into, nn.Parameter)):
            return func(*args, **(kwargs or {}))
        name = next(self._names) if self._names is not None else None
        if name is not None:
            self._count[name] += 1
            text = f"{self._seed} {name} {self._count[name]}"
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            _seed(_device(into, kwargs), int.from_bytes(digest, "little") >> 1)
        result = func(*args, **(kwargs or {}))
        # The tensor is kept, or its storage could be given to another one.
        self.drawn.append(result)
        return result


def _device(into: Tensor | None, kwargs: dict[str, Any] | None) -> torch.device:
    """Where numbers are drawn: into a tensor that is there, or into one that comes to be."""
    return into.device if into is not None else torch.device((kwargs or {}).get("device") or "cpu")


def _seed(device: torch.device, seed: int) -> None:
    # torch.manual_seed seeds every kind of accelerator, and notes the stack for each that is not
    # started yet: on a CPU more work than the draw itself.
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def he_normal(network: nn.Module, slope: float = 0.0) -> None:
    """Initialise convolutions as He et al. (ICCV 2015) do, and biases with 0, in place.

    Args:
        network: All of whose convolutions and transposed convolutions are initialised.
        slope: Slope of the leaky ReLU for negative values.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, a=slope, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def passage(like: Tensor) -> Tensor:
    """Weights that hand the first channels on as they are.

    Args:
        like: Weights of a convolution, (out, in, k, k); the first `out` channels are handed on.
    """
    return nn.init.dirac_(torch.empty_like(like))


def bilinear(like: Tensor, factor: int) -> Tensor:
    """Weights before a pixel shuffle that interpolate the first channels bilinearly.

    Args:
        like: Weights of a convolution, (C * factor * factor, in, 3, 3).
        factor: By which the shuffle upscales the C channels.
    """
    # Where the output pixels of one LR pixel lie from its centre, in LR pixels.
    offset = (torch.arange(factor) + 0.5) / factor - 0.5
    taps = (1 - (offset[:, None] - torch.tensor([-1, 0, 1])).abs()).clamp(min=0)
    kernels = (taps[:, None, :, None] * taps[None, :, None, :]).flatten(0, 1)
    weight = torch.zeros_like(like).reshape(-1, factor**2, *like.shape[1:])
    for channel in range(len(weight)):
        weight[channel, :, channel] = kernels
    return weight.flatten(0, 1)


@torch.no_grad()
def carry_image(
    head: nn.Module, residuals: Sequence[nn.Module], upsample: nn.Module, tail: nn.Module | None
) -> None:
    """Let a network without a skip from its input start as bilinear interpolation, in place.

    The first three channels carry the image past the trunk; the others start as they were drawn,
    and the last layer learns to read them. The trunk's residuals start without those channels.

    Args:
        head: Convolution from the image to features, 3x3.
        residuals: Last convolution of each sum that the features pass after the head.
        upsample: Sub-pixel convolutions without activations.
        tail: Convolution from features to the image, 3x3; None where the shuffle gives the image.
    """
    image = _weight(head)[:3]
    image.copy_(passage(image))
    kept = [head, *residuals]
    for residual in residuals:
        _weight(residual)[:3] = 0
    for step in upsample.modules():
        if isinstance(step, ConvShuffle):
            rows = 3 * step.factor**2
            step.weight[:rows] = bilinear(step.weight[:rows], step.factor)
            step.get_parameter("bias")[:rows] = 0
    if tail is not None:
        _weight(tail).copy_(passage(_weight(tail)))
        kept.append(tail)
    for layer in kept:
        layer.get_parameter("bias")[:3] = 0


def _weight(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight")


def zero(*layers: nn.Module) -> None:
    """Set all weights and biases of layers to zero, in place: a residual that starts as none."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
