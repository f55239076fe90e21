"""A study: one ablation table as a grid of runs that differ in nothing but what it is about.

A study file names a base experiment, levels (each a set of changed values), seeds, budgets, what is
measured, and which published table it answers, whose claims it takes. A study that compares
networks gives each level an `experiment` of its own in place of the base. A cell of the grid is one
level with one seed at one budget; it is an ordinary ``fit`` and ``test`` with overlays and options.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval, MinLen
from pydantic import Field

from sr_lightning.errors import UserError
from sr_lightning.experiments import SUITE, experiment_file
from sr_lightning.files import as_type, read_yaml, user_path
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.metrics.quality import METRICS
from sr_lightning.studies.claims import Claim, level_of, published_table, table_claims
from sr_lightning.studies.ledger import code_of
from sr_lightning.studies.located_yaml import FileModel, OneOf, read_model
from sr_lightning.studies.published_cells import Cell as PublishedCell

__all__ = [
    "BUDGETS",
    "Budget",
    "Cell",
    "Measure",
    "Study",
    "find_study",
    "load_study",
    "own_studies",
    "studies",
]

BUDGETS = ("quick", "short", "medium", "paper")
_BudgetName = Annotated[str, OneOf(BUDGETS)]


class Measure(FileModel):
    """What is compared."""

    metric: Annotated[str, OneOf(METRICS)] = "psnr"
    """Name of the metric."""
    protocol: Annotated[str, OneOf(PROTOCOLS)] = "edsr2017"
    """Name of the protocol."""
    sets: Annotated[tuple[str, ...], MinLen(1)]
    """Image sets, those of the paper first."""
    scales: tuple[int | float, ...] = ()
    """Scales that are measured; none for those of each network."""
    primary: str = ""
    """Set of many images on which every claim is judged as well; default the first."""

    @property
    def sign(self) -> int:
        """1 where more is better, -1 for distances; verdicts speak of what is gained."""
        return 1 if METRICS[self.metric].higher_is_better else -1

    @property
    def digits(self) -> int:
        """Digits after the point that papers print."""
        return METRICS[self.metric].digits


class Budget(FileModel):
    """How much a cell may cost."""

    overlays: tuple[str, ...] = ()
    """Config files in order, relative to the study's folder or to the checkout."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Options given to every cell alike, as dotted keys."""
    test: tuple[str, ...] | None = None
    """Image sets to test on at this budget; default those of the study."""


@dataclass(frozen=True)
class Study:
    """One study file; see the module.

    Attributes:
        name: Name of the file.
        title: Title for people.
        paper: Paper whose table it answers.
        experiments: Experiments by level; most often all of them share one.
        factor: What the levels are levels of.
        levels: Options that each changes, as dotted keys.
        seeds: Default number of seeds.
        measure: What is compared.
        claims: The paper's conclusions.
        budgets: Budgets by name.
        may_vary: Keys of ``data`` or ``trainer`` that levels are allowed to change, because the
            study is about them.
        reference: Level that the others are compared with where there is no claim to answer, or
            None.
        table: Id of the published table it answers, or None.
        scale: Scale that it is about, or None where neither the table nor the networks have
            another.
        printed: What is published of each level, by image set, then level.
        max_seeds: Most seeds that ``--seeds auto`` takes.
        reproduce: Seeds by budget that ``make reproduce-tables`` runs; none if the study is not
            part of it.
        root: The checkout.
        file: The study file. Experiments and overlays are looked for beside it, then in the
            checkout.
    """

    name: str
    title: str
    paper: str
    experiments: Mapping[str, str]
    factor: str
    levels: Mapping[str, Mapping[str, Any]]
    seeds: int
    measure: Measure
    claims: tuple[Claim, ...]
    budgets: Mapping[str, Budget]
    may_vary: tuple[str, ...]
    table: str | None
    reproduce: Mapping[str, int]
    root: Path
    file: Path
    reference: str | None = None
    scale: float | None = None
    printed: Mapping[str, Mapping[str, PublishedCell]] = field(default_factory=dict)
    max_seeds: int = 10

    @property
    def results(self) -> Path:
        """Folder of its results: that of the checkout, or ``results`` beside a study elsewhere."""
        if _studies_of(self.root) in self.file.resolve().parents:
            return self.root / "experiments" / "results"
        return self.file.parent / "results"

    def experiment(self, level: str) -> Path:
        """The file of a level's experiment."""
        return _experiment(self.experiments[level], self.file, self.root)

    def published(self, better: str, worse: str, set: str) -> float | None:
        """The published difference of two levels on an image set, or None."""
        by_level = self.printed.get(set, {})
        if better not in by_level or worse not in by_level:
            return None
        return round(by_level[better].value - by_level[worse].value, 9)

    def cells(self, budget: str, seeds: int | None = None) -> Iterator[Cell]:
        """All cells, seed by seed, so that a broken-off study has whole rows.

        Args:
            budget: Name of a budget.
            seeds: How many; default the study's.

        Raises:
            UserError: the study has no such budget.
        """
        if budget not in self.budgets:
            raise UserError(
                f"The study {self.name} has no budget '{budget}' "
                f"(it has: {', '.join(self.budgets)})."
            )
        for seed in range(seeds if seeds is not None else self.seeds):
            for level in self.levels:
                yield Cell(self, level, seed, budget)


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        study: Study that it belongs to.
        level: Name of the level.
        seed: Seed of weights and data alike.
        budget: Name of the budget.
    """

    study: Study
    level: str
    seed: int
    budget: str

    @property
    def name(self) -> str:
        """Readable and unique within the ledger: ``hfdn_attention/quick/CA/seed1``."""
        return f"{self.study.name}/{self.budget}/{_slug(self.level)}/seed{self.seed}"

    @property
    def experiment(self) -> Path:
        """The file of the level's experiment."""
        return self.study.experiment(self.level)

    @property
    def configs(self) -> list[Path]:
        """The level's experiment and the budget's overlays."""
        budget = self.study.budgets[self.budget]
        study = self.study
        overlays = [_overlay(name, study.file, study.root) for name in budget.overlays]
        return [self.experiment, *overlays]

    @property
    def options(self) -> dict[str, Any]:
        """Changed values as dotted keys: the budget's, then the level's, then the seed."""
        budget = self.study.budgets[self.budget]
        sets = budget.test if budget.test is not None else self.study.measure.sets
        usual, metric = ["psnr", "ssim"], self.study.measure.metric
        return {
            # What every test measures is left unsaid, so that its cells keep their identity.
            **({} if metric in usual else {"model.metrics": [*usual, metric]}),
            **budget.set,
            "data.test": list(sets),
            **self.study.levels[self.level],
            "seed_everything": self.seed,
        }

    def merged_config(self) -> dict[str, Any]:
        """The config files as one mapping, without what does not touch the numbers."""
        merged: dict[str, Any] = {}
        for path in self.configs:
            changed = path.stat().st_mtime_ns if path.is_file() else 0
            _merge(merged, copy.deepcopy(_config(path, changed)))
        for name in ("output", "wandb"):
            merged.pop(name, None)
        return merged

    def code(self) -> str:
        """Identity of the code that trains and tests it."""
        return code_of([self.merged_config(), self.options])

    def key(self, code: str, data: str) -> str:
        """Identity of the number that this cell would give.

        Args:
            code: Identity of the code that it depends on.
            data: Digest of the images.
        """
        options = dict(sorted(self.options.items()))
        identity: list[Any] = [self.merged_config(), options, code, data]
        identity += self.study.measure.scales
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fit_arguments(self, folder: Path) -> list[str]:
        """Command line that trains it.

        Args:
            folder: Folder of the run.
        """
        arguments = ["fit"]
        for path in self.configs:
            arguments += ["--config", str(path)]
        for name, value in self.options.items():
            arguments.append(f"--{name}={_as_option(value)}")
        study, level = self.study, self.level
        arguments += [
            f"--output.folder={folder}",
            f"--output.name={self.name}",
            f"--wandb.group={study.name}",
            f"--wandb.tags={json.dumps(self.tags)}",
            f"--wandb.notes={study.factor} = {level}",
            f"--wandb.ablation_factor={study.factor}",
            f"--wandb.ablation_level={level}",
        ]
        return arguments

    def test_arguments(self, folder: Path) -> list[str]:
        """Command line that measures it.

        Args:
            folder: Folder of the run.
        """
        arguments = ["test", "--run", str(folder)]
        if scales := self.study.measure.scales:
            arguments += ["--scale", json.dumps(scales)]
        return arguments

    @property
    def tags(self) -> list[str]:
        """What W&B groups and filters by."""
        return [
            f"paper:{self.study.paper}",
            f"study:{self.study.name}",
            f"level:{self.level}",
            f"seed:{self.seed}",
            f"budget:{self.budget}",
            f"protocol:{self.study.measure.protocol}",
        ]


@lru_cache(maxsize=512)
def _config(path: Path, changed: int) -> dict[str, Any]:
    """A config file's content; most are part of many cells."""
    content: dict[str, Any] = as_type(read_yaml(path) or {}, dict[str, Any], str(path))
    return content


def _studies_of(root: Path) -> Path:
    return root.resolve() / "experiments" / "studies"


def _overlay(name: str, file: Path, root: Path) -> Path:
    return _first_of(file.parent / name, root / name, SUITE / name)


def _experiment(name: str, file: Path, root: Path) -> Path:
    name = name.removesuffix(".yaml")
    places = (experiment_file(folder, name) for folder in (root, SUITE))
    return _first_of(file.parent / f"{name}.yaml", *places)


def _first_of(*places: Path) -> Path:
    """The first place that has a file; the first at all where none has."""
    return next((path for path in places if path.is_file()), places[0])


def studies(root: Path) -> list[Study]:
    """All studies of a checkout, by name."""
    return [load_study(path, root) for path in sorted(_studies_of(root).glob("*.yaml"))]


def own_studies(root: Path, folder: Path) -> list[Study]:
    """Studies of the user's own: the files of a folder that have levels and say what is measured.

    Args:
        root: The checkout.
        folder: Usually the current one.

    Raises:
        UserError: one is not sound, or has the name of another study.
    """
    if folder.resolve() == _studies_of(root):
        return []
    found = [
        load_study(path, root) for path in sorted(folder.glob("*.yaml")) if _looks_like_one(path)
    ]
    for study in found:
        if (_studies_of(root) / study.file.name).is_file():
            raise UserError(
                f"{study.file}: there is a study '{study.name}' in {_studies_of(root)}; give yours "
                "another name."
            )
    return found


def _looks_like_one(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except UserError:
        return False
    return isinstance(content, dict) and {"levels", "measure", "budgets"} <= set(content)


def find_study(name: str, root: Path) -> Study:
    """A study by name or by path of its file.

    Raises:
        UserError: there is none.
    """
    path = user_path(name)
    if path.suffix != ".yaml":
        path = _studies_of(root) / f"{name}.yaml"
    if not path.is_file():
        known = [p.stem for p in sorted(_studies_of(root).glob("*.yaml"))]
        raise UserError(
            f"There is no study '{name}'; there are {', '.join(known) or 'none'}, and a file of "
            "your own is named with its suffix, ./mystudy.yaml."
        )
    return load_study(path, root)


# A thousand runs of a level are a mistake of typing.
_Seeds = Annotated[int, Interval(ge=1, le=1000)]


class ClaimEntry(FileModel):
    """A conclusion about two levels."""

    better: str
    """Level that is said to be better."""
    worse: str
    """Level that it is compared with."""
    set: str = ""
    """Image set; default: the first that is measured on."""
    source: str = ""
    """Where it is said."""
    published: float | None = None
    """Difference that is printed, where no published table has it."""


class PrintedEntry(FileModel):
    """What is published of a level."""

    table: str
    """Name of the published table, such as hfdn/results."""
    method: str
    """Its name in that table."""


class StudyFile(FileModel):
    """A study: levels of a factor, trained and measured alike."""

    title: str
    """Title for people."""
    paper: str
    """Paper whose table it answers, or compared."""
    factor: str
    """What the levels are levels of."""
    levels: Annotated[dict[str, dict[str, Any] | None], MinLen(1)]
    """Options that each level changes, as dotted keys; and its experiment, if it has one."""
    measure: Measure
    """What is compared."""
    budgets: dict[_BudgetName, Budget | None]
    """How much a cell may cost, by name."""
    base: str | None = None
    """Experiment of the levels that name none."""
    seeds: _Seeds = 3
    """Default number of seeds."""
    max_seeds: _Seeds | None = None
    """Most seeds that --seeds auto takes; default: 10, or more where seeds is."""
    claims: tuple[ClaimEntry, ...] = ()
    """Conclusions to judge, beside those of the table."""
    may_vary: tuple[str, ...] = ()
    """Keys of data or trainer that levels are allowed to change, as the study is about them."""
    table: str | None = None
    """Published table that it answers."""
    reproduce: dict[_BudgetName, _Seeds] = Field(default_factory=dict)
    """Seeds by budget that make reproduce-tables runs."""
    reference: str | None = None
    """Level that the others are compared with where there is no claim to answer."""
    scale: float | None = None
    """Scale that it is about, where the table or the networks have several."""
    printed: dict[str, PrintedEntry] = Field(default_factory=dict)
    """What is published of a level, where the table is not the study's."""


def load_study(path: Path, root: Path) -> Study:
    """Read and check a study file.

    Raises:
        UserError: something is missing, misspelt or unequal between levels.
    """
    content = read_model(path, StudyFile)
    levels = {name: dict(changed or {}) for name, changed in content.levels.items()}
    experiments = {
        name: changed.pop("experiment", content.base) for name, changed in levels.items()
    }
    for name, experiment in experiments.items():
        if experiment is None:
            raise UserError(
                f"{path}: 'base' is missing, and level '{name}' has no 'experiment' of its own."
            )
        if not _experiment(str(experiment), path, root).is_file():
            raise UserError(
                f"{path}: there is no experiment {experiment}.yaml, neither beside the study nor "
                f"in {root / 'experiments'}."
            )
    for name, changed in levels.items():
        for option in changed:
            unequal = option.partition(".")[0] in {"data", "trainer", "seed_everything"}
            if unequal and option not in content.may_vary:
                raise UserError(
                    f"{path}: level '{name}' changes {option}, but levels must share data, order "
                    "and budget. Name it in 'may_vary' if the study is about it."
                )
    measured = content.measure
    measured = measured.model_copy(update={"primary": measured.primary or measured.sets[0]})
    budgets = {name: budget or Budget() for name, budget in content.budgets.items()}
    for name, budget in budgets.items():
        for overlay in budget.overlays:
            if not _overlay(overlay, path, root).is_file():
                raise UserError(f"{path}: budget '{name}' names {overlay}, which does not exist.")
    if unknown := set(content.reproduce) - set(budgets):
        raise UserError(f"{path}: 'reproduce' names the budget '{min(unknown)}', which it has not.")
    if measured.primary not in measured.sets:
        raise UserError(
            f"{path}: the primary set '{measured.primary}' is not among the sets "
            f"{', '.join(measured.sets)}."
        )
    study = Study(
        name=path.stem,
        title=content.title,
        paper=content.paper,
        experiments=experiments,
        factor=content.factor,
        levels=levels,
        seeds=content.seeds,
        measure=measured,
        claims=(),
        budgets=budgets,
        may_vary=content.may_vary,
        table=content.table,
        reproduce=content.reproduce,
        root=root,
        file=path.absolute(),
        reference=content.reference,
        scale=content.scale,
        max_seeds=content.max_seeds or max(content.seeds, 10),
    )
    study = _with_claims(path, study, content)
    if study.max_seeds < study.seeds:
        raise UserError(
            f"{path}: 'max_seeds' is {study.max_seeds}, less than the {study.seeds} of 'seeds'."
        )
    if study.reference is not None and study.reference not in levels:
        raise UserError(
            f"{path}: the reference '{study.reference}' is not a level; there are "
            f"{', '.join(levels)}."
        )
    _check_equal(path, study)
    return study


def _check_equal(path: Path, study: Study) -> None:
    """Levels with experiments of their own share data, order and budget like any others."""
    for budget in study.budgets:
        shared: dict[str, Any] = {}
        for cell in study.cells(budget, seeds=1):
            config = _flat({name: cell.merged_config().get(name) for name in ("data", "trainer")})
            config |= _flat({key: value for key, value in cell.options.items() if "." in key})
            kept = {
                key: value
                for key, value in config.items()
                if key.startswith(("data.", "trainer.")) and key not in study.may_vary
            }
            first = shared or kept
            for key in sorted(first | kept):
                if first.get(key) != kept.get(key):
                    raise UserError(
                        f"{path}: at budget '{budget}' level '{cell.level}' has {key} "
                        f"{kept.get(key)} and another has {first.get(key)}, but levels must share "
                        "data, order and budget. Give it in the budget's overlays or 'set', or "
                        "name it in 'may_vary' if the study is about it."
                    )
            shared = first


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key as options name them, without ``init_args``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix + key.replace(".init_args", "")
        if key == "init_args":
            name = prefix.removesuffix(".")
        if isinstance(value, dict):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _with_claims(path: Path, study: Study, content: StudyFile) -> Study:
    """The study with what is published of its levels, and the claims that follow."""
    claims: dict[Claim, None] = {}
    printed: dict[str, dict[str, PublishedCell]] = {}
    if study.table is not None:
        table = published_table(study.root, study.table)
        for cell in _about(study, table.cells):
            level = level_of(study.levels, cell.labels)
            if level is not None:
                printed.setdefault(str(cell.set), {})[level] = cell
        found = table_claims(table.claims, study.levels, study.measure.metric, study.scale)
        claims = dict.fromkeys(found)
    if len({claim.scale for claim in claims}) > 1:
        raise UserError(
            f"{path}: the table {study.table} has claims at several scales; name the study's "
            "under 'scale'."
        )
    for level, entry in content.printed.items():
        _check_level(path, "'printed'", level, study.levels)
        cells = _about(study, published_table(study.root, entry.table).cells)
        own = [cell for cell in cells if cell.method == entry.method]
        if not own:
            raise UserError(
                f"{path}: {entry.table} prints no {study.measure.metric} of '{entry.method}'."
            )
        for cell in own:
            printed.setdefault(str(cell.set), {})[level] = cell
    study = replace(study, printed=printed)
    for said in content.claims:
        for level in (said.better, said.worse):
            _check_level(path, "a claim", level, study.levels)
        name = said.set or study.measure.sets[0]
        published = study.published(said.better, said.worse, name)
        source = said.source
        if published is not None and said.published is not None:
            raise UserError(
                f"{path}: the published tables give the difference of '{said.better}' and "
                f"'{said.worse}' on {name}; take 'published' out of the claim."
            )
        if published is not None and not source:
            sources = (printed[name][level].source for level in (said.better, said.worse))
            source = "; ".join(dict.fromkeys(sources))
        published = said.published if published is None else published
        claims[Claim(said.better, said.worse, name, published, source, study.scale)] = None
    return replace(study, claims=tuple(claims))


def _about(study: Study, cells: Iterable[PublishedCell]) -> list[PublishedCell]:
    """The cells that a study could answer: of its metric and scale, and of an image set."""
    return [
        cell
        for cell in cells
        if cell.metric == study.measure.metric
        and cell.set is not None
        and (study.scale is None or cell.scale == study.scale)
    ]


def _check_level(path: Path, what: str, level: str, levels: Mapping[str, Any]) -> None:
    if level not in levels:
        raise UserError(
            f"{path}: {what} names the level '{level}', which is not one of {', '.join(levels)}."
        )


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _as_option(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return "-".join(part for part in kept.split("-") if part) or "level"
