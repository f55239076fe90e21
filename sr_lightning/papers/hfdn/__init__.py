"""HFDN: lightweight SR with a hierarchical feature-driven network (ICIP 2020); see README.md."""

from sr_lightning.papers.hfdn.network import HFDN

__all__ = ["HFDN"]
