"""Learning-rate schedules per optimiser step that know how long the run is.

A schedule given without `total_steps` takes the trainer's ``max_steps``, so that a shorter budget
shortens the schedule with it.
"""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["Cosine", "Milestones", "Schedule"]


class Schedule(LambdaLR):
    """Base: the optimiser's learning rate times `factor(step)`.

    Args:
        optimizer: Optimizer whose learning rate is scheduled.
        total_steps: Length of the run; None takes the trainer's.
        warmup: Steps over which the rate first rises linearly from nearly 0.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, warmup: int = 0
    ) -> None:
        self.total_steps = total_steps
        self.warmup = warmup
        super().__init__(optimizer, self._factor)

    def state_dict(self) -> dict[str, Any]:
        """State without the run's length: a resumed run may have been given a longer one."""
        return {k: v for k, v in super().state_dict().items() if k != "total_steps"}

    def _factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.total_steps:
            return 1.0
        span = max(1, self.total_steps - self.warmup)
        return self.after_warmup(min(1.0, (step - self.warmup) / span))

    def after_warmup(self, progress: float) -> float:
        """Factor at a progress from 0 (end of warm-up) to 1 (end of the run)."""
        raise NotImplementedError


class Cosine(Schedule):
    """Half a cosine from the initial rate down to `final` times it.

    Args:
        optimizer: Optimizer whose learning rate is scheduled.
        final: Last rate over the first.
        total_steps: Length of the run; None takes the trainer's.
        warmup: Steps of linear warm-up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        final: float = 0.0,
        total_steps: int | None = None,
        warmup: int = 0,
    ) -> None:
        self.final = final
        super().__init__(optimizer, total_steps, warmup)

    def after_warmup(self, progress: float) -> float:
        """Cosine from 1 to `final`."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


class Milestones(Schedule):
    """Multiply the rate by `gamma` at given fractions of the run.

    Args:
        optimizer: Optimizer whose learning rate is scheduled.
        at: Fractions of the run in (0, 1).
        gamma: Factor at each.
        total_steps: Length of the run; None takes the trainer's.
        warmup: Steps of linear warm-up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        at: tuple[float, ...] = (0.5,),
        gamma: float = 0.5,
        total_steps: int | None = None,
        warmup: int = 0,
    ) -> None:
        self.at = tuple(at)
        self.gamma = gamma
        super().__init__(optimizer, total_steps, warmup)

    def after_warmup(self, progress: float) -> float:
        """`gamma` to the power of the milestones passed."""
        return float(self.gamma ** sum(progress >= fraction for fraction in self.at))
