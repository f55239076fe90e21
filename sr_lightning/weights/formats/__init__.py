"""Reading the files in which authors released their weights, without running what they say.

Each reader gives the tensors under the names that the file uses; what they mean is the matter of
:mod:`sr_lightning.weights.state_dict_maps`.
"""

from sr_lightning.weights.formats.external import ExternalWeights
from sr_lightning.weights.formats.read import read_external

__all__ = ["ExternalWeights", "read_external"]
