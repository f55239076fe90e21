"""Authors' weights as networks and safetensors of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.files import json_text, user_path, write_all
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.files import describe_network, network_bytes
from sr_lightning.weights.formats import ExternalWeights, read_external
from sr_lightning.weights.state_dict_maps import RELEASES, Release, recognised

__all__ = ["ConversionRecord", "convert", "network_from_release", "network_of"]


@dataclass(frozen=True)
class ConversionRecord:
    """What is known of a converted file; written beside it.

    Attributes:
        network: Class and constructor arguments.
        scales: Scales that it upscales by.
        parameters: Trainable parameters.
        sha256: SHA-256 of the safetensors file.
        source: Name of the file that it was made from.
        source_sha256: SHA-256 of that file.
        source_format: "pytorch", "safetensors", "matlab5", "matlab7.3" or "caffe".
        arch: Which release it is of.
        origin: Where its authors released it.
        licence: Licence of that place, as far as stated.
        choices: What the file does not tell, and was taken.
    """

    network: dict[str, Any]
    scales: tuple[float, ...]
    parameters: int
    sha256: str
    source: str
    source_sha256: str
    source_format: str
    arch: str
    origin: str
    licence: str
    choices: dict[str, Any] = field(default_factory=dict)


def network_from_release(
    path: str | Path,
    arch: str | None = None,
    scale: int | Sequence[int] | None = None,
    **arguments: Any,
) -> SRNetwork:
    """Build a network with the weights that its authors released.

    Args:
        path: Their file: a PyTorch state dict, a MATLAB file or a Caffe model.
        arch: Which network it is, one of ``RELEASES``; default: the one whose tensors it has.
        scale: Scale that it upscales by; default: what the file tells, or all that the network is
            for.
        **arguments: Arguments of the network's constructor, where the file does not tell them.

    Raises:
        UserError: the file cannot be read, or does not fit the network tensor by tensor.
    """
    _check_arch(arch)
    return network_of(read_external(path), arch, scale, **arguments)[0]


def network_of(
    weights: ExternalWeights,
    arch: str | None = None,
    scale: int | Sequence[int] | None = None,
    **arguments: Any,
) -> tuple[SRNetwork, str]:
    """Build a network with weights of a release, and say which release that is.

    Args:
        weights: Content of the file.
        arch: See :func:`network_from_release`.
        scale: The same.
        **arguments: The same.

    Raises:
        UserError: it is of no release that is known, or does not fit its network.
    """
    if weights.network is not None:
        raise UserError(f"{weights.path} is of this suite already; use it as it is.")
    _refuse_endless(weights)
    found = recognised(weights, arch)
    if found is None and arch is None:
        from sr_lightning.weights.community import community_network

        return community_network(weights), "community"
    name, bare = (arch, weights) if found is None else found
    assert name is not None
    return _network(bare, RELEASES[name], scale, arguments), name


def convert(
    path: str | Path,
    out: str | Path,
    arch: str | None = None,
    scale: int | Sequence[int] | None = None,
    **arguments: Any,
) -> ConversionRecord:
    """Write authors' weights as safetensors, and a record as JSON beside it.

    Args:
        path: Their file.
        out: Ending in ``.safetensors``.
        arch: See :func:`network_from_release`.
        scale: See :func:`network_from_release`.
        **arguments: The same.

    Raises:
        UserError: the file cannot be read or does not fit, or `out` ends otherwise. Nothing is
            written then.
    """
    out = user_path(out)
    if out.suffix != ".safetensors":
        raise UserError(f"Converted weights are safetensors; {out} must end in .safetensors.")
    _check_arch(arch)
    weights = read_external(path)
    network, name = network_of(weights, arch, scale, **arguments)
    if name not in RELEASES:
        raise UserError(
            f"{weights.path} is a {type(network).__name__}, which this suite has not; use the file "
            "as it is, it need not be converted."
        )
    release = RELEASES[name]
    _, bare = recognised(weights, name) or (name, weights)
    chosen = {**release.choices(bare), **arguments}
    content = network_bytes(network)
    record = ConversionRecord(
        network=describe_network(network),
        scales=network.scales,
        parameters=parameter_count(network, trainable=False),
        sha256=hashlib.sha256(content).hexdigest(),
        source=weights.path.name,
        source_sha256=_sha256(weights.path),
        source_format=weights.format,
        arch=name,
        origin=release.origin,
        licence=release.licence,
        choices={key: network.config.get(key, value) for key, value in chosen.items()},
    )
    write_all({out: content, out.with_suffix(".json"): json_text(asdict(record))})
    return record


def _check_arch(arch: str | None) -> None:
    if arch is not None and arch not in RELEASES:
        raise UserError(f"There is no converter for '{arch}'; there are {', '.join(RELEASES)}.")


def _network(
    weights: ExternalWeights,
    release: Release,
    scale: int | Sequence[int] | None,
    arguments: dict[str, Any],
) -> SRNetwork:
    given = dict(arguments)
    if scale is not None:
        several = [scale] if isinstance(scale, int) else list(scale)
        given["scale"] = several[0] if len(several) == 1 else tuple(several)
    try:
        return release.build(weights, given)
    except UserError:
        raise
    except Exception as error:
        # Shapes and names are the file's, and arguments the user's: they can be anything.
        raise UserError(
            f"{weights.path} is no {release.title} that can be built: {error}"
        ) from error


def _refuse_endless(weights: ExternalWeights) -> None:
    """Refuse names that number far more layers than a file has: all of them would be built."""
    numbers = (int(n) for name in weights.tensors for n in re.findall(r"\d{1,18}", name))
    if max(numbers, default=0) > 4 * len(weights.tensors) + 64:
        raise UserError(f"{weights.path} is damaged: it numbers layers that it has not.")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
