"""All numbers, published, measured and counted, as one tidy frame: a row is one number."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from sr_lightning.errors import UserError
from sr_lightning.experiments import experiment_files
from sr_lightning.files import written_whole
from sr_lightning.metrics.quality import METRICS as QUALITY
from sr_lightning.nn.complexity import Complexity
from sr_lightning.report.format import labels_text
from sr_lightning.report.measurements import Evidence
from sr_lightning.studies.published_cells import METRICS
from sr_lightning.studies.speeds import SpeedFile

__all__ = ["COLUMNS", "tidy_frame", "write_frame"]

COLUMNS = (
    *("kind", "paper", "table", "network", "labels", "scale", "set", "metric", "protocol"),
    *("budget", "steps", "seed", "value", "deviation", "unit", "origin", "remark"),
)
"""``kind`` is published, measured or counted; ``deviation`` is over the seeds of equal runs."""
_Fact = str | float | None


def tidy_frame(evidence: Evidence) -> pd.DataFrame:
    """Every number with what it is of and where it is from, in :data:`COLUMNS`.

    Args:
        evidence: What was published and measured.
    """
    rows = [
        *_published(evidence),
        *_of_runs(evidence),
        *_of_weights(evidence),
        *_times(evidence),
        *_counted(evidence),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["unit"] = frame["metric"].map(lambda metric: METRICS[metric].unit)
    same = ["kind", "table", "network", "labels", "scale", "set", "metric", "protocol", "budget"]
    runs = frame[frame["seed"].notna()].groupby(same, dropna=False)["value"]
    frame["deviation"] = runs.transform("std")
    return frame.convert_dtypes()


def write_frame(evidence: Evidence, file: Path) -> str:
    """Write the frame, and say what was written.

    Args:
        evidence: What was published and measured.
        file: File whose name ends in .csv or .parquet.

    Raises:
        UserError: the name ends otherwise, or what Parquet needs is not installed.
    """
    if file.suffix not in (".csv", ".parquet"):
        raise UserError(f"--frame {file}: the name must end in .csv or .parquet.")
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(
            f"--frame {file}: Parquet needs pyarrow (pip install pyarrow); or name a .csv file."
        )
    frame = tidy_frame(evidence)
    with written_whole(file) as part:
        if file.suffix == ".csv":
            frame.to_csv(part, index=False)
        else:
            frame.to_parquet(part, index=False)
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in frame["kind"].value_counts().items())
    return f"{len(frame):,} numbers ({kinds}): {file}"


def _published(evidence: Evidence) -> Iterator[dict[str, _Fact]]:
    for cell in evidence.published.cells:
        marks = [
            "cannot be right" if cell.doubtful else None,
            "approximate" if cell.approximate else None,
            None if cell.protocol_certain or not cell.protocol else "protocol supposed",
            cell.erratum,
            cell.note,
        ]
        yield {
            "kind": "published",
            **{name: getattr(cell, name) for name in ("paper", "table", "scale", "set", "metric")},
            "network": cell.method,
            "labels": labels_text(cell.factors),
            "protocol": cell.protocol,
            "value": cell.value,
            "origin": cell.source,
            "remark": "; ".join(filter(None, marks)),
        }


def _of_runs(evidence: Evidence) -> Iterator[dict[str, _Fact]]:
    """Every metric of the networks of all runs; bicubic is the same in all of them."""
    for study in (*evidence.studies, *evidence.own):
        for run in evidence.entries(study):
            for protocol, groups in run.metrics.items():
                for group in groups:
                    for metric in QUALITY:
                        if (value := run.value(metric, protocol, group)) is None:
                            continue
                        yield {
                            "kind": "measured",
                            "paper": study.paper,
                            "table": study.table,
                            "network": study.name,
                            "labels": run.level,
                            **_place(group),
                            "metric": metric,
                            "protocol": protocol,
                            **{name: getattr(run, name) for name in ("budget", "steps", "seed")},
                            "value": value,
                            "origin": f"run {run.name}, commit {run.commit}, {run.hardware}",
                        }


def _of_weights(evidence: Evidence) -> Iterator[dict[str, _Fact]]:
    for record in evidence.weights.values():
        for protocol, groups in record.measured.items():
            for group, values in groups.items():
                for name, value in values.items():
                    how, _, metric = f"_{name}".rpartition("_")
                    if metric in ("psnr", "ssim"):
                        yield {
                            "kind": "measured",
                            "network": "bicubic" if how == "_bicubic" else record.name,
                            "labels": "self-ensemble" if how == "_ensemble" else "",
                            **_place(group),
                            "metric": metric,
                            "protocol": protocol,
                            "steps": sum(stage.steps for stage in record.history),
                            "value": value,
                            "origin": f"weights {record.name}, commit {record.commit}",
                        }


def _place(group: str) -> dict[str, _Fact]:
    name, _, scale = group.rpartition("_x")
    return {"set": name, "scale": float(scale)} if name else {"set": group}


def _times(evidence: Evidence) -> Iterator[dict[str, _Fact]]:
    for file in SpeedFile.all(evidence.ledger.folder):
        for row in file.rows:
            for what, seconds in (("image", row.image), ("step", row.step), ("ntire", row.ntire)):
                if seconds is not None:
                    yield {
                        "kind": "measured",
                        "network": row.experiment,
                        "labels": f"{what}, {file.machine.name}",
                        "scale": row.scale,
                        "metric": "seconds",
                        "value": seconds,
                        "origin": f"{file.machine.seconds}, PyTorch {row.torch}, code {row.code}",
                    }


def _counted(evidence: Evidence) -> Iterator[dict[str, _Fact]]:
    """Parameters and MACs (true count) for a 1280 x 720 output."""
    costs: list[tuple[str, float, Complexity | None, str]] = []
    for name in sorted(path.stem for path in experiment_files(evidence.root)):
        network = evidence.network(name)
        for scale in network.scales if network is not None else ():
            costs.append((name, scale, evidence.cost(name, scale=scale), f"experiment {name}"))
    for record in evidence.weights.values():
        for scale in record.scales:
            found = evidence.cost_of_weights(record, scale)
            costs.append((record.name, scale, found, f"weights {record.name}"))
    for name, scale, cost, origin in costs:
        for metric in ("parameters", "macs") if cost is not None else ():
            yield {
                "kind": "counted",
                "network": name,
                "labels": "1280 x 720 output" if metric == "macs" else "",
                "scale": scale,
                "metric": metric,
                "value": getattr(cost, metric),
                "origin": f"counted from {origin}",
            }
