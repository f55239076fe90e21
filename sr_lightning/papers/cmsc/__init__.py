"""CMSC: cascaded multi-scale cross network (2018); see README.md."""

from sr_lightning.papers.cmsc.network import CMSC

__all__ = ["CMSC"]
