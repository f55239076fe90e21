"""Reading the files in which authors released their weights, without running what they say.

Each reader gives the tensors under the names that the file uses; what they mean is the matter of
:mod:`sr_lightning.weights.releases`.
"""

from sr_lightning.weights.formats.foreign import ForeignWeights
from sr_lightning.weights.formats.read import read_foreign

__all__ = ["ForeignWeights", "read_foreign"]
