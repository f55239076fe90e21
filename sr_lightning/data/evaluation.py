"""Whole images to measure on: benchmark sets, held-out training images, and the user's folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Dataset

from sr_lightning.cubic import upscaled_size
from sr_lightning.data.batch import Batch
from sr_lightning.data.catalog import ImageSet
from sr_lightning.data.degradation import downscale
from sr_lightning.data.images import (
    read_photo,
    read_rgb,
    to_tensor,
    unique_names,
    with_hidden_colours,
)
from sr_lightning.data.resize import Boundary, lr_size
from sr_lightning.data.store import PixelStore
from sr_lightning.errors import UserError

__all__ = ["EvaluationImage", "EvaluationSet", "PredictionSet", "collate_one", "find_low"]


@dataclass(frozen=True)
class EvaluationImage:
    """One image to be measured at one scale.

    Attributes:
        group: Set it belongs to, such as ``Set5``.
        store: Where its HR pixels are.
        index: Which image of the store.
        scale: Integer or real.
        low: Its LR file where the user has one; otherwise the LR image is made by bicubic.
    """

    group: str
    store: PixelStore
    index: int
    scale: float
    low: Path | None = None


class EvaluationSet(Dataset[dict[str, Any]]):
    """HR images with their LR images, one per item.

    Args:
        images: What to measure, in the order of the result tables.
        crop: Measure only the central square of this side (HR pixels), to validate fast.
        boundary: Boundary of the resize that makes LR images.
    """

    def __init__(
        self,
        images: Sequence[EvaluationImage],
        crop: int | None = None,
        boundary: Boundary = "replicate",
    ) -> None:
        self.images = list(images)
        self._crop = crop
        self._boundary: Boundary = boundary

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image: contract keys, "set" and "index" that tell where it belongs, and "grey"."""
        image = self.images[index]
        scale = image.scale
        high = torch.from_numpy(image.store.rgb(image.index)).permute(2, 0, 1)
        if self._crop is not None and image.low is None:
            high = _central(high, self._crop)
        small = lr_size((high.shape[1], high.shape[2]), scale)
        if min(small) == 0:
            raise UserError(
                f"{image.store.images[image.index].source} is smaller than a pixel of x{scale}."
            )
        height, width = upscaled_size(small, scale)
        high = high[:, :height, :width]
        if image.low is None:
            low = downscale(high, scale, self._boundary)
        else:
            low = torch.from_numpy(read_rgb(image.low)).permute(2, 0, 1)
            if (low.shape[1], low.shape[2]) != small:
                raise UserError(
                    f"{image.low} is {low.shape[2]} x {low.shape[1]}, but the HR image at x{scale} "
                    f"wants {small[1]} x {small[0]}; give the LR file of this image and scale."
                )
        return {
            "lr": low.float().div_(255),
            "hr": high.float().div_(255),
            "scale": scale,
            "name": image.store.images[image.index].name,
            "set": image.group,
            "index": index,
            "grey": image.store.images[image.index].grey,
        }


class PredictionSet(Dataset[dict[str, Any]]):
    """LR images to upscale; there is no HR image.

    Args:
        files: A set or folder of LR images.
        scale: What they will be upscaled by; part of the batch contract.
    """

    def __init__(self, files: ImageSet, scale: float) -> None:
        self._files = files.files
        self._names = unique_names([Path(path.name) for path in files.files])
        self._scale = scale

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One LR image with its name, and its "file", in which the rest of it is."""
        path = self._files[index]
        photo = read_photo(path)
        colour = with_hidden_colours(photo.pixels)[..., : 1 if photo.grey else 3]
        lr = to_tensor(colour).expand(3, -1, -1).contiguous()
        return {"lr": lr, "scale": self._scale, "name": self._names[index], "file": str(path)}


def collate_one(items: Sequence[dict[str, Any]]) -> Batch:
    """A batch of one image: sizes differ, so images are not stacked."""
    (item,) = items
    images = {key: item[key].unsqueeze(0) for key in ("lr", "hr") if key in item}
    return cast(Batch, {**item, **images, "name": [item["name"]]})


def find_low(folder: Path, name: str, scale: float) -> Path:
    """The LR file of an HR image in a folder of LR files.

    Accepts the names in use: ``0001.png``, ``0001x4.png``, ``0001x4m.png``, ``baby_x4.png``,
    ``baby_LR.png``, ``baby_LRx4.png``, ``baby_LRBI_x4.png``, ``img_001_SRF_4_LR.png`` for
    ``img_001_SRF_4_HR``, and RealSR's ``Canon_001_LR4.png`` for ``Canon_001_HR``; suffixes of any
    case.

    Raises:
        UserError: none of them is there.
    """
    stems = [name, f"{name}x{scale}", f"{name}_x{scale}", f"{name}_LRBI_x{scale}"]
    stems += [f"{name}_LRx{scale}", f"{name}x{scale}m", f"{name}_LR", f"{name}_lr"]
    if name.endswith("_HR"):
        stems += [f"{name[:-3]}_LR", f"{name[:-3]}_LR{scale}"]
    for stem in stems:
        for suffix in (".png", ".bmp", ".webp", ".tif", ".tiff", ".jpg", ".jpeg"):
            for path in (folder / f"{stem}{suffix}", folder / f"{stem}{suffix.upper()}"):
                if path.is_file():
                    return path
    raise UserError(
        f"No LR file of '{name}' at x{scale} in {folder} (looked for {', '.join(stems)}); rename "
        "its files, or correct data.paired_lr."
    )


def _central(image: torch.Tensor, side: int) -> torch.Tensor:
    top = max(0, (image.shape[1] - side) // 2)
    left = max(0, (image.shape[2] - side) // 2)
    return image[:, top : top + side, left : left + side]
