"""``sr-lightning zoo``: works through the queue of trainings that weights come from.

The queue is ``experiments/campaign.yaml``. A run that was broken off goes on from its last
checkpoint bit for bit, here or where its folder was taken to; a finished one is tested, noted in
the ledger, and its weights are kept if they beat those that are there.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import Field
from rich.table import Column, Table

from sr_lightning.errors import StoppedError, UserError
from sr_lightning.experiments import experiment_file, project_root
from sr_lightning.files import as_type, read_yaml, user_path, write_whole
from sr_lightning.init import check_writable
from sr_lightning.studies.ledger import Ledger, code_of, entry_of_run
from sr_lightning.studies.located_yaml import FileModel, read_model
from sr_lightning.studies.queue import Job, Queue, State
from sr_lightning.studies.screen import add_queue_options, end_with, page, run_queue
from sr_lightning.weights.release import release
from sr_lightning.weights.zoo import PROTOCOL, find_weights

__all__ = ["Campaign", "Run", "TrainingJob", "campaign_jobs", "load_campaign", "main"]

Device = Literal["cpu", "gpu"]


class Run(FileModel):
    """A training of the queue."""

    name: str
    """Name of the run."""
    priority: int
    """Lower ones go first."""
    experiment: str
    """Name of a file of experiments/."""
    minutes: dict[Device, float]
    """Budget by device, from measured speed; a device without one is not for this run."""
    why: str
    """What it is good for."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values that differ from the experiment's, by dotted key."""
    after: str = ""
    """Name of the weights that it starts from."""
    expected: dict[str, float] = Field(default_factory=dict)
    """Set5 PSNR in dB under edsr2017 by scale (x4); hoped for, not measured."""
    overlays: tuple[str, ...] | None = None
    """Config files between the experiment's and the values of set; default: the queue's."""
    test_scales: tuple[float, ...] = ()
    """Scales to test at, for a network that takes any; default: its own."""
    weights: str = ""
    """Name of the weights that it makes, where it is not the run's own."""

    def fit_arguments(self, device: Device, folder: Path) -> list[str]:
        """What is typed after ``sr-lightning`` to start it in a folder."""
        configs = [
            self.experiment,
            f"configs/trainer/{device}.yaml",
            *(self.overlays or ()),
        ]
        arguments = ["fit"]
        for config in configs:
            arguments += ["--config", config]
        values = dict(self.set)
        if self.after:
            values["model.init_from"] = self.after
        for key, value in values.items():
            shown = value if isinstance(value, str) else json.dumps(value)
            arguments.append(f"--{key}={shown}")
        return [*arguments, f"--output.folder={folder}", f"--output.name={self.name}"]

    def recipe(self, device: Device) -> str:
        """The command as records of weights name it."""
        arguments = self.fit_arguments(device, Path())
        return shlex.join(["sr-lightning", *(a for a in arguments if "--output." not in a)])

    def is_shipped(self) -> bool:
        """Whether it is behind weights that come with the package."""
        record = find_weights(self.weights)
        if record is None or self.weights == self.name:
            return record is not None
        recipes = {stage.recipe for stage in record.history}
        return any(self.recipe(device) in recipes for device in self.minutes)


class QueueFile(FileModel):
    """experiments/campaign.yaml: the queue of trainings that shipped weights come from."""

    data_licence: str
    """Rights in the training images, for the records."""
    test: tuple[str, ...]
    """Sets that finished runs are tested on."""
    runs: Annotated[tuple[Run, ...], MinLen(1)]
    """The trainings."""
    overlays: tuple[str, ...] = ()
    """Config files of every run that names none of its own."""


class Campaign(QueueFile):
    """The queue, its runs whole and by priority."""

    root: Path
    """The checkout."""


def load_campaign(path: Path, root: Path) -> Campaign:
    """Read and check the queue.

    Args:
        path: Path of the YAML file.
        root: The checkout.

    Raises:
        UserError: a key is unknown or missing, a name is there twice, or a file does not exist.
    """
    content = read_model(path, QueueFile)
    runs: list[Run] = []
    for given in content.runs:
        name = given.name
        if name in {run.name for run in runs}:
            raise UserError(f"{path}: {name} is there twice.")
        config = experiment_file(root, given.experiment)
        if not config.is_relative_to(root):
            raise UserError(f"{path}: {name} names {config}, which is not in experiments.")
        overlays = content.overlays if given.overlays is None else given.overlays
        run = given.model_copy(
            update={
                "experiment": config.relative_to(root).as_posix(),
                "overlays": overlays,
                "weights": given.weights or name,
            }
        )
        for file in (run.experiment, *overlays):
            if not (root / file).is_file():
                raise UserError(f"{path}: {name} names {file}, which does not exist.")
        runs.append(run)
    made = {run.weights for run in runs}
    for run in runs:
        if run.after and run.after not in made and find_weights(run.after) is None:
            raise UserError(f"{path}: {run.name} starts from unknown weights, '{run.after}'.")
    ordered = tuple(sorted(runs, key=lambda run: run.priority))
    return Campaign(**{**dict(content), "runs": ordered, "root": root})


class TrainingJob(Job):
    """A run of the queue as a job.

    Args:
        run: The run.
        campaign: The queue's file, read.
        folder: Folder of the run folders; it may be taken to another machine and back.
        device: Device to train on.
        extra: Options of every fit and test, such as ``--data-root``.
    """

    def __init__(
        self, run: Run, campaign: Campaign, folder: Path, device: Device, extra: Sequence[str]
    ) -> None:
        super().__init__(run.name, folder / run.name)
        self.run = run
        self.campaign = campaign
        self.device: Device = device
        self.extra = list(extra)
        # Files of experiments are named from there.
        self.place = campaign.root

    def waits_for(self) -> str:
        """The weights that it starts from, until there are any."""
        after = self.run.after
        return after if after and find_weights(after) is None else ""

    def commands(self) -> list[list[str]]:
        """What is left of its training, and its test."""
        folder, commands = self.folder, []
        if not _is_trained(folder):
            # Named again because the last queue may have been on another device.
            device = f"configs/trainer/{self.device}.yaml"
            resume = ["fit", "--run", str(folder), "--config", device]
            begun = any((folder / "checkpoints").glob("*.ckpt"))
            commands = [resume if begun else self.run.fit_arguments(self.device, folder)]
        test = ["test", "--run", str(folder), "--data.test", json.dumps(self.campaign.test)]
        if self.run.test_scales:
            test += ["--scale", json.dumps(self.run.test_scales)]
        return [[*command, *self.extra] for command in (*commands, test)]

    def keep(self) -> str:
        """Write its entry, and keep its weights if they beat those that are there."""
        run, folder = self.run, self.folder
        if not _is_trained(folder):
            # Somebody else's signal: it saved itself and ended well, but not at its end.
            raise StoppedError("")
        config = read_yaml(folder / "config.yaml", "config")
        code = code_of(config)
        ledger = Ledger(self.campaign.root / "experiments" / "results")
        entry = entry_of_run(
            folder,
            name=f"campaign/{run.name}",
            study="campaign",
            budget=self.device,
            level=run.name,
            seed=config["seed_everything"],
            key=code,
            code=code,
        )
        ledger.write(entry)
        licence, recipe = self.campaign.data_licence, run.recipe(self.device)
        try:
            record = release(folder, run.weights, data_licence=licence, recipe=recipe)
            said = f"kept as {record.file}"
        except UserError as error:
            said = f"not kept: {error}"
        write_whole(folder / "shipped.txt", f"{said}\n")
        return said

    def elsewhere(self) -> tuple[Any, ...]:
        """See :func:`run_training`."""
        root, folder = str(self.campaign.root), str(self.folder.parent)
        return run_training, root, self.name, folder, self.device, self.extra


def run_training(
    root: str, name: str, folder: str, device: Device, extra: Sequence[str]
) -> tuple[State, str]:
    """Run one training; what a job of a cluster calls.

    Returns:
        The job's final state, and what there is to say of it.
    """
    campaign = load_campaign(Path(root) / "experiments" / "campaign.yaml", Path(root))
    (run,) = (run for run in campaign.runs if run.name == name)
    (job,) = Queue([TrainingJob(run, campaign, Path(folder), device, extra)]).run()
    return job.state, job.reason


def campaign_jobs(
    campaign: Campaign, folder: Path, device: Device, extra: Sequence[str], only: Sequence[str] = ()
) -> list[TrainingJob]:
    """Jobs of the runs that are left, by priority.

    Args:
        campaign: The queue.
        folder: See :class:`TrainingJob`.
        device: See :class:`TrainingJob`; runs that are too long for it are left out.
        extra: See :class:`TrainingJob`.
        only: Names of the runs to take; default: all. Named, a run whose weights were made
            elsewhere is made again.
    """
    over = {"finished"} if only else {"finished", "shipped"}
    return [
        TrainingJob(run, campaign, folder, device, extra)
        for run in campaign.runs
        if (not only or run.name in only)
        and device in run.minutes
        and state_of(run, folder) not in over
    ]


def _last_step(folder: Path) -> int:
    steps = [
        int(file.stem.partition("step=")[2].partition("_")[0])
        for file in (folder / "checkpoints").glob("*step=*.ckpt")
    ]
    return max(steps, default=0)


def _is_trained(folder: Path) -> bool:
    config = folder / "config.yaml"
    if not config.is_file():
        return False
    content = as_type(read_yaml(config, "config"), dict[str, Any], str(config))
    steps = (content.get("trainer") or {}).get("max_steps")
    return isinstance(steps, int) and _last_step(folder) >= steps


def state_of(run: Run, folder: Path) -> str:
    """What has become of a run, in words; "shipped" if only its weights are here.

    Args:
        run: Run of the queue.
        folder: Folder of the run folders.
    """
    own = folder / run.name
    if (own / "shipped.txt").is_file():
        return "finished"
    if _is_trained(own):
        return "trained"
    if step := _last_step(own):
        return f"at step {step:,}"
    return "shipped" if run.is_shipped() else "waiting"


def _listing(campaign: Campaign, folder: Path) -> Table:
    # Names are typed after --only, so that they are never shortened.
    run_name = Column("run", no_wrap=True, min_width=max(len(run.name) for run in campaign.runs))
    table = Table("", run_name, "minutes cpu / gpu", "Set5 expected", "Set5 best", "state")
    for run in campaign.runs:
        record = find_weights(run.weights)
        cells = record.measured.get(PROTOCOL, {}) if record else {}
        best = [
            f"{name.removeprefix('Set5_')} {cell['psnr']:.2f}"
            for name, cell in cells.items()
            if name.startswith("Set5_")
        ]
        table.add_row(
            str(run.priority),
            run.name,
            f"{run.minutes.get('cpu', '-')} / {run.minutes.get('gpu', '-')}",
            ", ".join(f"{scale} {psnr:.2f}" for scale, psnr in run.expected.items()),
            ", ".join(best) or "-",
            state_of(run, folder),
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Options; default: the process's own.
    """
    parser = argparse.ArgumentParser(prog="sr-lightning zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the queue and what has become of it")
    run = commands.add_parser("train", help="go on with the queue")
    for sub in (listing, run):
        sub.add_argument("--runs", type=Path, default=Path("runs/campaign"), help="run folders")
    run.add_argument("--minutes", type=float, default=150, help="time to spend; default 150")
    run.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    run.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these runs alone")
    add_queue_options(run)
    options = parser.parse_args(argv)
    root = project_root()
    campaign = load_campaign(root / "experiments" / "campaign.yaml", root)
    console = page()
    folder = user_path(options.runs).resolve()
    if options.command == "list":
        console.print(_listing(campaign, folder))
        return
    check_writable(root)
    chosen = {run.name: run for run in campaign.runs}
    for name in options.only:
        if name not in chosen:
            raise UserError(f"No run is called '{name}'; see 'sr-lightning zoo list'.")
        if options.device not in chosen[name].minutes:
            raise UserError(f"{name} is too long for a {options.device}.")
    extra = ["--data-root", options.data_root] if options.data_root else []
    jobs = campaign_jobs(campaign, folder, options.device, extra, options.only)
    queue = Queue(jobs, minutes=options.minutes)
    run_queue(queue, "run", options, folder / "slurm" / "zoo")
    console.print(_listing(campaign, folder))
    end_with(queue.failures())
