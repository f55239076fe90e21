"""Patches are a pure function of (seed, step, slot), evenly spread, all inside their images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_lightning.data.sampling import PatchSampler, draw
from sr_lightning.errors import UserError

SLOTS = np.arange(16)


def test_parts_of_a_batch_equal_the_whole():
    sampler = PatchSampler([(50, 60), (30, 40)], 24, seed=3)
    whole = sampler(7, SLOTS)
    for rank in range(4):
        part = sampler(7, SLOTS[rank * 4 : rank * 4 + 4])
        for name in ("image", "row", "column", "dihedral"):
            expected = getattr(whole, name)[rank * 4 : rank * 4 + 4]
            assert np.array_equal(getattr(part, name), expected)


def test_steps_slots_seeds_and_streams_differ():
    base = draw(1, 2, 3, SLOTS)
    for other in (
        draw(2, 1, 3, SLOTS),
        draw(1, 3, 3, SLOTS),
        draw(1, 2, 4, SLOTS),
        draw(0, 3, 3, SLOTS),
    ):
        assert not np.isin(other, base).any()
    assert len(np.unique(base)) == len(base)


def test_numbers_are_uniform_and_uncorrelated():
    values = np.concatenate([draw(5, 1, step, SLOTS) for step in range(4000)])
    counts, _ = np.histogram(values, 20, (0, 1))
    expected = len(values) / 20
    # chi-squared with 19 degrees of freedom: 43.8 is its 99.9th percentile.
    assert ((counts - expected) ** 2 / expected).sum() < 43.8
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(values[:-16], values[16:])[0, 1]) < 0.02


@given(
    sizes=st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=5),
    patch=st.integers(1, 8),
    step=st.integers(0, 10**9),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_patches_lie_inside(sizes, patch, step, seed):
    where = PatchSampler(sizes, patch, seed)(step, SLOTS)
    extent = np.asarray(sizes)[where.image]
    assert (where.row >= 0).all()
    assert (where.column >= 0).all()
    assert (where.row + patch <= extent[:, 0]).all()
    assert (where.column + patch <= extent[:, 1]).all()
    assert set(where.dihedral) <= set(range(8))


def test_every_place_turn_and_image_is_reached():
    sampler = PatchSampler([(5, 4), (4, 4)], 3, seed=0)
    seen = set()
    for step in range(400):
        where = sampler(step, SLOTS)
        seen |= set(zip(where.image, where.row, where.column, where.dihedral, strict=True))
    assert len(seen) == (3 * 2 + 2 * 2) * 8


def test_weighting_by_pixels_follows_the_number_of_places():
    sizes = [(24, 24), (24, 24 + 9)]
    counts = {}
    for weighting in ("image", "pixel"):
        sampler = PatchSampler(sizes, 24, seed=1, weighting=weighting)
        images = np.concatenate([sampler(step, SLOTS).image for step in range(1000)])
        counts[weighting] = (images == 1).mean()
    assert counts["image"] == pytest.approx(1 / 2, abs=0.02)
    assert counts["pixel"] == pytest.approx(10 / 11, abs=0.02)


def test_no_augmentation_means_no_turn():
    where = PatchSampler([(30, 30)], 8, seed=1, augment=False)(0, SLOTS)
    assert not where.dihedral.any()


def test_nothing_or_too_small_is_refused():
    with pytest.raises(UserError, match="no training image"):
        PatchSampler([], 8, seed=0)
    with pytest.raises(UserError, match="smaller than the patch"):
        PatchSampler([(30, 30), (7, 30)], 8, seed=0)
