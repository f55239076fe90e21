"""CIRN: cross-layer information refining network (Zhang and Lu); see README.md."""

from sr_lightning.papers.cirn.network import CIRN

__all__ = ["CIRN"]
