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
from sr_lightning.studies.published_cells import label_text
from sr_lightning.studies.speeds import Machine, SpeedFile, SpeedRow
from sr_lightning.weights.zoo import PROTOCOL, SETS, WeightRecord

__all__ = ["systems_tables"]

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
    return tuple(_table(evidence, file) for file in files)


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
    took = row.speed.step if what == "step" else row.speed.image
    if took is None:
        return None
    of = f"{row.batch} LR patches of {row.patch}" if what == "step" else "one 320 x 180 LR image"
    facts = [
        ("machine", machine.name),
        ("clock", machine.seconds),
        ("of", of),
        ("estimated", f"from a part, as all takes over {row.limit:g} s" if took.estimated else ""),
        ("core", "" if row.core_share is None else f"{row.core_share:.0%} of its time was ours"),
        ("precision", f"{row.precision}, {row.layout}"),
        ("torch", row.torch),
        ("code", f"{row.code}{'' if row.is_of(system.network) else ', changed since'}"),
    ]
    return Number(
        float(f"{took.seconds:.3g}"),
        "seconds",
        "measured",
        approximate=took.estimated,
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
    limits = " or ".join(f"{limit:g}" for limit in sorted({row.limit for row in rows}))
    shares = [row.core_share for row in rows if row.core_share is not None]
    text = (
        f"{machine.seconds} on {machine.name}, float32, channels last, PyTorch {versions}: a step "
        "is forward, L1 of all predictions, backward and Adam on the experiment's batch (patches x "
        "side in LR pixels); an image is 320 x 180 LR pixels. ≈ is an estimate from a part of the "
        f"work, where all of it takes longer than {limits} s. "
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
