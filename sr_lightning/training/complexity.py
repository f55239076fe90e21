"""The network or module of an experiment file, without its data and trainer."""

from __future__ import annotations

from pathlib import Path

import torch

from sr_lightning.errors import UserError
from sr_lightning.files import read_yaml
from sr_lightning.nn.check import check_network
from sr_lightning.nn.complexity import Complexity, complexity
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.config_errors import PlainParser
from sr_lightning.training.module import SRModule
from sr_lightning.training.named_classes import check_classes, restrict_names

__all__ = ["counted", "module_of_config", "network_of_config"]


def network_of_config(path: str | Path, *, meta: bool = False) -> SRNetwork:
    """Build the network of an experiment file, and nothing else of it.

    Args:
        path: Path of the file.
        meta: Whether it is built on the meta device, without memory for its weights, if it can be
            built there.

    Raises:
        UserError: the file is missing or has no ``model`` that can be built.
    """
    if meta:
        try:
            with torch.device("meta"):
                return network_of_config(path)
        except (RuntimeError, NotImplementedError):
            pass
    network = module_of_config(path).network
    assert isinstance(network, SRNetwork)
    if not hasattr(network, "config"):
        # The base class itself, which says no scales either.
        check_network(network)
    return network


def counted(network: SRNetwork, hr_size: tuple[int, int], scale: float) -> Complexity:
    """What :func:`~sr_lightning.nn.complexity.complexity` counts, of networks that may fail.

    Args:
        network: Anywhere, on the meta device too; left as it is.
        hr_size: (H, W) of the output.
        scale: Scale of the input.

    Raises:
        UserError: the network fails on images; the message says how.
    """
    try:
        return complexity(network, hr_size, scale)
    except Exception:
        check_network(type(network)(**network.config))
        raise


def module_of_config(path: str | Path) -> SRModule:
    """Build the Lightning module of an experiment file, and nothing else of it.

    Raises:
        UserError: the file is missing or has no ``model`` that can be built.
    """
    content = read_yaml(path, "experiment file")
    section = content.get("model") if isinstance(content, dict) else None
    if not section:
        raise UserError(f"{path} has no 'model' section.")
    restrict_names()
    parser = PlainParser()
    parser.add_subclass_arguments(SRModule, "model")
    config = parser.parse_object({"model": section})
    check_classes(config)
    module = parser.instantiate(config).model
    assert isinstance(module, SRModule)
    return module
