"""sr-lightning: single-image super-resolution papers, trained and measured under named protocols.

An image file becomes patches, patches become a batch, a batch passes a network and a paper's
loss, a trained network is measured under a named protocol, and the measured number is set beside
the published one. The packages follow that sentence; see README.md beside this file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_lightning.api import imresize, load, measure, upscale
    from sr_lightning.metrics.protocol import PROTOCOLS
    from sr_lightning.nn.network import SRNetwork
    from sr_lightning.weights.hub import push, save_pretrained

__version__ = "0.1.0"

__all__ = [
    "PROTOCOLS",
    "SRNetwork",
    "__version__",
    "imresize",
    "load",
    "measure",
    "push",
    "save_pretrained",
    "upscale",
]

_MODULES = {
    "PROTOCOLS": "metrics.protocol",
    "SRNetwork": "nn.network",
    "push": "weights.hub",
    "save_pretrained": "weights.hub",
}


def __getattr__(name: str) -> Any:
    # Late, because torch takes seconds to import, and every module of the package passes here.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)
