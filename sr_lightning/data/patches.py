"""Training batches: whole batches of patches, assembled at once from memory maps.

Step t of a run is one batch; what is in it depends on the seed and t alone (see
:mod:`sr_lightning.data.sampling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.batch import Batch
from sr_lightning.data.degradation import whole
from sr_lightning.data.resize import Boundary, imresize, lr_size
from sr_lightning.data.sampling import SCALE, Patches, PatchSampler, draw_one
from sr_lightning.data.store import PixelStore

__all__ = ["PatchSource", "StepDataset", "dihedral", "packed_to_float"]

Packed = NDArray[np.uint32]


def dihedral(image: Packed, which: int) -> Packed:
    """One of the 8 mirrorings and rotations of a square, as a view.

    Args:
        image: (H, W).
        which: Bit 2 transposes, then bit 1 mirrors top-bottom, then bit 0 left-right.
    """
    if which & 4:
        image = image.T
    if which & 2:
        image = image[::-1]
    if which & 1:
        image = image[:, ::-1]
    return image


def packed_to_float(packed: Tensor) -> Tensor:
    """RGBX bytes (N, H, W, 4) to float32 RGB (N, 3, H, W) in [0, 1].

    The result lies in memory channels last, as convolutions on CPUs and tensor cores like it.
    """
    return packed[..., :3].permute(0, 3, 1, 2).float().div_(255)


@dataclass(frozen=True)
class PatchSource:
    """The images that patches are cut from, at one scale.

    Attributes:
        images: One entry per image: its store and its index in it.
        scale: HR pixels per LR pixel; of a real scale, LR patches are HR patches resized by
            themselves.
        low: The LR images in the same order, or None to make each LR patch from its HR patch.
        boundary: Boundary of the resize that makes LR patches.
    """

    images: Sequence[tuple[PixelStore, int]]
    scale: float
    low: Sequence[tuple[PixelStore, int]] | None
    boundary: Boundary = "replicate"

    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each LR image."""
        facts = [store.images[index] for store, index in self.images]
        return [lr_size((fact.height, fact.width), self.scale) for fact in facts]

    def cut(self, where: Patches, patch: int) -> tuple[Packed, Packed]:
        """Cut the LR and HR patches of one step.

        Returns:
            LR packed (N, patch, patch) and HR packed (N, S, S) with S = scale * patch, rounded.
        """
        n, (side, _) = len(where.image), upscaled_size((patch, patch), self.scale)
        high = np.empty((n, side, side), dtype=np.uint32)
        low = np.empty((n, patch, patch), dtype=np.uint32)
        by = whole(self.scale)
        made = self._downscaled(where, patch, by) if self.low is None and by is not None else None
        for slot in range(n):
            image, turn = int(where.image[slot]), int(where.dihedral[slot])
            row, column = int(where.row[slot]), int(where.column[slot])
            store, index = self.images[image]
            top, left = int(row * self.scale), int(column * self.scale)
            high[slot] = dihedral(store[index][top : top + side, left : left + side], turn)
            if made is not None:
                low[slot] = dihedral(made[slot], turn)
            elif self.low is not None:
                store, index = self.low[image]
                small = store[index][row : row + patch, column : column + patch]
                low[slot] = dihedral(small, turn)
        if self.low is None and by is None:
            low = _resized(high, (patch, patch), self.boundary)
        return low, high

    def texture(self, where: Patches, patch: int) -> NDArray[np.float64]:
        """Mean absolute difference of neighbouring HR pixels of each patch (green, 8 bits)."""
        side, _ = upscaled_size((patch, patch), self.scale)
        found = np.empty(len(where.image))
        for slot, image in enumerate(where.image):
            store, index = self.images[image]
            top, left = (int(x[slot] * self.scale) for x in (where.row, where.column))
            packed = store[index][top : top + side, left : left + side]
            green = ((packed >> 8) & 255).astype(np.int16)
            found[slot] = np.abs(np.diff(green, axis=0)).mean()
            found[slot] += np.abs(np.diff(green, axis=1)).mean()
        return found / 2

    def _downscaled(self, where: Patches, patch: int, scale: int) -> Packed:
        """LR patches from HR patches, equal to crops of the downscaled images byte for byte.

        The kernel of an LR pixel reaches two LR pixels to each side, so the HR patch is cut with
        that margin. Outside the image the margin repeats or mirrors it as the whole resize does.
        """
        margin = 2
        side = (patch + 2 * margin) * scale
        wide = np.empty((len(where.image), side, side), dtype=np.uint32)
        for slot, image in enumerate(where.image):
            store, index = self.images[image]
            packed = store[index]
            # A benchmark crops the HR image to a multiple of the scale before downscaling it.
            height, width = (extent // scale * scale for extent in packed.shape)
            top = (int(where.row[slot]) - margin) * scale
            left = (int(where.column[slot]) - margin) * scale
            if top >= 0 and left >= 0 and top + side <= height and left + side <= width:
                wide[slot] = packed[top : top + side, left : left + side]
            else:
                rows = _inside(np.arange(top, top + side), height, self.boundary)
                columns = _inside(np.arange(left, left + side), width, self.boundary)
                wide[slot] = packed[np.ix_(rows, columns)]
        small = imresize(_planes(wide), 1 / scale)
        return _packed(small[..., margin:-margin, margin:-margin])


def _planes(packed: Packed) -> Tensor:
    """(N, H, W) packed to (N, 4, H, W) bytes."""
    return _as_bytes(packed).permute(0, 3, 1, 2)


def _packed(planes: Tensor) -> Packed:
    """(N, 4, H, W) bytes to (N, H, W) packed."""
    return planes.permute(0, 2, 3, 1).contiguous().numpy().view(np.uint32)[..., 0]


def _resized(packed: Packed, size: tuple[int, int], boundary: Boundary) -> Packed:
    return _packed(imresize(_planes(packed), size=size, boundary=boundary))


def _inside(index: NDArray[np.int64], extent: int, boundary: Boundary) -> NDArray[np.int64]:
    if boundary == "replicate":
        return index.clip(0, extent - 1)
    folded = index % (2 * extent)
    return np.where(folded < extent, folded, 2 * extent - 1 - folded)


class StepDataset(IterableDataset[Batch]):
    """Yields the batches of steps `start`, `start` + 1, ... up to `stop`.

    `lr` and `hr` of a batch are RGBX bytes (N, H, W, 4); the data module makes floats of them on
    the device.

    Args:
        sources: One per scale; a step draws one of them.
        patch: Side of LR patches.
        batch: Patches of a step over all ranks.
        seed: Seed of the run.
        weighting: See :class:`~sr_lightning.data.sampling.PatchSampler`.
        augment: The same.
        candidates: Patches that are drawn for each place; the one with the most texture is taken.
        start: First step.
        stop: Step before which to end.
        rank: Rank of this process; it takes its part of each batch.
        world: Number of processes.
    """

    def __init__(
        self,
        sources: Sequence[PatchSource],
        *,
        patch: int,
        batch: int,
        seed: int,
        weighting: str = "image",
        augment: bool = True,
        candidates: int = 1,
        start: int = 0,
        stop: int = 1_000_000_000,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._sources = list(sources)
        self._samplers = [
            PatchSampler(source.sizes(), patch, seed, weighting, augment)  # type: ignore[arg-type]
            for source in sources
        ]
        self._patch, self._seed = patch, seed
        self._candidates = candidates
        self._start, self._stop = start, stop
        share = batch // world
        self._slots = np.arange(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        # Steps of the whole run: a resumed trainer counts the ones before `start` as fetched.
        return self._stop

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self._start + first, self._stop, stride):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """The batch of one step: this rank's part of it."""
        which = int(draw_one(self._seed, SCALE, step) * len(self._sources))
        source = self._sources[which]
        where = self._where(which, step)
        low, high = source.cut(where, self._patch)
        return {
            "lr": _as_bytes(low),
            "hr": _as_bytes(high),
            "scale": source.scale,
            "name": [
                store.images[index].name
                for store, index in (source.images[image] for image in where.image)
            ],
        }

    def _where(self, which: int, step: int) -> Patches:
        source, sampler = self._sources[which], self._samplers[which]
        if self._candidates == 1:
            return sampler(step, self._slots)
        offers = [sampler(step, self._slots, n) for n in range(self._candidates)]
        best = np.argmax([source.texture(offer, self._patch) for offer in offers], axis=0)
        return Patches(
            *(
                np.choose(best, [getattr(offer, field.name) for offer in offers])
                for field in fields(Patches)
            )
        )


def _as_bytes(packed: Packed) -> Tensor:
    return torch.from_numpy(packed.view(np.uint8).reshape(*packed.shape, 4))
