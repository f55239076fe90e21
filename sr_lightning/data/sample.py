"""Real photographs that need no download: those inside the scikit-image wheel.

They let the suite's main job and its tests run on a machine without a network or a data set.
Training, validation and test photographs are different pictures.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sr_lightning.data.catalog import ImageSet
from sr_lightning.errors import UserError

__all__ = ["PHOTOGRAPHS", "find_photographs"]

PHOTOGRAPHS = {
    "sample-train": (
        "coffee.png",
        "motorcycle_left.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "brick.png",
        "grass.png",
        "gravel.png",
        "camera.png",
        "ihc.png",
    ),
    "sample-val": ("chelsea.png",),
    "sample-test": ("astronaut.png",),
}


def find_photographs(name: str) -> ImageSet | None:
    """The bundled photographs of a name in `PHOTOGRAPHS`, or None for any other name.

    Raises:
        UserError: scikit-image is not installed.
    """
    files = PHOTOGRAPHS.get(name)
    if files is None:
        return None
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError(
            "The sample photographs come with scikit-image; install it with "
            "'pip install sr-lightning[sample]'."
        )
    folder = Path(spec.origin).parent / "data"
    paths = tuple(folder / file for file in files)
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"This scikit-image does not hold {path.name}; install scikit-image>=0.25."
            )
    return ImageSet(name, folder, paths, None)
