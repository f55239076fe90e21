"""sr-lightning: single-image super-resolution papers, trained and measured under named protocols.

An image file becomes patches, patches become a batch, a batch passes a network and a paper's
loss, a trained network is measured under a named protocol, and the measured number is set beside
the published one. The rooms of the package follow that sentence; see the README's architecture
section.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
