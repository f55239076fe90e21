"""From image files to batches: reading, resizing, storing, sampling, benchmark sets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_lightning.data.datamodule import PatchDataModule

__all__ = ["PatchDataModule"]


def __getattr__(name: str) -> Any:
    # Late, because Lightning takes seconds to import and reading an image does not need it.
    if name == "PatchDataModule":
        from sr_lightning.data.datamodule import PatchDataModule

        return PatchDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
