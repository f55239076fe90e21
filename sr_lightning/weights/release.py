"""``sr-lightning weights release``: a finished run becomes weights that come with the package.

The best checkpoint and the test results of a run make the record; nothing in it is typed by hand
but notes.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.files import as_type, read_yaml
from sr_lightning.nn.complexity import parameter_count
from sr_lightning.runs import RunFolder
from sr_lightning.weights.files import load_network, network_bytes
from sr_lightning.weights.zoo import PROTOCOL, Stage, WeightRecord, find_weights

__all__ = ["release"]

# VDSR's published Set5 PSNR by scale: weaker weights are for trying out.
_VDSR = {2: 37.53, 3: 33.66, 4: 31.35}


def release(
    run: Path, name: str, *, data_licence: str, recipe: str, notes: str = ""
) -> WeightRecord:
    """Write the weights and the record of a run that was trained and tested.

    Args:
        run: Folder with checkpoints, ``provenance.json`` and ``results/summary.json``.
        name: Name of the record.
        data_licence: Rights in the training images.
        recipe: Command that trained it.
        notes: Anything else.

    Raises:
        UserError: something is missing, it started from weights that are not of the zoo, or
            weights of that name are as good or better under the same protocol.
    """
    checkpoint = _only(run / "checkpoints", "best_*.ckpt")
    summary = RunFolder(run).summary()
    facts = RunFolder(run).provenance()
    config = read_yaml(run / "config.yaml", "config")
    network = load_network(checkpoint)
    content = network_bytes(network)
    digest = hashlib.sha256(content).hexdigest()
    known = find_weights(name)
    if known is not None and known.sha256 == digest:
        # As by an earlier call that was broken off afterwards.
        return known
    try:
        measured = _measured(summary)
        if known is not None:
            _refuse_worse(known, measured)
        sittings, data = facts["sittings"], config["data"]["init_args"]
        record = WeightRecord(
            name=name,
            network=type(network).__name__,
            scales=tuple(network.scales),
            parameters=parameter_count(network),
            sha256=digest,
            training_data=", ".join(
                f"{group} ({fact['images']})" for group, fact in facts["data"]["train"].items()
            ),
            data_licence=data_licence,
            recipe=recipe,
            steps=int(checkpoint.name.partition("step=")[2].partition("_")[0]),
            batch=data["batch_size"],
            patch=data["patch_size"],
            hours=round(sum(sitting["seconds"] for sitting in sittings) / 3600, 2),
            hardware="; ".join(dict.fromkeys(sitting["hardware"] for sitting in sittings)),
            commit=sittings[-1]["commit"],
            measured=measured,
            preview=_is_preview(measured),
            notes=notes,
            arbitrary_scale=network.arbitrary_scale,
            stages=_stages(facts),
        )
        # As its reader will look at it.
        as_type(asdict(record), WeightRecord, "The record")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"The files of the run {run} do not tell all that a record needs ({error}): its "
            "config, provenance and results must be as training and test left them."
        ) from error
    record.write(content)
    return record


def _stages(facts: dict[str, Any]) -> tuple[Stage, ...]:
    start = facts.get("start")
    if start is None:
        return ()
    if not start["stages"]:
        raise UserError(
            f"It started from {start['init_from']}, of which nothing is known; "
            "release the training that made it first."
        )
    return tuple(Stage(**stage) for stage in start["stages"])


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UserError(f"{folder} should hold one {pattern}, but holds {len(found)}.")
    return found[0]


def _measured(summary: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Cells ``{protocol: {Set5_x4: {psnr, ssim, bicubic_psnr, bicubic_ssim, images}}}``."""
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for row in summary["means"]:
        cell = cells.setdefault(row["protocol"], {}).setdefault(
            f"{row['set']}_x{row['scale']:g}", {}
        )
        prefix = "bicubic_" if row["method"] == "bicubic" else ""
        cell[f"{prefix}psnr"] = round(row["psnr"], 4)
        cell[f"{prefix}ssim"] = round(row["ssim"], 5)
        cell["images"] = row["images"]
    return cells


def _refuse_worse(known: WeightRecord, measured: dict[str, dict[str, dict[str, float]]]) -> None:
    old, new = known.measured.get(PROTOCOL, {}), measured.get(PROTOCOL, {})
    shared = [cell for cell in old if cell in new and cell.startswith("Set5")]
    if shared and all(old[cell]["psnr"] >= new[cell]["psnr"] for cell in shared):
        raise UserError(f"The weights '{known.name}' that are there are as good or better.")


def _is_preview(measured: dict[str, dict[str, dict[str, float]]]) -> bool:
    cells = measured.get(PROTOCOL, {})
    known = {scale: cells.get(f"Set5_x{scale}", {}).get("psnr") for scale in _VDSR}
    reached = {scale: psnr for scale, psnr in known.items() if psnr is not None}
    return not reached or any(psnr < _VDSR[scale] for scale, psnr in reached.items())
