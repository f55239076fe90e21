"""How much memory there is, and how much a network needs for each pixel of an image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sr_lightning.inference.engines import EngineNetwork
from sr_lightning.inference.upscaler import Upscaler

__all__ = ["bytes_per_pixel", "fit_memory", "free_memory", "tile_for"]

# Of tiles of photographs: with torch, 12 megapixels and a strip of their result less than 1 GB.
_MOST = 340 * 2**20
# Of a photograph that is not cut although others are.
_WHOLE = 2**30
_PROBE = 32
_SMALLEST = 32
# A strip of results is as high as a tile and as wide as the image.
_LARGEST = 256


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated, on the CPU within the limits of a container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([int(psutil.virtual_memory().available), *_left_to_groups()])


def _left_to_groups() -> Iterator[int]:
    """What each control group of this process (versions 1 and 2) has left."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in {"", "memory"}:
            continue
        root = Path("/sys/fs/cgroup") / kinds
        limit, used, cache = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if kinds
            else ("memory.max", "memory.current", "inactive_file")
        )
        # In a container its own group is the root.
        for folder in {root, root / path.lstrip("/")}:
            with contextlib.suppress(OSError, ValueError, KeyError):
                stat = dict(
                    row.split() for row in (folder / "memory.stat").read_text().splitlines()
                )
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                yield left + int(stat[cache])


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of all tensors that are alive, and keeps the largest sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise the first operation imports PyTorch's compiler: seconds and 70 MB, to skip it.
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                alive = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._alive[storage._cdata] = alive, storage.nbytes()
        self._alive = {
            key: (storage, size)
            for key, (storage, size) in self._alive.items()
            if not storage.expired()  # type: ignore[no-untyped-call]
        }
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return out


def bytes_per_pixel(upscale: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """Bytes that upscaling takes for each LR pixel, as a small image shows.

    Args:
        upscale: (1, 3, H, W) to its upscaled image.
        like: Tensor of the device and type of images.
    """
    with torch.inference_mode(), _Peak() as peak:
        upscale(like.new_zeros(1, 3, _PROBE, _PROBE))
    return float(peak.peak) / _PROBE**2


def tile_for(
    bytes_a_pixel: float, device: torch.device, margin: int, most: int | None = None
) -> int:
    """Side of tiles that upscaling has the memory for.

    Args:
        bytes_a_pixel: See :func:`bytes_per_pixel`.
        device: Where the images are upscaled.
        margin: LR pixels around each tile.
        most: Bytes that tiles may take where more is free; default: what suits strips.
    """
    budget = min(most or _MOST, free_memory(device) // 2)
    side = int((budget / bytes_a_pixel) ** 0.5) - 2 * margin
    if most is None:
        side = min(side, _LARGEST)
    return max(_SMALLEST, side // 16 * 16)


def fit_memory(upscaler: Upscaler, scale: float, most: int | None = None) -> None:
    """Choose tiles that the free memory is enough for.

    Args:
        upscaler: Gets them; its network as it is going to run.
        scale: That its network can do.
        most: Bytes that tiles may take; default: what keeps photographs of 12 megapixels under
            1 GB.
    """
    network, factor = upscaler.network, 1.0
    if isinstance(network, EngineNetwork):
        # What an engine takes is not seen by the dispatcher.
        factor = network.memory
        network = network.network
    plain = Upscaler(network, ensemble=upscaler.ensemble)
    like = torch.empty(0, device=upscaler.device, dtype=network.dtype)
    taken = factor * bytes_per_pixel(lambda lr: plain.levels(lr, scale, torch.uint8), like)
    upscaler.tile = tile_for(taken, upscaler.device, upscaler.margin, most)
    if most is None and not upscaler.exact:
        # Tiles change the results of these: photographs that are small enough are not cut.
        upscaler.whole = tile_for(taken, upscaler.device, 0, _WHOLE)
