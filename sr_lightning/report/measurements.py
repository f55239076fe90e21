"""What was measured: the ledger's runs, the records of shipped weights, and counted costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sr_lightning.experiments import experiment_file
from sr_lightning.metrics.protocol import PROTOCOLS
from sr_lightning.nn.complexity import HR_720P, Complexity, parameter_count
from sr_lightning.nn.network import SRNetwork
from sr_lightning.report.document import Number, Provenance
from sr_lightning.report.format import group_text
from sr_lightning.studies.claims import level_of
from sr_lightning.studies.ledger import Failure, Ledger, RunRecord
from sr_lightning.studies.published import PublishedNumbers, load_published
from sr_lightning.studies.published_cells import Cell
from sr_lightning.studies.study import BUDGETS, Study, studies
from sr_lightning.studies.verdicts import Verdict, judge, mean_and_deviation, tested_groups
from sr_lightning.training.complexity import counted, network_of_config
from sr_lightning.weights.files import network_to_count
from sr_lightning.weights.zoo import WeightRecord, records

__all__ = [
    "Evidence",
    "Measurement",
    "bicubic_number",
    "budget_text",
    "group_name",
    "macs_facts",
    "origin_of_runs",
    "origin_of_weights",
    "reduces",
]


def group_name(set: str | None, scale: float | None) -> str:
    """Set and scale as the ledger names them, such as ``Set5_x4``."""
    return f"{set}_x{scale:g}" if scale is not None else str(set)


_BICUBIC = "Bicubic"
"""What published tables call bicubic interpolation."""


@dataclass(frozen=True)
class Measurement:
    """A measured number that answers a published cell.

    Attributes:
        value: PSNR in dB, or SSIM.
        deviation: Standard deviation over seeds, or None.
        protocol: Protocol that it was measured under.
        by: What was measured, in words.
        origin: Where it comes from.
        network: Which network it is of: that of the same weights, at whatever scales, or of the
            same level, study and budget.
        rank: Its place among what answers the same cell, lowest first.
        whole: Whether the network had its full size.
    """

    value: float
    deviation: float | None
    protocol: str
    by: str
    origin: Provenance
    network: str
    rank: tuple[int, int]
    whole: bool = True


class Evidence:
    """Everything that was measured or can be counted.

    Args:
        root: The checkout.
        ledger: Ledger of finished runs.
        weights: Records of shipped weights; default those of the package.
        considered: Budgets whose runs count; default all.
        own: Studies to show of themselves, most often of the user's own, whose results lie beside
            them and answer nothing published.
    """

    def __init__(
        self,
        root: Path,
        ledger: Ledger,
        weights: Sequence[WeightRecord] | None = None,
        considered: Collection[str] = BUDGETS,
        own: Sequence[Study] = (),
    ) -> None:
        self.root = root
        self.considered = considered
        self.ledger = ledger
        self.weights = {r.name: r for r in (records() if weights is None else weights)}
        self.studies = studies(root)
        self.own = own
        self._networks: dict[str, SRNetwork | None] = {}
        self._loaded: dict[str, SRNetwork] = {}
        self._verdicts: dict[tuple[Path, str], list[Verdict]] = {}
        self._costs: dict[tuple[type, str, tuple[int, int], float], Complexity] = {}

    @cached_property
    def published(self) -> PublishedNumbers:
        """The published numbers of the checkout; a folder of the user's own may have none."""
        folder = self.root / "experiments" / "published"
        return load_published(folder) if folder.is_dir() else PublishedNumbers((), ())

    @cached_property
    def _entries(self) -> dict[str, list[RunRecord]]:
        """Entries by study."""
        entries = self.ledger.entries()
        for study in self.own:
            if study.results != self.ledger.folder:
                entries += Ledger(study.results).entries(study.name)
        found: dict[str, list[RunRecord]] = {}
        for entry in entries:
            if entry.budget in self.considered:
                found.setdefault(entry.study, []).append(entry)
        return found

    def entries(self, study: Study, budget: str | None = None) -> list[RunRecord]:
        """Entries of a study, in the order of its levels, then of the seeds."""
        order = {level: place for place, level in enumerate(study.levels)}
        found = [
            entry
            for entry in self._entries.get(study.name, [])
            if entry.level in order and budget in {None, entry.budget}
        ]
        return sorted(found, key=lambda entry: (order[entry.level], entry.seed))

    def budgets(self, study: Study) -> list[str]:
        """Budgets that a study has entries or failures of, the highest first."""
        found = {entry.budget for entry in self.entries(study)}
        return [b for b in reversed(BUDGETS) if b in found or self.failures(study, b)]

    def failures(self, study: Study, budget: str) -> list[Failure]:
        """The cells of a study that failed and have not succeeded since."""
        if budget not in study.budgets or budget not in self.considered:
            return []
        ledger = Ledger(study.results) if study in self.own else self.ledger
        found = (ledger.failure(cell.name) for cell in study.cells(budget, study.max_seeds))
        return [failure for failure in found if failure is not None]

    def verdicts(self, study: Study, budget: str) -> list[Verdict]:
        """The verdicts on all claims of a study at one budget."""
        key = (study.file, budget)
        if key not in self._verdicts:
            self._verdicts[key] = judge(study, self.entries(study, budget))
        return self._verdicts[key]

    # ---- quality ------------------------------------------------------------------------------

    def has_experiment(self, experiment: str) -> bool:
        """Whether there is anything that could be run for a cell's `experiment`."""
        name = experiment.removesuffix("+")
        return name in self.weights or experiment_file(self.root, name).is_file()

    def studies_of(self, table: str) -> list[Study]:
        """The studies that answer a published table."""
        return [study for study in self.studies if study.table == table]

    def answer(self, cell: Cell) -> Measurement | None:
        """The measured PSNR or SSIM that answers a cell by itself, or None where there is none."""
        return self.answers([cell])[0]

    def answers(self, cells: Sequence[Cell | None]) -> list[Measurement | None]:
        """The measured PSNR and SSIM that answer a row of cells, all of one network.

        Shipped weights come first, those of the paper's size before lighter ones; then runs, at the
        highest budget first: of the level of a study that a cell is about, or of its experiment
        unchanged. A row of an ablation is answered by runs first, as its neighbours are. Of equal
        candidates the one that fills most cells is taken. Numbers under a cell's own protocol are
        preferred.
        """
        found = [{} if cell is None else self._candidates(cell) for cell in cells]
        filled = Counter(network for candidates in found for network in candidates)
        ranks = {m.network: m.rank for candidates in found for m in candidates.values()}
        best = min(filled, key=lambda network: (ranks[network], -filled[network]), default=None)
        return [None if best is None else candidates.get(best) for candidates in found]

    def _candidates(self, cell: Cell) -> dict[str, Measurement]:
        """What answers a cell, by network; each under the cell's own protocol if it can be."""
        found: dict[str, Measurement] = {}
        if cell.metric not in ("psnr", "ssim"):
            return found
        for one in (*self._of_bicubic(cell), *self._of_weights(cell), *self._of_runs(cell)):
            known = found.setdefault(one.network, one)
            if known.protocol != cell.protocol and one.protocol == cell.protocol:
                found[one.network] = one
        return found

    def expected(self, cell: Cell) -> bool:
        """Whether a cell waits for a number measured here: an experiment or a study is about it."""
        if cell.metric not in ("psnr", "ssim", "parameters", "macs"):
            return False
        return cell.experiment is not None or bool(self._levels(cell))

    def studies_with_runs(self, cell: Cell) -> list[str]:
        """Names of studies about a cell that have runs at its scale, on whatever sets."""
        end = "" if cell.scale is None else f"_x{cell.scale:g}"
        return [
            study.name
            for study, _ in self._levels(cell)
            if any(group.endswith(end) for group in tested_groups(study, self.entries(study)))
        ]

    def _levels(self, cell: Cell) -> list[tuple[Study, str]]:
        found = []
        for study in self.studies:
            level = level_of(study.levels, cell.labels) if study.table == cell.table else None
            if level is not None:
                found.append((study, level))
            else:
                found += [
                    (study, name)
                    for name, changed in study.levels.items()
                    if not changed and study.experiments[name] == cell.experiment
                ]
        return found

    def _of_bicubic(self, cell: Cell) -> Iterator[Measurement]:
        """Bicubic interpolation, which is measured beside all weights."""
        if cell.method != _BICUBIC:
            return
        group = group_name(cell.set, cell.scale)
        for protocol in filter(None, dict.fromkeys((cell.protocol, *PROTOCOLS))):
            found = bicubic_number(self.weights.values(), group, cell.metric, protocol)
            if found and found.value is not None and found.origin is not None:
                how = (protocol, "bicubic", found.origin, _BICUBIC, (0, 0))
                yield Measurement(found.value, None, *how)

    def _of_weights(self, cell: Cell) -> Iterator[Measurement]:
        found = [r for r in self.weights.values() if self._is_of(cell, r)]
        # Weights of the experiment's own name come first, then the larger ones.
        own = (cell.experiment or "").removesuffix("+")
        found.sort(key=lambda record: (record.name != own, -record.parameters))
        for record in found:
            whole = self.has_papers_size(record, cell)
            size = "" if whole else "smaller network"
            by = ", ".join(filter(None, (f"weights {record.name}", size, record.notes)))
            # The "+" rows of papers: with the 8-fold self-ensemble.
            key = f"{'ensemble_' if _is_ensemble(cell) else ''}{cell.metric}"
            for protocol in filter(None, dict.fromkeys((cell.protocol, *record.measured))):
                cells = record.measured.get(protocol, {})
                value = cells.get(group_name(cell.set, cell.scale), {}).get(key)
                if value is not None:
                    origin = origin_of_weights(record, protocol)
                    network = f"weights {record.name.removesuffix(f'_x{cell.scale:g}')}"
                    rank = (int(bool(cell.factors)), int(not whole))
                    yield Measurement(value, None, protocol, by, origin, network, rank, whole)

    def paper_cell(self, record: WeightRecord, name: str, scale: float, metric: str) -> Cell | None:
        """What a weight file's paper prints of its network, or None where it prints nothing.

        Args:
            record: Record of the weights, which may be smaller than the paper's network.
            name: Name of the image set.
            scale: Scale of the number.
            metric: "psnr" or "ssim".
        """
        found = [
            cell
            for cell in self.published.cells
            if (cell.set, cell.scale, cell.metric) == (name, scale, metric)
            and self._is_of(cell, record)
            and not _is_ensemble(cell)
        ]

        # Tables of results before ablations, what is printed right before errata, and the table
        # that tells more before one that rounds what it repeats.
        def rank(cell: Cell) -> tuple[bool, bool, bool, bool, int]:
            repeats = cell.experiment != record.name
            digits = self._ssim_digits[cell.table]
            return repeats, bool(cell.factors), cell.doubtful, bool(cell.erratum), -digits

        return min(found, key=rank, default=None)

    @cached_property
    def _ssim_digits(self) -> dict[str, int]:
        """Digits after the point of each table's SSIM, 0 where it prints none."""
        digits = dict.fromkeys(self.published.tables, 0)
        for cell in self.published.cells:
            if cell.metric == "ssim":
                shown = len(repr(cell.value).partition(".")[2])
                digits[cell.table] = max(digits[cell.table], shown)
        return digits

    def has_papers_size(self, record: WeightRecord, cell: Cell) -> bool:
        """Whether weights are of the network that a published cell of theirs is about."""
        network = self.network(cell.experiment or "")
        return network is not None and parameter_count(network) == record.parameters

    def _is_of(self, cell: Cell, record: WeightRecord) -> bool:
        """Whether a cell is about the network that weights are of, whatever its size.

        Weights are named as an experiment is, or begin with the name of their paper's network:
        ``cmsc_x4`` is compared with ``cmsc``, but not with another network of its class, and
        ``carn_m``, which has rows of its own, not with ``carn``.
        """
        if cell.experiment is None:
            return False
        experiment = cell.experiment.removesuffix("+")
        if experiment == record.name:
            return True
        if record.name in self._printed:
            return False
        paper = record.name.partition("_")[0]
        if experiment not in (paper, group_name(paper, cell.scale)):
            return False
        return type(self.network(experiment)).__name__ == record.network

    @cached_property
    def _printed(self) -> set[str | None]:
        """The experiments that published cells are about."""
        return {cell.experiment for cell in self.published.cells}

    def _of_runs(self, cell: Cell) -> Iterator[Measurement]:
        group = group_name(cell.set, cell.scale)
        for place, budget in enumerate(reversed(BUDGETS)):
            for study, level in self._levels(cell):
                runs = [e for e in self.entries(study, budget) if e.level == level]
                protocols = dict.fromkeys((cell.protocol, study.measure.protocol))
                for protocol in filter(None, protocols):
                    values = {
                        run.seed: value
                        for run in runs
                        if (value := run.value(cell.metric, protocol, group)) is not None
                    }
                    mean, deviation = mean_and_deviation(values)
                    if mean is not None:
                        origin = origin_of_runs(
                            [run for run in runs if run.seed in values],
                            f"{study.name}, {level}: {cell.metric.upper()} on {group_text(group)}",
                            protocol,
                        )
                        by = f"{budget_text(study, budget)}, n = {len(values)}"
                        yield Measurement(
                            mean,
                            deviation,
                            protocol,
                            by,
                            origin,
                            network=f"{study.name} {level} {budget}",
                            rank=(int(not cell.factors), place),
                            whole=not reduces(study, budget),
                        )

    # ---- cost ---------------------------------------------------------------------------------

    def network(self, experiment: str) -> SRNetwork | None:
        """The network of an experiment or of shipped weights, on the meta device if possible."""
        name = experiment.removesuffix("+")
        if name not in self._networks:
            config = experiment_file(self.root, name)
            if config.is_file():
                self._networks[name] = network_of_config(config, meta=True)
            else:
                self._networks[name] = self._network_of_weights(self.weights.get(name))
        return self._networks[name]

    def _network_of_weights(self, record: WeightRecord | None) -> SRNetwork | None:
        if record is None:
            return None
        if record.name not in self._loaded and record.file.is_file():
            self._loaded[record.name] = network_to_count(record.file)
        return self._loaded.get(record.name)

    def cost(
        self, experiment: str, hr_size: tuple[int, int] = HR_720P, scale: float | None = None
    ) -> Complexity | None:
        """Parameters and MACs of a network for an output size, or None where it is not known.

        Args:
            experiment: Experiment or weights; a ``+`` at its end is ignored.
            hr_size: (H, W) of the output.
            scale: Default the network's first.
        """
        network = self.network(experiment)
        if network is None:
            return None
        return self._cost(network, hr_size, network.scales[0] if scale is None else scale)

    def cost_of_weights(self, record: WeightRecord, scale: float) -> Complexity | None:
        """Parameters, and MACs for a 1280 x 720 output, of the network in a weight file.

        An experiment of the same name may have another size.

        Args:
            record: Record of the weights.
            scale: Scale that the network can do.
        """
        network = self._network_of_weights(record)
        return None if network is None else self._cost(network, HR_720P, scale)

    def _cost(self, network: SRNetwork, hr_size: tuple[int, int], scale: float) -> Complexity:
        """The cost of a network, counted once for all of its kind and size."""
        key = (type(network), repr(network.config), hr_size, scale)
        if key not in self._costs:
            self._costs[key] = counted(network, hr_size, scale)
        return self._costs[key]

    def counted(self, cell: Cell) -> Number | None:
        """The parameters or MACs of a cell's experiment, with how far they are from the cell."""
        if cell.experiment is None or cell.metric not in ("parameters", "macs"):
            return None
        size = cell.hr_size or HR_720P
        try:
            cost = self.cost(cell.experiment, size, cell.scale)
        except ValueError:
            # A network of one scale beside a row of another.
            cost = None
        if cost is None:
            return None
        value = cost.parameters if cell.metric == "parameters" else cost.macs_out
        comparable = cell.metric == "parameters" or cell.hr_size is not None
        name = cell.experiment.removesuffix("+")
        facts = [("experiment", name), ("parameters", f"{cost.parameters:,}")]
        if cell.metric == "macs":
            facts += macs_facts(cost, size)
        return Number(
            value=value,
            metric=cell.metric,
            kind="computed",
            delta=value / cell.value - 1 if comparable and not cell.doubtful else None,
            word="" if comparable else f"{size[1]}x{size[0]}",
            origin=Provenance(f"Counted from the network of {name}, no run needed", tuple(facts)),
        )


def _is_ensemble(cell: Cell) -> bool:
    return cell.experiment is not None and cell.experiment.endswith("+")


def budget_text(study: Study, budget: str) -> str:
    """A budget in words; one that changes the network says so."""
    return f"{budget} budget" + (", smaller network" if reduces(study, budget) else "")


def reduces(study: Study, budget: str) -> bool:
    """Whether a budget changes the network, so that its numbers are not the paper's."""
    return any(key.startswith("model.") for key in study.budgets[budget].set)


def macs_facts(cost: Complexity, hr_size: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """What is to be known of counted MACs: for which output, and by which convention.

    Args:
        cost: Cost of a network.
        hr_size: (H, W) of the output.
    """
    return (
        ("output", f"{hr_size[1]} x {hr_size[0]}"),
        ("MACs", f"{cost.macs:,}, true count"),
        ("in tables", f"{cost.macs_out:,}, deconvolutions once per output pixel"),
    )


def bicubic_number(
    records: Iterable[WeightRecord], group: str, metric: str, protocol: str
) -> Number | None:
    """What bicubic interpolation reaches, by the first weights that it was measured beside.

    Args:
        records: Records of the weights.
        group: Set and scale, such as ``Set5_x4``.
        metric: "psnr" or "ssim".
        protocol: Protocol that it was measured under.
    """
    for record in records:
        value = record.measured.get(protocol, {}).get(group, {}).get(f"bicubic_{metric}")
        if value is not None:
            facts = (("protocol", protocol), ("measured with", record.name))
            origin = Provenance(f"{_BICUBIC}: {group_text(group)}", facts)
            return Number(value, metric, "measured", origin=origin)
    return None


def origin_of_weights(record: WeightRecord, protocol: str) -> Provenance:
    """Where a number of shipped weights comes from.

    Args:
        record: Record of the weights.
        protocol: Protocol that they were measured under.
    """
    history = record.history
    steps = [f"{stage.steps:,}, batch {stage.batch}, patch {stage.patch}" for stage in history]
    facts = [
        *(("started from", stage.recipe) for stage in record.stages),
        ("run", record.recipe),
        ("protocol", protocol),
        ("steps", ", then ".join(steps)),
        ("training data", record.training_data),
        ("wall time", " + ".join(f"{stage.hours:g}" for stage in history) + " h"),
        ("hardware", record.hardware),
        ("commit", record.commit),
        ("weights sha256", record.sha256),
        ("origin", record.origin),
    ]
    return Provenance(f"Weights {record.name}", tuple(facts))


def origin_of_runs(runs: Sequence[RunRecord], title: str, protocol: str) -> Provenance:
    """Where the mean over some runs comes from.

    Args:
        runs: Runs of the ledger, one for each seed.
        title: What the number is.
        protocol: Protocol that it was measured under.
    """

    def shared(values: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    facts = (
        ("budget", shared(run.budget for run in runs)),
        ("protocol", protocol),
        ("seeds", ", ".join(dict.fromkeys(str(run.seed) for run in runs))),
        ("steps", shared(f"{run.steps:,}" for run in runs)),
        ("wall time", ", ".join(f"{run.seconds / 60:.1f} min" for run in runs)),
        *((name, shared(getattr(run, name) for run in runs)) for name in ("hardware", "commit")),
        ("code", shared(run.code for run in runs)),
        ("config", shared(run.key for run in runs)),
        ("data", shared(_data(run) for run in runs)),
    )
    return Provenance(title, facts, tuple(run.name for run in runs))


def _data(run: RunRecord) -> str:
    return ", ".join(
        f"{role} {name} ({facts.get('images')}) {str(facts.get('sha256', ''))[:12]}"
        for role, sets in run.data.items()
        if isinstance(sets, dict)
        for name, facts in sets.items()
        if isinstance(facts, dict)
    )
