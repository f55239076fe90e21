"""From image files to batches: reading, resizing, storing, sampling, benchmark sets."""

from sr_lightning.data.datamodule import PatchDataModule

__all__ = ["PatchDataModule"]
