"""Authors' weights as networks and safetensors of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.files import user_path, write_json
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.files import describe_network, save_network
from sr_lightning.weights.formats import ExternalWeights, read_external
from sr_lightning.weights.state_dict_maps import RELEASES, Release

__all__ = ["ConversionRecord", "convert", "network_from_release"]


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
        source_format: "pytorch", "matlab5", "matlab7.3" or "caffe".
        origin: Where its authors released it.
        licence: Licence of that place, as far as stated.
    """

    network: dict[str, Any]
    scales: tuple[float, ...]
    parameters: int
    sha256: str
    source: str
    source_sha256: str
    source_format: str
    origin: str
    licence: str


def network_from_release(
    path: str | Path,
    arch: str,
    scale: int | Sequence[int] | None = None,
    **arguments: Any,
) -> SRNetwork:
    """Build a network with the weights that its authors released.

    Args:
        path: Their file: a PyTorch state dict, a MATLAB file or a Caffe model.
        arch: Which network it is, one of ``RELEASES``.
        scale: Scale that it upscales by; default: what the file tells, or all that the network is
            for.
        **arguments: Arguments of the network's constructor, where the file does not tell them.

    Raises:
        UserError: the file cannot be read, or does not fit the network tensor by tensor.
    """
    release = _release(arch)
    return _network(read_external(path), release, scale, arguments)


def convert(
    path: str | Path,
    arch: str,
    out: str | Path,
    scale: int | Sequence[int] | None = None,
    **arguments: Any,
) -> ConversionRecord:
    """Write authors' weights as safetensors, and a record as JSON beside it.

    Args:
        path: Their file.
        arch: Which network it is, one of ``RELEASES``.
        out: Ending in ``.safetensors``.
        scale: See :func:`network_from_release`.
        **arguments: The same.

    Raises:
        UserError: the file cannot be read or does not fit, or `out` ends otherwise. Nothing is
            written then.
    """
    out = user_path(out)
    if out.suffix != ".safetensors":
        raise UserError(f"Converted weights are safetensors; {out} must end in .safetensors.")
    release = _release(arch)
    weights = read_external(path)
    network = _network(weights, release, scale, arguments)
    save_network(network, out)
    record = ConversionRecord(
        network=describe_network(network),
        scales=network.scales,
        parameters=parameter_count(network, trainable=False),
        sha256=_sha256(out),
        source=weights.path.name,
        source_sha256=_sha256(weights.path),
        source_format=weights.format,
        origin=release.origin,
        licence=release.licence,
    )
    write_json(out.with_suffix(".json"), asdict(record))
    return record


def _release(arch: str) -> Release:
    if arch not in RELEASES:
        raise UserError(f"There is no converter for '{arch}'; there are {', '.join(RELEASES)}.")
    return RELEASES[arch]


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
        stated = release.arguments(weights)
        for key, value in given.items():
            if key in stated and stated[key] != value:
                raise UserError(f"{weights.path} is for {key} {stated[key]}, not {value}.")
        network = release.network(**{**stated, **given})
        state = release.translate(network, weights)
    except UserError:
        raise
    except Exception as error:
        # Shapes and names are the file's, and arguments the user's: they can be anything.
        raise UserError(
            f"{weights.path} is no {release.title} that can be built: {error}"
        ) from error
    network.load_state_dict(state)
    return network.eval()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
