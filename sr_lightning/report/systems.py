"""All systems of the papers at all scales: size, cost, time on a machine, and trained quality."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sr_lightning.experiments import experiment_file, experiment_files
from sr_lightning.nn.complexity import HR_720P
from sr_lightning.nn.network import SRNetwork
from sr_lightning.report.document import Named, Number, Provenance, Record, Table
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.zoo_view import measured_of, quality_cells
from sr_lightning.studies.complexity import batch_of, shown_scales
from sr_lightning.studies.published_cells import label_text
from sr_lightning.studies.speeds import Machine, SpeedFile, SpeedRow
from sr_lightning.training.speed import NTIRE_LR
from sr_lightning.weights.zoo import PROTOCOL, SETS, WeightRecord

__all__ = ["ntire_score", "systems_tables"]

# inferred: the challenge's baselines, RLFN and later EFDN, are not of this suite; IMDN, that of its
# first years, stands in their place, timed on the same machine.
_BASELINE = "imdn_x4"
_CHALLENGE_SCALE = 4
# Of runtime, FLOPs and parameters.
_SCORE_WEIGHTS = (0.7, 0.15, 0.15)
_MOST_SCORE = 1000
_PAPERS = "sr_lightning.papers."
_SIZE = f"{HR_720P[1]} x {HR_720P[0]} output"


def systems_tables(evidence: Evidence) -> tuple[Table, ...]:
    """A table for each machine that times were measured on; none without such times.

    Args:
        evidence: What was measured.

    Raises:
        UserError: a file of times is damaged.
    """
    files = SpeedFile.all(evidence.ledger.folder)
    tables = (made for file in files for made in (_table(evidence, file), _efficiency(file)))
    return tuple(table for table in tables if table.rows)


def _efficiency(file: SpeedFile) -> Table:
    """What the NTIRE challenges on efficient super-resolution ask of a network."""
    baseline = file.of(_BASELINE, _CHALLENGE_SCALE)
    timed = [r for r in file.rows if r.scale == _CHALLENGE_SCALE and r.ntire is not None]
    return Table.of(
        f"efficiency/{file.machine.slug}",
        f"Efficiency on {file.machine.name}, as the NTIRE challenges count it",
        f"x{_CHALLENGE_SCALE}, an LR image of {NTIRE_LR[1]} x {NTIRE_LR[0]}. FLOPs: "
        "multiply-accumulates; activations: outputs of all convolutions; memory: most of the "
        f"tensors that are there at a time; runtime: {file.machine.seconds.lower()} of "
        f"{file.machine.name}, float32, median. Score: NTIRE 2024's formula with {_BASELINE} as "
        "baseline, lower is better.",
        ("experiment",),
        [
            ((row.experiment,), _efficiency_cells(file.machine, row, baseline))
            for row in sorted(timed, key=lambda row: row.ntire or 0)
        ],
    )


def _efficiency_cells(machine: Machine, row: SpeedRow, baseline: SpeedRow | None) -> Record:
    assert row.ntire is not None
    facts = (("machine", machine.name), ("torch", row.torch), ("code", row.code))
    timed = Provenance(f"Timed: {row.experiment} x{row.scale:g}", facts)
    score = None if baseline is None else ntire_score(row, baseline)
    shown = "" if score is None else f"{score:,.2f}"
    if score is not None and score >= _MOST_SCORE:
        shown = f"over {_MOST_SCORE:,}"
    return {
        "parameters": Number(row.ntire_parameters, "parameters", "computed"),
        "FLOPs (G)": f"{row.ntire_macs / 1e9:,.2f}",
        "activations (M)": f"{row.ntire_activations / 1e6:,.1f}",
        "memory (MiB)": f"{row.ntire_memory / 2**20:,.0f}",
        "runtime (ms)": Number(float(f"{1000 * row.ntire:.3g}"), "", "measured", origin=timed),
        "score": shown,
    }


def ntire_score(row: SpeedRow, baseline: SpeedRow) -> float | None:
    """The score of the NTIRE challenges on efficient super-resolution; less is better.

    Source: the ranking of the NTIRE 2024 challenge (arXiv:2404.10343), kept in 2025 and 2026. Of
    runtime, FLOPs and parameters each is set over that of a baseline network, ``exp(2 * ratio)`` is
    its score, and 0.7, 0.15 and 0.15 of the three scores are added up: the baseline has e^2, 7.39.
    FLOPs are multiply-accumulates for an LR image of 256 x 256 at x4, as the challenge's counter
    has them.

    Args:
        row: Times and counts of the network.
        baseline: Those of the baseline on the same machine.

    Returns:
        The score, or None where one of the two was not timed.
    """
    if row.ntire is None or baseline.ntire is None:
        return None
    ratios = (
        row.ntire / baseline.ntire,
        row.ntire_macs / baseline.ntire_macs,
        row.ntire_parameters / baseline.ntire_parameters,
    )
    try:
        scores = [math.exp(2 * ratio) for ratio in ratios]
    except OverflowError:
        return math.inf
    return sum(weight * score for weight, score in zip(_SCORE_WEIGHTS, scores, strict=True))


@dataclass(frozen=True)
class _System:
    """An experiment's network at one scale, its batch, and its times where they were measured."""

    experiment: str
    network: SRNetwork
    scale: float
    parameters: int
    macs: int
    batch: tuple[int, int]
    timed: SpeedRow | None

    @property
    def paper(self) -> str:
        """The room of its paper in capitals, or "compared" for the compared networks."""
        module = type(self.network).__module__
        if not module.startswith(_PAPERS):
            return "compared"
        return module.removeprefix(_PAPERS).partition(".")[0].upper()


def _table(evidence: Evidence, file: SpeedFile) -> Table:
    systems = sorted(_systems(evidence, file), key=lambda s: (s.paper == "compared", s.paper))
    return Table.of(
        f"systems/{file.machine.slug}",
        f"All systems on {file.machine.name}",
        _caption(file.machine, [s.timed for s in systems if s.timed is not None]),
        ("paper", "experiment", "scale"),
        [_row(evidence, file.machine, system) for system in systems],
        group=0,
    )


def _systems(evidence: Evidence, file: SpeedFile) -> Iterator[_System]:
    """Every system of the papers, then the compared networks that were timed."""
    files = experiment_files(evidence.root)
    own = sorted(path.stem for path in files if _PAPERS in path.read_text())
    others = {row.experiment for row in file.rows} - set(own)
    for name in (*own, *sorted(others)):
        network = evidence.network(name)
        if network is None:
            continue
        batch = batch_of(str(experiment_file(evidence.root, name)))
        for scale in shown_scales(network):
            timed = file.of(name, scale)
            if timed is not None and timed.is_of(network):
                counts = timed.counts
            else:
                cost = evidence.cost(name, scale=scale)
                assert cost is not None
                counts = (cost.parameters, cost.macs)
                # Or the experiment has another network now.
                timed = timed if timed is not None and timed.counts == counts else None
            if timed is not None or name in own:
                yield _System(name, network, scale, *counts, batch, timed)


def _row(evidence: Evidence, machine: Machine, system: _System) -> Named:
    weights = _weights(evidence, system)
    patch, batch = system.batch
    facts = (
        ("experiment", system.experiment),
        ("network", type(system.network).__name__),
        ("parameters", f"{system.parameters:,}"),
        ("MACs", f"{system.macs:,} for a {_SIZE}, true count"),
    )
    origin = Provenance(f"Counted from the network of {system.experiment}, no run needed", facts)
    heads = [(name, metric) for name in SETS for metric in ("PSNR (dB)", "SSIM")]
    return (system.paper, system.experiment, label_text("scale", system.scale)), {
        "parameters": Number(system.parameters, "parameters", "computed", origin=origin),
        "MACs": Number(system.macs, "macs", "computed", origin=origin),
        "batch": f"{batch} x {patch}" if system.scale in system.network.scales else "",
        "step (s)": _seconds(machine, system, "step"),
        "image (s)": _seconds(machine, system, "image"),
        "weights": f"{weights.name}{' (preview)' * weights.preview}" if weights else "",
        **dict(zip(heads, quality_cells(weights, system.scale), strict=True)),
    }


def _seconds(machine: Machine, system: _System, what: str) -> Number | None:
    """A time with its origin, "not timed", or nothing at a scale that is not trained at."""
    row = system.timed
    if row is None or (what == "step" and (row.patch, row.batch) != system.batch):
        return Number(kind="measured", word="not timed")
    seconds = row.step if what == "step" else row.image
    if seconds is None:
        is_missing = what == "image" or system.scale in system.network.scales
        return Number(kind="measured", word=f"over {row.limit:g}") if is_missing else None
    of = f"{row.batch} LR patches of {row.patch}" if what == "step" else "one 320 x 180 LR image"
    facts = [
        ("machine", machine.name),
        ("clock", machine.seconds),
        ("of", of),
        ("core", "" if row.core_share is None else f"{row.core_share:.0%} of its time was ours"),
        ("precision", "float32, channels last"),
        ("torch", row.torch),
        ("code", f"{row.code}{'' if row.is_of(system.network) else ', changed since'}"),
    ]
    return Number(
        float(f"{seconds:.3g}"),
        "seconds",
        "measured",
        origin=Provenance(
            f"Timed: {system.experiment} x{system.scale:g}, {what}",
            tuple((name, fact) for name, fact in facts if fact),
        ),
    )


def _weights(evidence: Evidence, system: _System) -> WeightRecord | None:
    """The weights that came from the experiment and were measured at the scale."""
    for record in evidence.weights.values():
        experiments = re.findall(r"experiments/(?:compared/)?([\w-]+)\.yaml", record.recipe)
        fits = system.experiment in experiments and record.parameters == system.parameters
        if fits and any(measured_of(record, name, system.scale) for name in SETS):
            return record
    return None


def _caption(machine: Machine, rows: list[SpeedRow]) -> str:
    versions = ", ".join(sorted({row.torch for row in rows}))
    shares = [row.core_share for row in rows if row.core_share is not None]
    text = (
        f"{machine.seconds} on {machine.name}, float32, channels last, PyTorch {versions}: a step "
        "is forward, L1 of all predictions, backward and Adam on the experiment's batch (patches x "
        "side in LR pixels); an image is 320 x 180 LR pixels. 'over' is what takes longer than the "
        "limit that was set, and was not measured. "
    )
    if shares and min(shares) < 0.95:
        text += (
            "Other work ran on the machine: of the wall time of a measurement "
            f"{min(shares):.0%} to {max(shares):.0%} was ours. "
        )
    return (
        f"{text}MACs are for a {_SIZE}, without biases and bicubic interpolation. PSNR "
        f"and SSIM: protocol {PROTOCOL}, of the weights that come with the package."
    )
