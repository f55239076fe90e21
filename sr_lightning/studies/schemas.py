"""JSON schemas of the files that are written by hand, for editors: ``experiments/schemas``.

``python -m sr_lightning.studies.schemas`` writes them again after a change of a model. A file takes
one by its first line: ``# yaml-language-server: $schema=../schemas/study.json``.
"""

from __future__ import annotations

from pathlib import Path

from sr_lightning.experiments import project_root
from sr_lightning.files import json_text, write_all
from sr_lightning.studies.campaign import QueueFile
from sr_lightning.studies.located_yaml import FileModel
from sr_lightning.studies.published_tables import PublishedFile
from sr_lightning.studies.study import StudyFile

__all__ = ["schemas"]

_MODELS: dict[str, type[FileModel]] = {
    "study": StudyFile,
    "campaign": QueueFile,
    "published": PublishedFile,
}


def schemas(root: Path) -> dict[Path, str]:
    """The content of each schema by its file.

    Args:
        root: The checkout.
    """
    folder = root / "experiments" / "schemas"
    return {
        folder / f"{name}.json": json_text(model.model_json_schema())
        for name, model in _MODELS.items()
    }


if __name__ == "__main__":
    write_all(dict(schemas(project_root())))
