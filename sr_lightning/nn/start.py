"""Where networks start: every tensor by its name, those with a skip as their skip."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["draw_by_name", "he_normal", "zero"]


def draw_by_name(network: nn.Module, construct: Callable[[], None]) -> None:
    """Construct a network whose every tensor starts as a pure function of (seed, its name).

    Usually random numbers are drawn in the order of construction, so that a layer more or less
    changes the start of all that follow: two levels of an ablation then differ by their start as
    much as by what is compared. Here the network is constructed twice, once to see which tensor
    each draw belongs to, and once with a random state of its own for each. The constructor may
    initialise as it likes. The global random state is left as it was; its seed is the seed.

    Args:
        network: which `construct` fills.
        construct: runs its constructor; called twice.
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
        seed: of the run.
        names: of the tensors in the order of the draws; None is no tensor of the network.
    """

    active = False

    def __init__(self, seed: int = 0, names: Iterable[str | None] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn: list[Tensor] = []
        self._seed = seed
        self._names = None if names is None else iter(names)
        self._count: Counter[str] = Counter()

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
            torch.manual_seed(int.from_bytes(digest, "little") >> 1)
        result = func(*args, **(kwargs or {}))
        # The tensor is kept, or its storage could be given to another one.
        self.drawn.append(result)
        return result


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


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


def zero(*layers: nn.Module) -> None:
    """Set all weights and biases of layers to zero, in place: a residual that starts as none."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
