"""A study as a W&B sweep, for people who run agents: the same grid in flat dotted names.

Agents pass parameters as ``--model.unit=dense``; nested ones they would pass as a dictionary that
no option takes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml

from sr_lightning.errors import UserError
from sr_lightning.studies.study import Cell, Study
from sr_lightning.training.complexity import network_of_config

__all__ = ["sweep"]

_SEED = "seed_everything"
# What differs between the runs of a sweep, which W&B keeps track of itself.
_OWN = ("--output.", "--wandb.tags=", "--wandb.notes=", "--wandb.ablation_level=")


def sweep(study: Study, budget: str, seeds: int | None = None) -> str:
    """The YAML that ``wandb sweep`` takes.

    Args:
        study: Study whose grid it is.
        budget: Budget of every run.
        seeds: How many; default the study's.

    Raises:
        UserError: the levels have experiments of their own or are not all combinations of their
            options, which is all that a sweep can say, or an option's default cannot be told.
    """
    if len(set(study.experiments.values())) > 1:
        raise UserError(
            f"The levels of {study.name} have experiments of their own, and a sweep varies the "
            "options of one; use 'sr-lightning study run'."
        )
    cells = list(study.cells(budget, seeds))
    options = list(dict.fromkeys(option for level in study.levels.values() for option in level))
    levels = [
        [level[option] if option in level else _default(cells[0], option) for option in options]
        for level in study.levels.values()
    ]
    values = [_distinct(column) for column in zip(*levels, strict=True)]
    if sorted(map(json.dumps, itertools.product(*values))) != sorted(map(json.dumps, levels)):
        raise UserError(
            f"The levels of {study.name} are not all combinations of {', '.join(options)}, so a "
            "sweep cannot say them; use 'sr-lightning study run'."
        )
    content = {
        "name": f"{study.name}, {budget} budget",
        "method": "grid",
        "metric": {
            "name": f"val/{study.measure.protocol}/{study.measure.metric}",
            "goal": "maximize",
        },
        "parameters": {
            **{name: {"values": column} for name, column in zip(options, values, strict=True)},
            _SEED: {"values": _distinct(cell.seed for cell in cells)},
        },
        "command": _command(cells[0], [*options, _SEED]),
    }
    return yaml.safe_dump(content, sort_keys=False)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({json.dumps(value): value for value in values}.values())


def _default(cell: Cell, option: str) -> Any:
    """The value of an option in a level that leaves it alone."""
    if option in cell.study.budgets[cell.budget].set:
        return cell.study.budgets[cell.budget].set[option]
    section, _, rest = option.partition(".")
    names = rest.replace("init_args.", "").split(".")
    place: Any = cell.merged_config().get(section, {})
    for name in names:
        inside = place.get("init_args", place) if isinstance(place, dict) else {}
        place = inside.get(name)
    if place is None and (section, names[0]) == ("model", "network") and len(names) == 2:
        place = network_of_config(cell.experiment).config.get(names[1])
    if place is None:
        raise UserError(
            f"The default of {option} in {cell.study.name} is not known; write it into every level."
        )
    return place


def _command(cell: Cell, varied: Collection[str]) -> list[str]:
    """What an agent runs, from the root of the checkout."""
    dropped = (*_OWN, *(f"--{option}=" for option in varied))
    root = f"{cell.study.root}/"
    kept = [
        argument.removeprefix(root)
        for argument in cell.fit_arguments(Path())
        if not argument.startswith(dropped)
    ]
    tags = [tag for tag in cell.tags if not tag.startswith(("level:", "seed:"))]
    told = [f"--wandb.tags={json.dumps(tags)}", "--wandb.mode=online"]
    return [
        *("${env}", "${interpreter}", "-m", "sr_lightning"),
        *kept,
        *told,
        "${args}",
    ]
