"""``make gpu-check``: what has to hold on a GPU, tried in ten minutes and written as a table.

The tests marked ``gpu``; 200 steps of all five papers in bf16, float16 and float32 with finite
losses; a training that is stopped and goes on; steps of plain loops, compiled and not, beside
``fit``; the networks that upscale; and several devices, where there are. Without a CUDA device the
same is tried in a small form on the CPU, so that the check itself cannot rot.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader

from sr_lightning.baselines.edsr import EDSR
from sr_lightning.bench import SubImages
from sr_lightning.errors import UserError
from sr_lightning.experiments import SUITE
from sr_lightning.files import write_whole
from sr_lightning.nn.network import SRNetwork
from sr_lightning.papers.hfdn import HFDN

__all__ = ["main"]

# The papers' own sizes and recipes; ASDN and CIRN are the heaviest.
EXPERIMENTS = ("hfdn_x4", "cmsc_x4", "cirn_x4", "lesrcnn_x4", "asdn")
# Lightning's words; float32 is what the others are compared with.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# A fit that is slower than this ends earlier and says at which step.
_SECONDS_OF_A_FIT = 25
# Steps from which losses of two precisions are compared at the end of a training.
_TELLING = 20


@dataclass(frozen=True)
class Machine:
    """What is checked, and in which size.

    Attributes:
        device: ``cuda`` or ``cpu``.
        name: Name of the device.
        devices: Number of devices that train together in the last part.
        steps: Steps of a training.
        small: Options of ``fit`` that make it small.
    """

    device: str
    name: str
    devices: int
    steps: int
    small: tuple[str, ...] = ()

    @property
    def overlay(self) -> str:
        """File of the trainer's options."""
        return str(SUITE / "configs" / "trainer" / f"{'gpu' if self.cuda else 'cpu'}.yaml")

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device == "cuda"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the device has."""
        return PRECISIONS if self.cuda else PRECISIONS[:2]

    @staticmethod
    def here(steps: int | None) -> Machine:
        """This one.

        Args:
            steps: Steps of a training; default: 200 on a GPU, 3 on a CPU.
        """
        if torch.cuda.is_available():
            name, count = torch.cuda.get_device_name(), torch.cuda.device_count()
            return Machine("cuda", name, count, steps or 200)
        small = ("--data.patch_size", "8", "--data.batch_size", "2", "--data.num_workers", "0")
        return Machine("cpu", "CPU, the check in its small form", 2, steps or 3, small)


@dataclass
class Section:
    """A table of the check.

    Attributes:
        title: What it shows.
        heads: Of its columns.
        rows: Its cells.
        failures: What did not hold, in words.
    """

    title: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table, and below it what failed."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        failed = "".join(f"\n- FAILED: {words}" for words in self.failures)
        return f"## {self.title}\n\n{table}\n{failed}".rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Check, print and write; the exit status is 1 where something did not hold.

    Args:
        argv: Options; default: the process's own.
    """
    parts: dict[str, Callable[[Machine, Path], Section]] = {
        "tests": tests,
        "fits": fits,
        "resume": resume,
        "steps": steps,
        "upscale": upscale,
        "devices": devices,
    }
    parser = argparse.ArgumentParser(prog="python -m sr_lightning.gpu_check", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--steps", type=int, help="steps of a training; default 200, 3 on a CPU")
    parser.add_argument("--out", default="runs/gpu-check", help="folder of the table and the logs")
    options = parser.parse_args(argv)
    machine, out = Machine.here(options.steps), Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    # Runs of an earlier check would be gone on with.
    shutil.rmtree(out / "runs", ignore_errors=True)
    console = Console(markup=False)
    console.print(f"{machine.name}, torch {torch.__version__}, {machine.steps} steps a training")
    sections = []
    with Progress(console=console) as progress:
        bar = progress.add_task("gpu-check", total=len(options.only))
        for name in options.only:
            progress.update(bar, description=name)
            begun = time.monotonic()
            sections.append(_guarded(parts[name], machine, out))
            progress.advance(bar)
            console.print(f"{sections[-1].markdown()}\n({time.monotonic() - begun:.0f} s)\n")
    head = f"# GPU check\n\n{machine.name}, torch {torch.__version__}\n"
    write_whole(out / "gpu-check.md", "\n".join([head, *(s.markdown() for s in sections)]))
    facts = {"machine": asdict(machine), "sections": [asdict(section) for section in sections]}
    write_whole(out / "gpu-check.json", json.dumps(facts, indent=1))
    failures = sum(len(section.failures) for section in sections)
    console.print(f"{failures or 'no'} failure{'' if failures == 1 else 's'}; table in {out}/")
    raise SystemExit(int(failures > 0))


def _guarded(part: Callable[[Machine, Path], Section], machine: Machine, out: Path) -> Section:
    """A part that breaks is a failure of its own; the others are still tried."""
    try:
        return part(machine, out)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        return Section(part.__name__, ("",), failures=[words])


def _command(log: Path, *arguments: str) -> int:
    """Run a Python module in a process of its own, which gives its memory back; exit status."""
    environment = {**os.environ, "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        call = [sys.executable, "-m", *arguments]
        return subprocess.run(call, cwd=SUITE, stdout=file, stderr=file, env=environment).returncode


def tests(machine: Machine, out: Path) -> Section:
    """The tests that need a GPU."""
    section = Section("Tests marked gpu", ("result",))
    if not machine.cuda:
        section.rows.append(("left out: no CUDA device",))
        return section
    status = _command(out / "tests.log", "pytest", "-q", "-m", "gpu", "tests", "-p", "no:xdist")
    *_, last = (out / "tests.log").read_text().strip().splitlines() or ["said nothing"]
    section.rows.append((last,))
    if status:
        section.failures.append(f"exit status {status}, see {out / 'tests.log'}")
    return section


# ---- trainings --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    """What a training left.

    Attributes:
        status: Exit status.
        losses: Loss by step.
        step_ms: Median time of a step in milliseconds.
        memory: Peak memory of the device in GiB, 0 on a CPU.
        log: What it said.
    """

    status: int
    losses: dict[int, float]
    step_ms: float
    memory: float
    log: Path

    @property
    def finite(self) -> bool:
        return bool(self.losses) and all(map(math.isfinite, self.losses.values()))


def _fit(machine: Machine, out: Path, name: str, *options: str, stop: int | None = None) -> _Fit:
    folder, log = out / "runs" / name, out / f"{name}.log"
    limit = stop or machine.steps
    begin: tuple[str, ...]
    if (folder / "config.yaml").is_file():
        begin = ("fit", "--run", str(folder.resolve()))
    else:
        configs = (f"experiments/{name.partition('.')[0]}.yaml", "configs/data/sample.yaml")
        named = [part for config in (*configs, machine.overlay) for part in ("--config", config)]
        validate = ("--trainer.val_check_interval", str(limit), "--trainer.limit_val_batches", "1")
        where = ("--output.folder", str(folder.resolve()), "--trainer.log_every_n_steps", "1")
        crop = ("--data.val_crop", "96" if machine.cuda else "24")
        begin = ("fit", *named, *validate, *where, *crop, *machine.small, *options)
    bound = ("--trainer.max_time", f"00:00:00:{_SECONDS_OF_A_FIT}") if machine.cuda else ()
    status = _command(log, "sr_lightning", *begin, "--trainer.max_steps", str(limit), *bound)
    losses, times, memory = {}, [], 0.0
    metrics = folder / "metrics.csv"
    for row in csv.DictReader(metrics.open()) if metrics.is_file() else ():
        if row.get("train/loss"):
            losses[int(row["step"])] = float(row["train/loss"])
        if row.get("perf/step_ms"):
            times.append(float(row["perf/step_ms"]))
        memory = max(memory, float(row.get("perf/max_mem_gb") or 0))
    return _Fit(status, losses, statistics.median(times) if times else math.nan, memory, log)


def fits(machine: Machine, out: Path) -> Section:
    """The five papers in each precision."""
    heads = ("experiment", "precision", "steps", "first loss", "last loss", "beside float32")
    section = Section("Trainings", (*heads, "ms a step", "GiB"))
    for experiment in EXPERIMENTS:
        plain: dict[int, float] = {}
        for precision in machine.precisions:
            name = f"{experiment}.{precision}"
            fit = _fit(machine, out, name, "--trainer.precision", precision)
            if fit.status or not fit.finite:
                section.failures.append(f"{name}: exit status {fit.status}, see {fit.log}")
                continue
            plain = plain or fit.losses
            both = [step for step in fit.losses if step in plain]
            if len(both) < _TELLING:
                # The first steps amplify rounding; before them the losses are still comparable.
                both = both[:1]
            ratio = _mean(fit.losses, both) / _mean(plain, both) - 1
            steps_ = sorted(fit.losses)
            section.rows.append(
                (
                    *(experiment, precision, str(steps_[-1] + 1)),
                    *(f"{fit.losses[step]:.4f}" for step in (steps_[0], steps_[-1])),
                    *(f"{ratio:+.2%}", f"{fit.step_ms:.1f}", f"{fit.memory:.2f}"),
                )
            )
            # Of the last half of these steps; a broken precision is far off.
            if abs(ratio) > 0.2:
                section.failures.append(f"{name}: its loss is {ratio:+.0%} from float32's")
    return section


def _mean(losses: dict[int, float], steps_: Sequence[int]) -> float:
    return statistics.fmean(losses[step] for step in steps_[len(steps_) // 2 :])


def resume(machine: Machine, out: Path) -> Section:
    """A training in two sittings beside one in one."""
    heads = ("training", "steps", "last loss")
    section = Section("HFDN stopped half-way, and gone on with", heads)
    half = max(1, machine.steps // 2)
    precision = ("--trainer.precision", "bf16-mixed")
    whole = _fit(machine, out, "hfdn_x4.whole", *precision)
    _fit(machine, out, "hfdn_x4.halves", *precision, stop=half)
    halves = _fit(machine, out, "hfdn_x4.halves")
    for name, fit in (("in one sitting", whole), ("in two", halves)):
        if fit.status or not fit.finite:
            section.failures.append(f"{name}: exit status {fit.status}, see {fit.log}")
            return section
        last = max(fit.losses)
        section.rows.append((name, str(last + 1), f"{fit.losses[last]:.5f}"))
    missing = sorted(whole.losses.keys() ^ halves.losses.keys())
    if missing:
        section.failures.append(f"rows of steps {missing[:5]} are in one of the two alone")
    both = [step for step in halves.losses if step in whole.losses]
    ratio = _mean(halves.losses, both) / _mean(whole.losses, both) - 1
    if abs(ratio) > 0.02:
        section.failures.append(f"the loss is {ratio:+.1%} from that of one sitting")
    return section


def devices(machine: Machine, out: Path) -> Section:
    """All devices by the overlay that shares a batch among them."""
    section = Section("HFDN on several devices", ("devices", "steps", "last loss", "ms a step"))
    if machine.devices == 1:
        section.rows.append(("left out: one device here", "", "", ""))
        return section
    overlay = ("--config", str(SUITE / "configs" / "trainer" / "ddp.yaml"))
    count = ("--trainer.devices", str(machine.devices), "--trainer.accelerator", machine.device)
    fit = _fit(machine, out, "hfdn_x4.devices", *overlay, *count)
    if fit.status or not fit.finite:
        section.failures.append(f"exit status {fit.status}, see {fit.log}")
    else:
        last = max(fit.losses)
        cells = (str(machine.devices), str(last + 1), f"{fit.losses[last]:.4f}")
        section.rows.append((*cells, f"{fit.step_ms:.1f}"))
    return section


# ---- speed ------------------------------------------------------------------------------------


def steps(machine: Machine, out: Path) -> Section:
    """A step of plain loops, compiled and not, beside that of ``fit``."""
    heads = ("network", "loop", "ms a step", "ratio", "busy", "GiB")
    section = Section(f"A step of {'16' if machine.cuda else '2'} patches", heads)
    for network in (EDSR(), HFDN()):
        first = math.nan
        for name, loop in _loops(machine, network).items():
            try:
                took, busy, memory = _timed(machine, loop())
            except Exception as error:
                section.failures.append(f"{type(network).__name__}, {name}: {error}")
                continue
            first = took if math.isnan(first) else first
            section.rows.append(
                (
                    *(type(network).__name__, name, f"{took:.2f}", f"{first / took:.2f}x"),
                    *("" if math.isnan(busy) else f"{busy:.0%}", f"{memory:.2f}"),
                )
            )
    fit = _fit(machine, out, "hfdn_x4.overlay")
    cells = (f"{fit.step_ms:.2f}", "", "", f"{fit.memory:.2f}")
    section.rows.append(("HFDN", f"fit with {Path(machine.overlay).name}, its losses", *cells))
    if fit.status:
        section.failures.append(f"fit: exit status {fit.status}, see {fit.log}")
    return section


def _loops(machine: Machine, network: SRNetwork) -> dict[str, Callable[[], Callable[[], None]]]:
    """Makers of steps by name."""
    side, batch = (24, 16) if machine.cuda else (8, 2)

    def plain(
        precision: torch.dtype | None = None,
        last: bool = False,
        compiled: str | None = None,
        png: bool = False,
    ) -> Callable[[], None]:
        layout = torch.channels_last if last else torch.contiguous_format
        twin: nn.Module = type(network)(**network.config).to(machine.device, memory_format=layout)  # type: ignore[call-overload]
        call: Any = torch.compile(twin, mode=compiled) if compiled else twin
        optimizer = torch.optim.Adam(twin.parameters(), lr=1e-4, fused=precision is not None)
        loader = iter(DataLoader(SubImages(side), batch_size=batch)) if png else None
        fixed = {
            "lr": torch.rand(batch, 3, side, side),
            "hr": torch.rand(batch, 3, 4 * side, 4 * side),
        }

        def step() -> None:
            pair = next(loader) if loader else fixed
            lr, hr = (
                pair[key].to(machine.device, memory_format=layout, non_blocking=True)
                for key in ("lr", "hr")
            )
            optimizer.zero_grad()
            with torch.autocast(machine.device, precision, enabled=precision is not None):
                sr = call(lr)
            (sr.float() - hr).abs().mean().backward()
            optimizer.step()

        return step

    half = torch.bfloat16
    return {
        "PNG sub-images, float32 (BasicSR's way)": lambda: plain(png=True),
        "float32": lambda: plain(),
        "float32 channels last": lambda: plain(last=True),
        "bf16 channels last": lambda: plain(half, True),
        "the same, compiled": lambda: plain(half, True, "default"),
        "the same, compiled, CUDA graphs": lambda: plain(half, True, "reduce-overhead"),
    }


def _timed(machine: Machine, step: Callable[[], None]) -> tuple[float, float, float]:
    """Median milliseconds of a step, share of the time that the GPU computes, peak GiB."""
    count = 30 if machine.cuda else 1
    for _ in range(5 if machine.cuda else 1):
        step()
    if not machine.cuda:
        begin = time.perf_counter()
        step()
        return 1e3 * (time.perf_counter() - begin), math.nan, 0.0
    torch.cuda.reset_peak_memory_stats()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]  # type: ignore[no-untyped-call]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    took = statistics.median(a.elapsed_time(b) for a, b in pairwise(marks))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    kernels = sum(event.self_device_time_total for event in profile.key_averages()) / 5e3
    return took, min(1.0, kernels / took), torch.cuda.max_memory_allocated() / 2**30


def upscale(machine: Machine, out: Path) -> Section:
    """Networks on one image, in each precision and layout."""
    heads = ("network", "way", "ms an image", "ratio", "PSNR beside float32 (dB)")
    size = (180, 320) if machine.cuda else (24, 32)
    section = Section(f"Upscaling {size[1]} x {size[0]} by 4", heads)
    image = torch.rand(1, 3, *size)
    for network in (EDSR(), HFDN()):
        network.eval().to(machine.device)
        plain, first = None, math.nan
        ways: dict[str, tuple[torch.dtype | None, bool, bool]] = {
            "float32": (None, False, False),
            "float32 channels last": (None, True, False),
            "bf16 channels last": (torch.bfloat16, True, False),
            "float16 channels last": (torch.float16, True, False),
            "float16 channels last, compiled": (torch.float16, True, True),
        }
        for name, (dtype, last, compiled) in ways.items():
            if not machine.cuda and dtype is torch.float16:
                continue
            layout = torch.channels_last if last else torch.contiguous_format
            network.to(memory_format=layout)  # type: ignore[call-overload]
            lr = image.to(machine.device, memory_format=layout)
            call: Any = torch.compile(network) if compiled else network
            sr = torch.empty(0)

            def once(
                call: Any = call, lr: torch.Tensor = lr, dtype: torch.dtype | None = dtype
            ) -> None:
                nonlocal sr
                on = dtype is not None
                with torch.inference_mode(), torch.autocast(machine.device, dtype, enabled=on):
                    sr = call(lr)

            took, _, _ = _timed(machine, once)
            plain = sr.float() if plain is None else plain
            error = (sr.float() - plain).square().mean().item()
            beside = "same" if error == 0 else f"{-10 * math.log10(error):.1f}"
            first = took if math.isnan(first) else first
            cells = (f"{took:.2f}", f"{first / took:.2f}x", beside)
            section.rows.append((type(network).__name__, name, *cells))
    return section


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"sr-lightning: {error}", file=sys.stderr)
        raise SystemExit(2) from None
