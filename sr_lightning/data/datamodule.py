"""The data module of the papers: patches of sets to train on, whole images to measure on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from sr_lightning.cubic import upscaled_size
from sr_lightning.data import sample
from sr_lightning.data.batch import Batch
from sr_lightning.data.catalog import ImageSet, catalog, find_set, known_set
from sr_lightning.data.compressed import StoreKind, open_store
from sr_lightning.data.degradation import whole
from sr_lightning.data.evaluation import (
    EvaluationImage,
    EvaluationSet,
    PredictionSet,
    collate_one,
    find_low,
)
from sr_lightning.data.images import natural_key
from sr_lightning.data.integrity import check_set, references
from sr_lightning.data.near_duplicates import SAME_PICTURE, Leak, find_leaks
from sr_lightning.data.patches import PatchSource, StepDataset, packed_to_float
from sr_lightning.data.resize import Boundary, imresize, lr_size
from sr_lightning.data.sampling import Weighting, draw
from sr_lightning.data.store import PixelStore
from sr_lightning.errors import UserError
from sr_lightning.files import user_path
from sr_lightning.nn.network import SRNetwork

__all__ = ["PatchDataModule"]

Located = tuple[PixelStore, int]
_LEAST = {
    **dict.fromkeys(("patch_size", "batch_size", "candidates", "val_crop"), 1),
    **dict.fromkeys(("holdout", "num_workers", "val_limit"), 0),
}


class PatchDataModule(pl.LightningDataModule):
    """Random patches to train on; held-out images to validate on; benchmark sets to test on.

    It gives a :class:`~sr_lightning.data.batch.Batch` of float32 images.
    Sets are names (``DIV2K``, ``Set5``; see ``sr-lightning prepare --list``) or folders.

    Args:
        train: Sets to cut patches from.
        val: Sets to validate on; default: `holdout` images taken out of the training sets. A
            benchmark set is refused here: choosing weights on it would spoil the test.
        holdout: Number of training images to keep for validation where `val` is not given. Which
            ones depends on their names alone.
        test: Benchmark sets or folders; known sets that are not there are skipped with a notice.
        predict: One folder of LR images to upscale.
        root: Data root; default ``SR_DATA`` or ``./data``.
        scale: Integer or real scale, or several to draw one per step, those named twice twice as
            often; default: the network's.
        patch_size: Side of LR patches in pixels; HR patches are `scale` times that.
        batch_size: Patches of a step over all devices (so that 1 and 4 devices train alike).
        seed: Seed of the patches; default: ``seed_everything``.
        num_workers: Processes that assemble batches. 0 is fastest on a CPU: a batch takes about
            a millisecond.
        weighting: Draw every image equally often ("image") or in proportion to its size
            ("pixel").
        augment: Mirror and rotate patches at random (8 ways).
        candidates: Draw so many patches for each place in a batch and take the one with the most
            texture (largest mean difference of neighbouring HR pixels); 1 takes what comes.
            inferred: 1, for no paper here says that it selects.
        lr_source: Where LR patches come from: "cached" makes all LR images once, "on_the_fly"
            makes each patch from its HR patch (the same bytes, less disk), "paired" reads
            `paired_lr`.
        paired_lr: LR folders by set name, such as ``{DIV2K: /data/LR_bicubic/X{scale}}``; used
            for training with ``lr_source: paired`` and for every set named here when measuring.
        boundary: Boundary of the bicubic resize: "replicate" as in the usual benchmark files,
            "symmetric" as modern MATLAB does.
        val_scale: Scales to validate at; default: `scale`.
        val_crop: Validate on the central square of this side (HR pixels); default whole images.
        val_limit: Validate on at most this many images.
        small_images: What to do with training images smaller than the patch.
        leaks: What to do when a training image shows the same picture as a test image.
        cache: Where decoded images are kept; default ``SR_CACHE`` or the user's cache folder.
        store: How they are kept there: "decoded" takes four bytes per pixel and gives a patch in
            microseconds, "compressed" takes about a third of that and some milliseconds; see
            :mod:`sr_lightning.data.compressed`.

    Raises:
        UserError: a set is missing, an image unreadable or too small, a test set in training, or a
            trainer was given epochs in place of ``max_steps``.
    """

    def __init__(
        self,
        train: list[str] | str = "DIV2K",
        val: list[str] | str | None = None,
        holdout: int = 10,
        test: list[str] | str = ("Set5", "Set14", "B100", "Urban100", "Manga109"),  # type: ignore[assignment]
        predict: str | None = None,
        root: str | None = None,
        scale: float | list[float] | None = None,
        patch_size: int = 48,
        batch_size: int = 16,
        seed: int | None = None,
        num_workers: int = 0,
        weighting: Weighting = "image",
        augment: bool = True,
        candidates: int = 1,
        lr_source: Literal["cached", "on_the_fly", "paired"] = "cached",
        paired_lr: dict[str, str] | None = None,
        boundary: Boundary = "replicate",
        val_scale: float | list[float] | None = None,
        val_crop: int | None = None,
        val_limit: int | None = None,
        small_images: Literal["error", "skip"] = "error",
        leaks: Literal["refuse", "warn"] = "refuse",
        cache: str | None = None,
        store: StoreKind = "decoded",
    ) -> None:
        super().__init__()
        self.train_sets = _as_list(train)
        self.val_sets = _as_list(val)
        self.test_sets = _as_list(test)
        self.holdout = holdout
        self.predict_set = predict
        self.root = root
        self.scale = scale
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.weighting: Weighting = weighting
        self.augment = augment
        self.candidates = candidates
        self.lr_source = lr_source
        self.paired_lr = {name.lower(): folder for name, folder in (paired_lr or {}).items()}
        self.boundary: Boundary = boundary
        self.val_scale = val_scale
        self.val_crop = val_crop
        self.val_limit = val_limit
        self.small_images = small_images
        self.leaks = leaks
        self.cache = user_path(cache) if cache else None
        self.store: StoreKind = store
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"data.{name} is {value}; give {least} or more.")
        if seed is not None and not -(2**63) <= seed < 2**63:
            raise UserError(f"data.seed is {seed}; give a number of 64 bits.")
        for name in ("scale", "val_scale"):
            value = getattr(self, name)
            for one in [] if value is None else _as_scales(value) or [0]:
                if not 1 <= one < float("inf"):
                    raise UserError(f"data.{name} is {value}; give a real scale from 1 on, as 2.8.")
        self._sources: list[PatchSource] = []
        self._val: EvaluationSet | None = None
        self._test: EvaluationSet | None = None
        self._predict: PredictionSet | None = None
        self._scales: list[float] | None = None

    # ---- sets ---------------------------------------------------------------------------------

    @property
    def scales(self) -> list[float]:
        """The scales that batches are made at: given, or those of the network."""
        module = self.trainer.lightning_module if self.trainer else None
        network = getattr(module, "network", None)
        for name in ("scale", "val_scale"):
            for scale in _as_scales(getattr(self, name) or []):
                if isinstance(network, SRNetwork) and not network.supports_scale(scale):
                    raise UserError(
                        f"data.{name} is {scale:g}, which {type(network).__name__} is not made "
                        "for; give another scale, or the network's own model.network.scale."
                    )
        if self.scale is not None:
            return _as_scales(self.scale)
        own = getattr(network, "scales", None)
        if not own:
            raise UserError("Give data.scale: there is no network to take the scale from.")
        return _as_scales(list(own))

    def prepare_data(self) -> None:
        """Decode what is not yet in the cache (one process per machine)."""
        stage = self.trainer.state.fn if self.trainer else None
        self.setup(stage.value if stage else None)

    def setup(self, stage: str | None = None) -> None:
        """Find the sets of a stage and open their stores.

        Args:
            stage: "fit", "validate", "test" or "predict"; None for all but predict.
        """
        if self._scales != self.scales:
            # The first time, or for a network of other scales than that before.
            self._scales, self._sources = self.scales, []
            self._val = self._test = self._predict = None
        patches = stage in {None, "fit"}
        if patches:
            self._check_training()
        if (patches and not self._sources) or (stage == "validate" and self._val is None):
            self._setup_fit(patches=patches)
        if stage in {None, "test"} and self._test is None:
            self._setup_test()
        if stage == "predict" and self._predict is None:
            if self.predict_set is None:
                raise UserError("Name the folder of LR images: --data.predict FOLDER.")
            self._predict = PredictionSet(self._find(self.predict_set), self.scales[0])

    def _check_training(self) -> None:
        # Not when the loader is made: Lightning leaves torch's DataLoader changed after an error.
        trainer = self.trainer
        world = trainer.world_size if trainer else 1
        if self.batch_size % world:
            raise UserError(
                f"data.batch_size is {self.batch_size} patches over all devices, which {world} "
                "devices cannot share evenly; make it a multiple."
            )
        if trainer and trainer.max_steps < 0 and trainer.max_epochs != -1:
            raise UserError(
                "Give the trainer max_steps: patches are drawn without end, so that an epoch "
                "would never be over."
            )

    def _find(self, name: str) -> ImageSet:
        found = sample.find_photographs(name)
        return found or find_set(name, self.root)

    def _store(self, images: ImageSet) -> PixelStore:
        return open_store(images.files, images.name, self.store, self.cache)

    def _setup_fit(self, *, patches: bool) -> None:
        training: list[tuple[str, Located]] = []
        for name in self.train_sets if patches or not self.val_sets else []:
            images = self._find(name)
            if images.facts is not None and images.facts.kind == "benchmark":
                raise UserError(
                    f"{images.facts.name} is a benchmark set and must not be trained on; "
                    "name other sets in data.train."
                )
            store = self._store(images)
            training += [(images.name, (store, index)) for index in range(len(store))]
        held: list[tuple[str, Located]] = []
        if not self.val_sets:
            training, held = _hold_out(training, self.holdout)
        for name in self.val_sets:
            images = self._find(name)
            if images.facts is not None and images.facts.kind == "benchmark":
                raise UserError(
                    f"{images.facts.name} is a benchmark set; weights chosen on it would spoil the "
                    "test. Name other images in data.val, or none to hold some training images out."
                )
            store = self._store(images)
            held += [(images.name, (store, index)) for index in range(len(store))]
        held = held[: self.val_limit]
        self._val = EvaluationSet(
            [
                EvaluationImage(
                    "val", store, index, scale, self._low_file(group, store, index, scale)
                )
                for scale in dict.fromkeys(
                    self.scales if self.val_scale is None else _as_scales(self.val_scale)
                )
                for group, (store, index) in held
            ],
            self.val_crop,
            self.boundary,
        )
        if patches:
            self._check_leaks(training, held)
            self._sources = [self._source(training, scale) for scale in self.scales]

    def _source(self, training: list[tuple[str, Located]], scale: float) -> PatchSource:
        need, _ = upscaled_size((self.patch_size, self.patch_size), scale)
        kept = []
        for group, (store, index) in training:
            fact = store.images[index]
            if min(lr_size((fact.height, fact.width), scale)) >= self.patch_size:
                kept.append((group, (store, index)))
            elif self.small_images == "error":
                raise UserError(
                    f"{fact.source} is {fact.width} x {fact.height}, smaller than a training patch "
                    f"of {need} x {need}; remove it, or set data.small_images to skip, or "
                    "data.patch_size to less."
                )
        if not kept:
            raise UserError(f"No training image is as large as a patch of {need} x {need}.")
        images = [located for _, located in kept]
        low: list[Located] | None = None
        by = whole(scale)
        if self.lr_source == "cached" and by is not None:
            low = self._downscaled(images, by)
        elif self.lr_source == "paired":
            low = self._paired(kept, scale)
        return PatchSource(images, scale, low, self.boundary)

    def _downscaled(self, images: list[Located], scale: int) -> list[Located]:
        def downscale(
            rgb: np.ndarray[Any, np.dtype[np.uint8]],
        ) -> np.ndarray[Any, np.dtype[np.uint8]]:
            height, width = (extent // scale * scale for extent in rgb.shape[:2])
            whole = torch.from_numpy(rgb[:height, :width]).permute(2, 0, 1)
            small = imresize(whole, 1 / scale, boundary=self.boundary)
            return small.permute(1, 2, 0).contiguous().numpy()

        stores: dict[Path, PixelStore] = {}
        for store, _ in images:
            if store.folder not in stores:
                recipe = f"bicubic_x{scale}_{self.boundary}"
                stores[store.folder] = store.derived(recipe, downscale, cache=self.cache)
        return [(stores[store.folder], index) for store, index in images]

    def _paired(self, images: list[tuple[str, Located]], scale: float) -> list[Located]:
        files, groups = [], []
        for group, (store, index) in images:
            low = self._low_file(group, store, index, scale)
            if low is None:
                raise UserError(
                    f"data.lr_source is 'paired' but data.paired_lr names no LR folder for "
                    f"{group}; add --data.paired_lr.{group} FOLDER."
                )
            files.append(low)
            groups.append(group)
        store = open_store(files, f"paired_x{scale}", self.store, self.cache)
        for (_, (high, index)), low_fact in zip(images, store.images, strict=True):
            fact = high.images[index]
            if (low_fact.height, low_fact.width) != lr_size((fact.height, fact.width), scale):
                raise UserError(
                    f"{low_fact.source} is {low_fact.width} x {low_fact.height}, not a x{scale} LR "
                    f"image of {fact.source} ({fact.width} x {fact.height})."
                )
        return [(store, index) for index in range(len(store))]

    def _low_file(self, group: str, store: PixelStore, index: int, scale: float) -> Path | None:
        folder = self.paired_lr.get(group.lower())
        if folder is None:
            return None
        try:
            place = user_path(folder.format(scale=scale))
        except (LookupError, ValueError) as error:
            raise UserError(
                f"data.paired_lr names {folder}; only {{scale}} may stand in braces."
            ) from error
        return find_low(place, store.images[index].name, scale)

    def _setup_test(self) -> None:
        images: list[EvaluationImage] = []
        missing: list[UserError] = []
        for name in self.test_sets:
            try:
                found = self._find(name)
            except UserError as error:
                if known_set(name) is None:
                    raise
                missing.append(error)
                continue
            store = self._store(found)
            for problem in check_set(found, store.images).problems:
                rank_zero_warn(f"Numbers on {found.name} will not compare: {problem}")
            images += [
                EvaluationImage(
                    found.name, store, index, scale, self._low_file(found.name, store, index, scale)
                )
                for scale in dict.fromkeys(self.scales)
                for index in range(len(store))
            ]
        if not images:
            raise missing[0] if missing else UserError("data.test names no set to test on.")
        for reason in missing:
            rank_zero_warn(f"Not tested: {reason}")
        self._test = EvaluationSet(images, boundary=self.boundary)

    def _check_leaks(
        self, training: list[tuple[str, Located]], held: list[tuple[str, Located]]
    ) -> None:
        """Compare training images with held-out ones, with the benchmarks and the test sets.

        Benchmarks that are not on this machine are known by their hashes.
        """
        tests = [_hashed("val", located) for _, located in held]
        benchmarks = {fact.name for fact in catalog().values() if fact.kind == "benchmark"}
        for name in sorted(benchmarks | set(self.test_sets)):
            try:
                found = self._find(name)
            except UserError:
                if known_set(name) is None:
                    raise
                tests += [(f"{name}/{known.name}", known.phash) for known in references(name)]
                continue
            store = self._store(found)
            tests += [_hashed(found.name, (store, index)) for index in range(len(store))]
        leaks = find_leaks((_hashed(group, at) for group, at in training), tests)
        same = [leak for leak in leaks if leak.distance <= SAME_PICTURE]
        if same and self.leaks == "refuse":
            raise UserError(
                f"Training images show test or validation images: {_listed(same)}. Take them out "
                "of data.train, or set data.leaks to warn if you know better."
            )
        if leaks:
            rank_zero_warn(
                f"Training images look like test or validation images: {_listed(leaks)}."
            )

    def provenance(self) -> dict[str, Any]:
        """What the data of this run is: sets, numbers of images, checksums of their pixels."""
        facts: dict[str, Any] = {}
        for role, images in (
            ("train", [located for source in self._sources[:1] for located in source.images]),
            (
                "val",
                [(image.store, image.index) for image in self._val.images] if self._val else [],
            ),
            ("test", [(i.store, i.index) for i in self._test.images] if self._test else []),
        ):
            stores: dict[str, dict[str, Any]] = {}
            for store, index in images:
                name = store.folder.name.rsplit("-", 1)[0]
                fact = stores.setdefault(name, {"images": set(), "sha256": store.checksum})
                fact["images"].add(index)
            facts[role] = {
                name: {"images": len(fact["images"]), "sha256": fact["sha256"]}
                for name, fact in stores.items()
            }
        return facts

    # ---- loaders ------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the step that training stands at, so that a resumed run goes on."""
        trainer = self.trainer
        world = trainer.world_size if trainer else 1
        # Lightning counts optimiser steps; batches are what patches are numbered by.
        per_step = trainer.accumulate_grad_batches if trainer else 1
        start = trainer.global_step * per_step if trainer else 0
        end = trainer.max_steps * per_step if trainer and trainer.max_steps > 0 else 1_000_000_000
        dataset = self._patches(
            patch=self.patch_size,
            batch=self.batch_size,
            seed=self.seed if self.seed is not None else int(os.environ.get("PL_GLOBAL_SEED", 0)),
            weighting=self.weighting,
            augment=self.augment,
            candidates=self.candidates,
            start=start,
            stop=max(end, start + 1),
            rank=trainer.global_rank if trainer else 0,
            world=world,
        )
        return DataLoader(
            dataset,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )

    def _patches(self, **options: Any) -> StepDataset:
        """The batches of a training; a data module that adds something to them overrides it."""
        return StepDataset(self._sources, **options)

    def _whole_images(self, images: EvaluationSet | PredictionSet | None) -> DataLoader[Any]:
        assert images is not None
        return DataLoader(
            images, batch_size=1, collate_fn=collate_one, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out images, one per batch."""
        return self._whole_images(self._val)

    def test_dataloader(self) -> DataLoader[Any]:
        """Images of all test sets, one per batch; "set" in the batch tells them apart."""
        return self._whole_images(self._test)

    def predict_dataloader(self) -> DataLoader[Any]:
        """LR images, one per batch."""
        return self._whole_images(self._predict)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Make floats of bytes on the device: a quarter of the traffic, none of the work here."""
        if batch["lr"].dtype != torch.uint8:
            return batch
        return {
            **batch,
            "lr": packed_to_float(batch["lr"]),
            "hr": packed_to_float(batch["hr"]),
        }


def _as_list(names: list[str] | str | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)


def _as_scales(given: float | list[float]) -> list[float]:
    return [whole(scale) or scale for scale in (given if isinstance(given, list) else [given])]


def _hashed(group: str, located: Located) -> tuple[str, str]:
    store, index = located
    fact = store.images[index]
    return f"{group}/{fact.name}", fact.phash


def _listed(leaks: list[Leak], most: int = 5) -> str:
    pairs = [f"{leak.train} is {leak.test}" for leak in leaks[:most]]
    rest = len(leaks) - most
    return ", ".join(pairs) + (f" and {rest} more" if rest > 0 else "")


def _hold_out(
    images: list[tuple[str, Located]], count: int
) -> tuple[list[tuple[str, Located]], list[tuple[str, Located]]]:
    """Split images by a fixed hash of their position in natural order of names."""
    ordered = sorted(
        images, key=lambda entry: natural_key(f"{entry[0]}/{entry[1][0].images[entry[1][1]].name}")
    )
    if count >= len(ordered):
        raise UserError(
            f"data.holdout keeps {count} images for validation, but there are only "
            f"{len(ordered)} training images; hold fewer out."
        )
    rank = np.argsort(draw(0, 0, 0, np.arange(len(ordered))), kind="stable")
    chosen = set(rank[:count].tolist())
    kept = [entry for place, entry in enumerate(ordered) if place not in chosen]
    return kept, [ordered[place] for place in sorted(chosen)]
