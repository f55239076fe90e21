"""Times of experiments' networks that are kept: one JSON file per machine.

The files lie in ``experiments/results/speed``. A row is measured again when the code of its
network, its size, its batch or PyTorch changes, and otherwise kept.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from sr_lightning.code_identity import code_identity
from sr_lightning.files import read_record, write_whole
from sr_lightning.nn.complexity import complexity
from sr_lightning.nn.network import SRNetwork
from sr_lightning.training.provenance import processor
from sr_lightning.training.speed import Clock, Duration, Speed, clock_here, speed

__all__ = ["Machine", "SpeedFile", "SpeedRow"]


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
    """Times of an experiment's network at one scale.

    Attributes:
        experiment: Stem of its file.
        scale: Scale of the image and the patches.
        parameters: Parameters of the network that was timed.
        macs_720p: Its multiply-accumulates for a 1280 x 720 output.
        image: Seconds for one 320 x 180 LR image; and whether that is an estimate, as for the rest.
        image_estimated: See `image`.
        step: Seconds of a training step, or None where the network is not trained at the scale.
        step_estimated: See `image`.
        image_plain: Seconds for the image with the layers as the paper writes them.
        step_plain: Seconds of the step with the layers as the paper writes them, or None.
        patch: Side of the LR patches of the step.
        batch: Number of them.
        limit: Seconds beyond which a call was estimated.
        core_share: Processor time over wall time while it was measured; less than 1 where other
            programs used the core. None where the clock is the wall's.
        precision: Precision of the numbers.
        layout: Layout of the tensors in memory.
        torch: Version.
        code: Identity of the code of the network and of the measurement.
        key: Key of all that the times depend on.
    """

    experiment: str
    scale: float
    parameters: int
    macs_720p: int
    image: float
    image_estimated: bool
    step: float | None
    step_estimated: bool
    image_plain: float
    step_plain: float | None
    patch: int
    batch: int
    limit: float
    core_share: float | None
    precision: str
    layout: str
    torch: str
    code: str
    key: str

    @property
    def estimated(self) -> bool:
        """Whether any of its times is."""
        return self.image_estimated or self.step_estimated

    @property
    def counts(self) -> tuple[int, int]:
        """Parameters and multiply-accumulates."""
        return self.parameters, self.macs_720p

    def is_of(self, network: SRNetwork) -> bool:
        """Whether it is about a network as its code is now, so that its counts hold.

        Args:
            network: Network that its experiment has now.
        """
        parts = (self.scale, self.patch, self.batch, self.torch, _code(network))
        return self.key == _key(network, *parts)

    @property
    def speed(self) -> Speed:
        """The times."""

        def step(seconds: float | None) -> Duration | None:
            return None if seconds is None else Duration(seconds, self.step_estimated)

        return Speed(
            Duration(self.image, self.image_estimated),
            Duration(self.image_plain, self.image_estimated),
            step(self.step),
            step(self.step_plain),
        )


@dataclass(frozen=True)
class _Content:
    """What a file of times holds."""

    machine: Machine
    rows: list[SpeedRow]


class SpeedFile:
    """The times of one machine.

    Args:
        path: Path of the JSON file, which need not exist.
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
        return cls(results / "speed" / f"{machine.slug}.json", machine)

    @classmethod
    def all(cls, results: Path) -> list[SpeedFile]:
        """The files of all machines below a folder of results, by name."""
        return [cls(path) for path in sorted((results / "speed").glob("*.json"))]

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
            limit: Estimates that were made under a lower one are made again.
        """
        code = _code(network)
        key = _key(network, float(scale), patch, batch, torch.__version__, code)
        equal = (row for row in self._rows.values() if row.key == key)
        known = next((row for row in equal if not row.estimated or row.limit >= limit), None)
        if known is None:
            begin, computing = time.perf_counter(), time.process_time()
            took = speed(network, scale, patch, batch, limit=limit)
            share = (time.process_time() - computing) / (time.perf_counter() - begin)
            cost = complexity(network, scale=scale)
            known = SpeedRow(
                experiment=experiment,
                scale=float(scale),
                parameters=cost.parameters,
                macs_720p=cost.macs,
                image=_rounded(took.image.seconds),
                image_estimated=took.image.estimated,
                image_plain=_rounded(took.image_plain.seconds),
                step=None if took.step is None else _rounded(took.step.seconds),
                step_estimated=took.step is not None and took.step.estimated,
                step_plain=None if took.step_plain is None else _rounded(took.step_plain.seconds),
                patch=patch,
                batch=batch,
                limit=limit,
                core_share=round(share, 2) if self.machine.clock == "cpu" else None,
                precision="float32",
                layout="channels last",
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
        """JSON with a line for each row, so that a change of one is a change of one line."""
        rows = ",\n".join(f"  {json.dumps(asdict(row))}" for row in self.rows)
        return f'{{\n "machine": {json.dumps(asdict(self.machine))},\n "rows": [\n{rows}\n ]\n}}\n'

    def _read(self) -> None:
        read = read_record(self.path, _Content, "file of times")
        self.machine = read.machine
        self._rows = {(row.experiment, row.scale): row for row in read.rows}


def _code(network: SRNetwork) -> str:
    """Identity of the code of a network and of the measurement."""
    kinds = {type(module) for module in network.modules()}
    classes = [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    return code_identity([*classes, "sr_lightning.training.speed.speed"])


def _key(network: SRNetwork, *others: str | float) -> str:
    made = [type(network).__module__, type(network).__qualname__, network.config, *others]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.4g}")
