"""Weights from and to the Hugging Face hub: safetensors and a model card (the extra ``hub``)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.files import json_text, user_path, write_all
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.nn.network import SRNetwork
from sr_lightning.weights.authors import find_released
from sr_lightning.weights.community import CommunityNetwork
from sr_lightning.weights.files import describe_network, network_bytes
from sr_lightning.weights.zoo import WeightRecord, find_weights, load_weights

__all__ = ["fetched", "push", "save_pretrained"]

_FILE = "model.safetensors"
# Names of licences as the hub knows them.
_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}


def fetched(repository: str) -> Path:
    """The weight file of a repository on the hub, from its cache where it is there already.

    Args:
        repository: As ``user/name`` or ``user/name@revision``.

    Raises:
        UserError: the hub cannot be reached, or has no such file.
    """
    hub = _hub()
    name, _, revision = repository.partition("@")
    try:
        return Path(hub.hf_hub_download(name, _FILE, revision=revision or None))
    except Exception as error:
        raise _refused(f"hf:{repository} cannot be fetched", error) from error


def save_pretrained(weights: str | SRNetwork, folder: str | Path) -> Path:
    """Write weights as the hub has them: ``model.safetensors``, ``config.json``, a model card.

    ``load`` takes such a folder, and ``push`` publishes it.

    Args:
        weights: What ``load`` takes, or a network.
        folder: Folder to write; other files in it are left alone.

    Returns:
        The folder.

    Raises:
        UserError: there are no such weights, they are a community model, or the folder cannot be
            written.
    """
    folder = user_path(folder)
    name = folder.name if isinstance(weights, SRNetwork) else weights
    network = weights if isinstance(weights, SRNetwork) else load_weights(weights)
    if isinstance(network, CommunityNetwork):
        raise UserError(
            f"{name} is a {type(network).__name__} of spandrel, which files of this suite cannot "
            "describe; pass its own file on."
        )
    write_all(
        {
            folder / _FILE: network_bytes(network),
            folder / "config.json": json_text(describe_network(network)),
            folder / "README.md": _card(name, network),
        }
    )
    return folder


def push(weights: str | SRNetwork, repository: str) -> str:
    """Publish weights on the hub, with a model card made from their record.

    Args:
        weights: What ``load`` takes, or a network.
        repository: As ``user/name``; it is made where it is not there.

    Returns:
        Its address.

    Raises:
        UserError: the hub cannot be reached or does not take them, or their licence does not say
            that they may be passed on.
    """
    import tempfile

    released = find_released(weights) if isinstance(weights, str) else None
    if released is not None and _licence_of(weights) not in _LICENCES:
        raise UserError(
            f"{weights} belongs to its authors, and its licence is {_licence_of(weights)}: it may "
            "not be published here; name a folder to keep it for yourself."
        )
    hub = _hub()
    with tempfile.TemporaryDirectory() as made:
        folder = save_pretrained(weights, Path(made) / repository.rpartition("/")[2])
        try:
            hub.create_repo(repository, exist_ok=True)
            hub.upload_folder(repo_id=repository, folder_path=folder)
        except Exception as error:
            raise _refused(f"hf:{repository} cannot be published", error) from error
    return f"hf:{repository}"


def _card(name: str, network: SRNetwork) -> str:
    """The model card, in Markdown with the metadata that the hub reads."""
    record, released = find_weights(name), find_released(name)
    known: Any = record or released
    licence = _licence_of(name)
    metadata = {
        "license": _LICENCES.get(licence, "other"),
        "library_name": "sr-lightning",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", type(network).__name__.lower()],
    }
    scales = ", ".join(f"x{scale:g}" for scale in network.scales)
    lines = [
        "---",
        # JSON is YAML.
        *(f"{key}: {json.dumps(value)}" for key, value in metadata.items()),
        "---",
        f"# {name}",
        "",
        f"{type(network).__name__} {scales} for single-image super-resolution, "
        f"{parameter_count(network, trainable=False):,} parameters. Licence: {licence}.",
        "",
        "```python",
        "from PIL import Image",
        "from sr_lightning import upscale",
        "",
        f'upscale(Image.open("photo.png"), "hf:USER/{name}").save("large.png")',
        "```",
        "",
    ]
    if released is not None:
        lines += [f"Released by the authors: {released.source}.", ""]
    if isinstance(record, WeightRecord):
        facts = ("recipe", "steps", "training_data", "data_licence", "hardware", "commit", "notes")
        given = asdict(record)
        lines += [f"- {key.replace('_', ' ')}: {given[key]}" for key in facts if given[key]]
        lines += [""]
    for protocol, cells in (known.measured if known is not None else {}).items():
        lines += [
            f"Measured under `{protocol}`:",
            "",
            "| set | PSNR (dB) | SSIM |",
            "|---|---|---|",
        ]
        lines += [
            f"| {cell.replace('_', ' ')} | {found['psnr']:.2f} | {found['ssim']:.4f} |"
            for cell, found in cells.items()
            if "psnr" in found
        ]
        lines += [""]
    return "\n".join(lines)


def _licence_of(weights: object) -> str:
    from sr_lightning.weights.state_dict_maps import RELEASES

    name = str(weights)
    record, released = find_weights(name), find_released(name)
    if released is not None:
        return RELEASES[released.arch].licence
    return "not stated" if record is None else record.licence


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            "The Hugging Face hub needs huggingface_hub; install it with pip install "
            "'sr-lightning[hub]'."
        ) from error
    return huggingface_hub


def _refused(what: str, error: Exception) -> UserError:
    # Of the hub's own errors, and those of the libraries below it, the first sentence says why.
    lines = (line for line in str(error).splitlines() if line.strip())
    reason = next(lines, type(error).__name__).partition(". ")[0].rstrip(".")
    return UserError(f"{what}: {reason}; check the name, the connection and 'hf auth login'.")
