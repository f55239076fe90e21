"""Weight files: safetensors that say which network they belong to, checkpoints, others' files.

Nothing that a file says is executed: checkpoints are read with ``weights_only``, and the class
named in a file must be a network of this package, of one that registered its networks, or of a
module that the user named (``--plugin``). A checkpoint in a run's folder may also name what the
run's own config names, from the Python files of the current folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sr_lightning.classes import (
    find_class,
    is_allowed,
    named_classes,
    own_modules,
    trusted_modules,
)
from sr_lightning.errors import UserError
from sr_lightning.files import read_yaml, user_path, write_whole
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.formats import read_external
from sr_lightning.weights.formats.external import check_numbers, not_real

__all__ = [
    "build_network",
    "check_fit",
    "describe_network",
    "load_network",
    "network_bytes",
    "network_to_count",
    "read_weights",
    "save_network",
]

# What a weight file may name without being asked; an adapted module may be one of torch's layers.
_OF_WEIGHTS = ("sr_lightning", "torch.nn")

# No argument of a network is as large: widths, numbers of layers, levels of 8 bits.
_LARGEST = 4096


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a network from a weight file of any kind, under the names of this suite.

    Raises:
        UserError: the file is missing, damaged or holds no network.
    """
    from sr_lightning.weights.state_dict_maps import recognised

    content = read_external(user_path(path))
    if content.network is None and recognised(content) is not None:
        return dict(load_network(path).state_dict())
    return content.tensors


def load_network(path: str | Path) -> SRNetwork:
    """Build the network that a weight file of any kind is of, with its weights, for use.

    Args:
        path: Safetensors or a checkpoint of this suite, which say what network they are, or a file
            that authors released, recognised by its tensors.

    Raises:
        UserError: the file is missing or damaged, is of a network that is not known, or does not
            fit it tensor by tensor.
    """
    content = read_external(user_path(path))
    if content.network is None:
        # Late: ours do not need all compared networks.
        from sr_lightning.weights.convert import network_of

        return network_of(content)[0]
    network = build_network(content.network, content.path)
    check_fit(network.state_dict(), content.tensors, content.path)
    network.load_state_dict(content.tensors)
    return network.eval()


def network_to_count(path: str | Path) -> SRNetwork:
    """Build the network that a weight file of this suite names, without memory for its weights.

    Args:
        path: As :func:`load_network` takes it; of other files the weights are loaded, too.

    Raises:
        UserError: see :func:`load_network`.
    """
    content = read_external(user_path(path))
    if content.network is not None:
        try:
            with torch.device("meta"):
                return build_network(content.network, content.path)
        except (UserError, NotImplementedError):
            # Some constructors look at numbers, which are not there on the meta device.
            pass
    return load_network(path)


def save_network(network: SRNetwork, path: str | Path) -> None:
    """Write a network as safetensors with what is needed to build it again.

    Args:
        network: Weights are written in float32.
        path: Ending in ``.safetensors``.

    Raises:
        UserError: it cannot be written.
    """
    # Its save_file makes files that only their owner can read.
    write_whole(Path(path), network_bytes(network))


def network_bytes(network: SRNetwork) -> bytes:
    """The content of a weight file: a network's weights in float32, and what builds it again."""
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous()
        for name, value in network.state_dict().items()
    }
    return save(tensors, {"network": json.dumps(describe_network(network))})


def describe_network(network: SRNetwork) -> dict[str, Any]:
    """Class and constructor arguments of a network, as plain data."""
    kind = type(network)
    return {
        "class_path": f"{kind.__module__}.{kind.__qualname__}",
        "init_args": dict(network.config),
    }


def build_network(description: dict[str, Any], source: Path) -> SRNetwork:
    """Build a network from its description, with fresh weights.

    Args:
        description: Description as :func:`describe_network` gives it.
        source: File to name in errors.

    Raises:
        UserError: it names something that is no network or may not be named, or does not fit it.
    """
    kind = _network_class(description, source)
    given = description.get("init_args", {})
    try:
        arguments = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        _refuse_huge(arguments)
        network: SRNetwork = kind(**arguments)
        if not all(scale >= 1 for scale in network.scales):
            # No tensor's shape tells it of most networks.
            raise ValueError(f"scales are numbers from 1 on, not {network.scales}")
    except Exception as error:
        # The arguments are the file's, and can be anything.
        raise UserError(
            f"{source} wants a {kind.__name__} that cannot be built: {error}."
        ) from error
    return network


def _refuse_huge(value: Any) -> None:
    """Refuse numbers that would make a network too large for any machine."""
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise ValueError(f"{value} is beyond reason")
    if isinstance(value, dict | tuple | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_huge(inner)


def _network_class(description: Any, source: Path) -> type[SRNetwork]:
    """The class that weights name, if they may name it and everything it is made of."""
    if not isinstance(description, dict) or "class_path" not in description:
        raise UserError(f"{source} does not say which network it belongs to; fetch it again.")
    allowed = trusted_modules(_OF_WEIGHTS)
    run = _run_of(source)
    if run is not None and _short(named_classes(description)) <= _named_by(run / "config.yaml"):
        allowed += own_modules(run)
    for path in named_classes(description):
        if not is_allowed(path, allowed):
            module = path.rpartition(".")[0]
            if not module:
                raise UserError(
                    f"{source} belongs to '{path:.80}', which is no class; fetch it again."
                )
            raise UserError(
                f"{source} belongs to '{path}', which is neither of this suite nor named by the "
                f"config of a run around it; if you trust the code of '{module}', add --plugin "
                f"{module}, in the folder of its file."
            )
    try:
        return find_class(str(description["class_path"]), SRNetwork, allowed)
    except UserError as error:
        raise UserError(f"{source} cannot be used: {error}") from error


def _run_of(weights: Path) -> Path | None:
    """The folder of the run that a checkpoint lies in."""
    folders = (weights.absolute().parent, weights.absolute().parent.parent)
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def _named_by(config: Path) -> set[tuple[str, str]]:
    try:
        return _short(named_classes(read_yaml(config)))
    except UserError:
        return set()


def _short(paths: Iterable[str]) -> set[tuple[str, str]]:
    """Package and name of classes: a config may name the package that gives a class out."""
    return {(path.partition(".")[0], path.rpartition(".")[2]) for path in paths}


def check_fit(own: Mapping[str, Tensor], weights: Mapping[str, Any], source: str | Path) -> None:
    """Refuse weights that are not, tensor by tensor, those of a network.

    Args:
        own: State of the network.
        weights: Weights as read from a file.
        source: File to name in errors.

    Raises:
        UserError: a tensor is missing, surplus, or of another shape or kind, or is not finite.
    """
    missing = sorted(set(own) - set(weights))
    surplus = sorted(set(weights) - set(own))
    problems = [f"missing {name}" for name in missing] + [f"surplus {name}" for name in surplus]
    problems += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{source} does not fit its network: {', '.join(problems[:3])}{more}.")
    check_numbers(weights, source)
    for name, value in weights.items():
        if own[name].is_floating_point() and not value.is_floating_point():
            raise UserError(not_real(source, name, value))
