"""ASDN and FSDN: super-resolution by any scale, and by a fixed one (2020); see README.md."""

from sr_lightning.papers.asdn.comparisons import EDSRConv, RDNConv, VDSRConv
from sr_lightning.papers.asdn.lfr import LaplacianNetwork
from sr_lightning.papers.asdn.network import ASDN, FSDN

__all__ = [
    "ASDN",
    "FSDN",
    "EDSRConv",
    "LaplacianNetwork",
    "RDNConv",
    "VDSRConv",
]
