"""LESRCNN: lightweight image SR with an enhanced CNN (KBS 2020); see README.md."""

from sr_lightning.papers.lesrcnn.convert import from_release
from sr_lightning.papers.lesrcnn.network import LESRCNN

__all__ = ["LESRCNN", "from_release"]
