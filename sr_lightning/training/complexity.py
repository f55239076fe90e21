"""The network of an experiment file, without its data and trainer."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentParser

from sr_lightning.errors import UserError
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.module import SRModule

__all__ = ["network_of_config"]


def network_of_config(path: str | Path) -> SRNetwork:
    """Build the network of an experiment file, and nothing else of it.

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
    assert isinstance(module, pl.LightningModule)
    network = module.network
    assert isinstance(network, SRNetwork)
    return network
