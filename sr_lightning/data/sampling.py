"""Which patches a training step sees: a pure function of (seed, step, slot).

No generator is advanced, so the patches are the same with 0 or 8 workers, on 1 or 4 ranks, and
after a run was stopped and resumed. Each number is drawn by hashing its own coordinates
(a counter-based generator: the SplitMix64 finaliser, applied per coordinate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sr_lightning.errors import UserError

__all__ = ["PatchSampler", "Patches", "Weighting", "draw", "draw_one"]

Weighting = Literal["image", "pixel"]

# One stream per kind of number, so that no two kinds are correlated.
IMAGE, ROW, COLUMN, DIHEDRAL, SCALE, LEVEL = range(6)

_U64 = np.uint64


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


def draw(seed: int, stream: int, step: int, slots: NDArray[np.int64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per slot.

    Args:
        seed: Seed of the run.
        stream: Kind of number, such as `ROW`.
        step: Training step, counted in batches from 0.
        slots: Places in the whole batch over all devices.
    """
    golden = _U64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        state = np.zeros(len(slots), dtype=_U64)
        for coordinate in (seed, stream, step, slots):
            # The odd factor keeps (seed 7, stream 2) apart from (seed 8, stream 1).
            state = state * _U64(0xD1342543DE82EF95) + golden
            state = _mix(state + np.asarray(coordinate, dtype=np.int64).astype(_U64))
    return (state >> _U64(11)).astype(np.float64) * 2.0**-53


def draw_one(seed: int, stream: int, step: int) -> float:
    """One number in [0, 1) for the whole step."""
    return float(draw(seed, stream, step, np.zeros(1, dtype=np.int64))[0])


@dataclass(frozen=True)
class Patches:
    """Where the patches of one step lie, in LR pixels.

    Attributes:
        image: Index of the image.
        row: Row of the first pixel.
        column: Column of the first pixel.
        dihedral: Bit 0 mirrors left-right, bit 1 top-bottom, bit 2 transposes (before those).
    """

    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    dihedral: NDArray[np.int64]


class PatchSampler:
    """Draws patches of one size from images of many sizes.

    Args:
        sizes: (H, W) of each image in LR pixels.
        patch: Side of a patch in LR pixels.
        seed: Seed of the run.
        weighting: "image" draws each image equally often (the papers' epochs do); "pixel" draws it
            in proportion to the number of places a patch can take in it, which suits sets that mix
            small and large pictures.
        augment: Draw one of the 8 mirrorings and rotations per patch; otherwise none.

    Raises:
        UserError: there is no image, or one is smaller than the patch (by index).
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        patch: int,
        seed: int,
        weighting: Weighting = "image",
        augment: bool = True,
    ) -> None:
        if not sizes:
            raise UserError("There is no training image.")
        room = np.asarray(sizes, dtype=np.int64) - patch + 1
        if room.min() < 1:
            raise UserError(f"Image {int(room.min(axis=1).argmin())} is smaller than the patch.")
        self._room = room
        self._patch = patch
        self._seed = seed
        self._augment = augment
        places = room.prod(axis=1) if weighting == "pixel" else np.ones(len(room), dtype=np.int64)
        self._edges = np.cumsum(places) / places.sum()

    def __call__(self, step: int, slots: NDArray[np.int64], candidate: int = 0) -> Patches:
        """Patches at these places of the whole batch of a step.

        Args:
            step: Training step.
            slots: Places in the whole batch.
            candidate: Which of the patches that could be at each place; they are independent.
        """
        # No batch has so many patches that two candidates would share their numbers.
        slots = slots + (candidate << 32)
        image = np.searchsorted(self._edges, draw(self._seed, IMAGE, step, slots), side="right")
        image = image.clip(0, len(self._edges) - 1)
        room = self._room[image]
        row = (draw(self._seed, ROW, step, slots) * room[:, 0]).astype(np.int64)
        column = (draw(self._seed, COLUMN, step, slots) * room[:, 1]).astype(np.int64)
        if self._augment:
            dihedral = (draw(self._seed, DIHEDRAL, step, slots) * 8).astype(np.int64)
        else:
            dihedral = np.zeros(len(slots), dtype=np.int64)
        return Patches(image, row, column, dihedral)
