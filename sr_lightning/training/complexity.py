"""The network or module of an experiment file, without its data and trainer."""

from __future__ import annotations

from pathlib import Path

import yaml
from jsonargparse import ArgumentParser

from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["module_of_config", "network_of_config"]


def network_of_config(path: str | Path) -> SRNetwork:
    """Build the network of an experiment file, and nothing else of it.

    Raises:
        UserError: the file is missing or has no ``model`` that can be built.
    """
    network = module_of_config(path).network
    assert isinstance(network, SRNetwork)
    return network


def module_of_config(path: str | Path) -> SRModule:
    """Build the Lightning module of an experiment file, and nothing else of it.

    Raises:
        UserError: the file is missing or has no ``model`` that can be built.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The experiment file {path} does not exist; check the path.")
    section = (yaml.safe_load(path.read_text()) or {}).get("model")
    if not section:
        raise UserError(f"{path} has no 'model' section.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SRModule, "model")
    module = parser.instantiate(parser.parse_object({"model": section})).model
    assert isinstance(module, SRModule)
    return module
