"""Times of experiments' networks that are kept: one CSV file per machine.

The files lie in ``experiments/results/speed``. A row is measured again when the code of its
network, its size, its batch or PyTorch changes, and otherwise kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from sr_lightning.code_identity import code_identity
from sr_lightning.cubic import upscaled_size
from sr_lightning.errors import UserError
from sr_lightning.files import as_type, read_text, write_whole
from sr_lightning.nn.complexity import complexity, footprint
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.provenance import processor
from sr_lightning.training.speed import NTIRE_LR, Clock, Speed, clock_here, speed

__all__ = ["Machine", "SpeedFile", "SpeedRow", "form_for_use"]


def form_for_use(network: SRNetwork) -> SRNetwork:
    """A network as it is used, with new weights where that is another form than in training."""
    if "merged" not in network.config:
        return network
    return type(network)(**{**network.config, "merged": True})


@dataclass(frozen=True)
class Machine:
    """What times were measured on.

    Attributes:
        processor: Model name of the CPU or GPU.
        threads: Threads of PyTorch on the CPU; 0 where a GPU computes.
        clock: See :mod:`sr_lightning.training.speed`.
    """

    processor: str
    threads: int
    clock: Clock

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        if torch.cuda.is_available():
            return cls(torch.cuda.get_device_name(), 0, clock_here())
        return cls(processor(), torch.get_num_threads(), clock_here())

    @property
    def name(self) -> str:
        """In words."""
        if not self.threads:
            return self.processor
        return f"{self.processor}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def seconds(self) -> str:
        """What is read from the clock, in words."""
        return "Seconds of processor time" if self.clock == "cpu" else "Seconds"

    @property
    def slug(self) -> str:
        """As a file name: the processor and the threads, nothing that tells one owner's machine."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class SpeedRow:
    """Times and counts of an experiment's network at one scale: a line of a file.

    The `ntire` ones are for an LR image of 256 x 256. Times are in seconds, and None where a call
    would take longer than the limit.

    Attributes:
        experiment: Stem of its file.
        scale: Scale of the image and the patches.
        parameters: Parameters of the network that was timed.
        macs_720p: Its multiply-accumulates for a 1280 x 720 output.
        ntire_parameters: Parameters of the form for use, where the network can be merged into one.
        ntire_macs: Its multiply-accumulates for the challenge's image.
        ntire_activations: See :class:`~sr_lightning.nn.complexity.Footprint`.
        ntire_memory: The same, bytes.
        ntire: Time of the challenge's image.
        image: Time of a 320 x 180 LR image.
        image_plain: The same with the layers as the paper writes them.
        step: Time of a training step; None also where the network is not trained at the scale.
        step_plain: The same with the layers as the paper writes them.
        patch: Side of the LR patches of the step.
        batch: Number of them.
        limit: Seconds beyond which a call was not made.
        core_share: Processor time over wall time while it was measured; less than 1 where other
            programs used the core. None where the clock is the wall's.
        torch: Version.
        code: Identity of the code of the network and of the measurement.
        key: Key of all that the times depend on.
    """

    experiment: str
    scale: float
    parameters: int
    macs_720p: int
    ntire_parameters: int
    ntire_macs: int
    ntire_activations: int
    ntire_memory: int
    ntire: float | None
    image: float | None
    image_plain: float | None
    step: float | None
    step_plain: float | None
    patch: int
    batch: int
    limit: float
    core_share: float | None
    torch: str
    code: str
    key: str

    @property
    def counts(self) -> tuple[int, int]:
        """Parameters and multiply-accumulates."""
        return self.parameters, self.macs_720p

    @property
    def speed(self) -> Speed:
        """The times."""
        return Speed(self.image, self.image_plain, self.ntire, self.step, self.step_plain)

    def is_of(self, network: SRNetwork) -> bool:
        """Whether it is about a network as its code is now, so that its counts hold.

        Args:
            network: Network that its experiment has now.
        """
        parts = (self.scale, self.patch, self.batch, self.torch, _code(network))
        return self.key == _key(network, *parts)

    def is_known(self, network: SRNetwork, limit: float) -> bool:
        """Whether no more would be known under another limit.

        Args:
            network: Network that it is of.
            limit: Seconds.
        """
        is_whole = None not in (self.image, self.image_plain, self.ntire)
        if self.scale in network.scales:
            is_whole = is_whole and None not in (self.step, self.step_plain)
        return is_whole or self.limit >= limit


@dataclass(frozen=True)
class _Line(SpeedRow, Machine):
    """A line as it stands in the file: the machine, then the row."""


class SpeedFile:
    """The times of one machine.

    Args:
        path: Path of the CSV file, which need not exist.
        machine: Machine that it is of, where it does not exist; default this one.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, machine: Machine | None = None) -> None:
        self.path = path
        self.machine = machine or Machine.here()
        self._rows: dict[tuple[str, float], SpeedRow] = {}
        if path.is_file():
            self._read()

    @classmethod
    def here(cls, results: Path) -> SpeedFile:
        """The file of this machine below a folder of results."""
        machine = Machine.here()
        return cls(results / "speed" / f"{machine.slug}.csv", machine)

    @classmethod
    def all(cls, results: Path) -> list[SpeedFile]:
        """The files of all machines below a folder of results, by name."""
        return [cls(path) for path in sorted((results / "speed").glob("*.csv"))]

    @property
    def rows(self) -> list[SpeedRow]:
        """All rows, by experiment and scale."""
        return [self._rows[key] for key in sorted(self._rows)]

    def of(self, experiment: str, scale: float) -> SpeedRow | None:
        """The row of an experiment at a scale, or None."""
        return self._rows.get((experiment, float(scale)))

    def time(
        self,
        experiment: str,
        network: SRNetwork,
        scale: float,
        patch: int,
        batch: int,
        limit: float,
    ) -> SpeedRow:
        """The times of an experiment's network: those that are here, or measured now and kept.

        Times of an equal network with an equal batch, of whatever experiment, are its times, too.

        Args:
            experiment: Stem of its file.
            network: Network of it.
            scale: See :func:`~sr_lightning.training.speed.speed`, as for the rest.
            patch: Side of LR patches.
            batch: Patches of a step.
            limit: What was left out under a lower one is tried again.
        """
        code = _code(network)
        key = _key(network, float(scale), patch, batch, torch.__version__, code)
        equal = (row for row in self._rows.values() if row.key == key)
        known = next((row for row in equal if row.is_known(network, limit)), None)
        if known is None:
            begin, computing = time.perf_counter(), time.process_time()
            took = speed(network, scale, patch, batch, limit=limit)
            used = form_for_use(network)
            if used is not network:
                images = speed(used, scale, patch, batch, limit=limit)
                took = replace(images, step=took.step, step_plain=took.step_plain)
            share = (time.process_time() - computing) / (time.perf_counter() - begin)
            cost = complexity(network, scale=scale)
            kept = footprint(used, NTIRE_LR, scale)
            of_used = complexity(used, upscaled_size(NTIRE_LR, scale), scale)
            known = SpeedRow(
                experiment=experiment,
                scale=float(scale),
                parameters=cost.parameters,
                macs_720p=cost.macs,
                ntire_parameters=of_used.parameters,
                ntire_macs=of_used.macs,
                ntire_activations=kept.activations,
                ntire_memory=kept.memory,
                **{name: _rounded(seconds) for name, seconds in asdict(took).items()},
                patch=patch,
                batch=batch,
                limit=limit,
                core_share=round(share, 2) if self.machine.clock == "cpu" else None,
                torch=torch.__version__,
                code=code,
                key=key,
            )
        row = replace(known, experiment=experiment)
        if self.of(experiment, scale) != row:
            self.add(row)
        return row

    def add(self, row: SpeedRow) -> None:
        """Keep a row, in one step; an earlier one of its experiment and scale is replaced.

        What another command has added to the file meanwhile stays.
        """
        if self.path.is_file():
            self._read()
        self._rows[row.experiment, row.scale] = row
        write_whole(self.path, self._text())

    def _text(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, [f.name for f in fields(_Line)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(self.machine) | asdict(row) for row in self.rows)
        return out.getvalue()

    def _read(self) -> None:
        where = f"The file of times {self.path} is damaged"
        text = read_text(self.path, "file of times")
        try:
            read = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise UserError(f"{where}: {error}.") from error
        # An empty field is a time that was not measured.
        given = [{key: value or None for key, value in line.items()} for line in read]
        lines = as_type(given, list[_Line], where)
        numbers = (value for line in lines for value in vars(line).values())
        if not all(math.isfinite(n) for n in numbers if isinstance(n, float)):
            raise UserError(f"{where}: a number of it is not finite.")
        names = [f.name for f in fields(Machine)]
        machines = {Machine(*(getattr(line, name) for name in names)) for line in lines}
        if len(machines) != 1:
            raise UserError(f"{where}: it holds times of {len(machines)} machines, not of one.")
        (self.machine,) = machines
        rows = [
            SpeedRow(**{f.name: getattr(line, f.name) for f in fields(SpeedRow)}) for line in lines
        ]
        self._rows = {(row.experiment, row.scale): row for row in rows}


def _code(network: SRNetwork) -> str:
    """Identity of the code of a network and of the measurement."""
    kinds = {type(module) for module in network.modules()}
    classes = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    return code_identity([*classes, "sr_lightning.training.speed.speed"])


def _key(network: SRNetwork, *others: str | float) -> str:
    made = [type(network).__module__, type(network).__qualname__, network.config, *others]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.4g}")
