"""All systems of the papers at all scales: size, cost, time on a machine, and trained quality."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sr_lightning.experiments import experiment_file, experiment_files
from sr_lightning.nn.complexity import HR_720P
from sr_lightning.nn.network import SRNetwork
from sr_lightning.report.document import Number, Provenance, Row, Table
from sr_lightning.report.measurements import Evidence
from sr_lightning.report.zoo_view import measured_of, quality_cells
from sr_lightning.studies.complexity import batch_of, shown_scales
from sr_lightning.studies.efficiency import BASELINE, SCALE, ntire_score
from sr_lightning.studies.published_cells import label_text
from sr_lightning.studies.speeds import Machine, SpeedFile, SpeedRow
from sr_lightning.training.speed import NTIRE_LR
from sr_lightning.weights.zoo import PROTOCOL, SETS, WeightRecord

__all__ = ["systems_tables"]

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
    baseline = file.of(BASELINE, SCALE)
    timed = [row for row in file.rows if row.scale == SCALE and row.ntire is not None]
    heads = ("parameters", "FLOPs (G)", "activations (M)", "memory (MiB)", "runtime (ms)", "score")
    return Table(
        name=f"efficiency/{file.machine.slug}",
        title=f"Efficiency on {file.machine.name}, as the NTIRE challenges count it",
        source=(
            f"x{SCALE}, an LR image of {NTIRE_LR[1]} x {NTIRE_LR[0]}. FLOPs: multiply-accumulates; "
            "activations: outputs of all convolutions; memory: most of the tensors that are there "
            f"at a time; runtime: {file.machine.seconds.lower()} of {file.machine.name}, float32, "
            f"median. Score: NTIRE 2024's formula with {BASELINE} as baseline, lower is better."
        ),
        stubs=("experiment",),
        columns=tuple(("", head) for head in heads),
        rows=tuple(
            Row((row.experiment,), _efficiency_cells(file.machine, row, baseline), "both")
            for row in sorted(timed, key=lambda row: row.ntire or 0)
        ),
    )


def _efficiency_cells(
    machine: Machine, row: SpeedRow, baseline: SpeedRow | None
) -> tuple[Number | str, ...]:
    assert row.ntire is not None
    facts = (("machine", machine.name), ("torch", row.torch), ("code", row.code))
    timed = Provenance(f"Timed: {row.experiment} x{row.scale:g}", facts)
    score = None if baseline is None else ntire_score(row, baseline)
    return (
        Number(row.ntire_parameters, "parameters", "computed"),
        f"{row.ntire_macs / 1e9:,.2f}",
        f"{row.ntire_activations / 1e6:,.1f}",
        f"{row.ntire_memory / 2**20:,.0f}",
        Number(float(f"{1000 * row.ntire:.3g}"), "", "measured", origin=timed),
        ""
        if score is None
        else f"{score:,.2f}"
        if score < _MOST_SCORE
        else f"over {_MOST_SCORE:,}",
    )


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
    rows = [_row(evidence, file.machine, system) for system in systems]
    heads = [("", "parameters"), ("", "MACs"), ("", "batch"), ("", "step (s)"), ("", "image (s)")]
    heads += [("", "weights")]
    heads += [(name, metric) for name in SETS for metric in ("PSNR (dB)", "SSIM")]
    return Table(
        name=f"systems/{file.machine.slug}",
        title=f"All systems on {file.machine.name}",
        source=_caption(file.machine, [s.timed for s in systems if s.timed is not None]),
        stubs=("paper", "experiment", "scale"),
        columns=tuple(heads),
        rows=tuple(rows),
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
                yield _System(name, network, scale, *timed.counts, batch, timed)
                continue
            cost = evidence.cost(name, scale=scale)
            assert cost is not None
            if timed is not None and timed.counts != (cost.parameters, cost.macs):
                # The experiment has another network now.
                timed = None
            if timed is not None or name in own:
                yield _System(name, network, scale, cost.parameters, cost.macs, batch, timed)


def _row(evidence: Evidence, machine: Machine, system: _System) -> Row:
    weights = _weights(evidence, system)
    patch, batch = system.batch
    facts = (
        ("experiment", system.experiment),
        ("network", type(system.network).__name__),
        ("parameters", f"{system.parameters:,}"),
        ("MACs", f"{system.macs:,} for a {_SIZE}, true count"),
    )
    origin = Provenance(f"Counted from the network of {system.experiment}, no run needed", facts)
    cells = (
        Number(system.parameters, "parameters", "computed", origin=origin),
        Number(system.macs, "macs", "computed", origin=origin),
        f"{batch} x {patch}" if system.scale in system.network.scales else "",
        _seconds(machine, system, "step"),
        _seconds(machine, system, "image"),
        f"{weights.name}{' (preview)' if weights.preview else ''}" if weights is not None else "",
        *quality_cells(weights, system.scale),
    )
    labels = (system.paper, system.experiment, label_text("scale", system.scale))
    return Row(labels, cells, "both", group=system.paper)


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
