"""Running the cells of a study as SLURM jobs through submitit (an extra)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.studies.ledger import Failure
from sr_lightning.studies.runner import CellState, Runner, run_cell

__all__ = ["run_on_slurm"]


def run_on_slurm(runner: Runner, parameters: dict[str, Any], poll_s: float = 5.0) -> None:
    """Submit every cell as a job of its own and wait for all.

    A preempted job is put back into the queue by SLURM and goes on from the cell's last
    checkpoint, since that is what running a broken-off cell does.

    Args:
        runner: Runner of the study.
        parameters: Parameters of submitit's executor, such as ``slurm_partition``, ``timeout_min``.
        poll_s: Seconds between looks at the queue.

    Raises:
        UserError: submitit or SLURM is missing.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "The SLURM launcher needs submitit: pip install sr-lightning[slurm]."
        ) from None
    folder = runner.runs / "slurm" / runner.study.name
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    except RuntimeError as error:
        raise UserError(f"There is no SLURM here ({error}); use --launcher local.") from error
    executor.update_parameters(name=runner.study.name, **parameters)
    study = runner.study
    jobs: list[tuple[CellState, Any]] = []
    with executor.batch():
        for state in runner.states:
            cell = state.cell
            job = executor.submit(
                run_cell,
                str(study.file),
                str(study.root),
                cell.budget,
                cell.level,
                cell.seed,
                str(runner.runs),
                str(runner.ledger.folder),
                list(runner.extra),
            )
            jobs.append((state, job))
    waiting = list(jobs)
    while waiting:
        time.sleep(poll_s)
        for state, job in list(waiting):
            if not job.done():
                continue
            waiting.remove((state, job))
            _conclude(runner, state, job, folder)


def _conclude(runner: Runner, state: CellState, job: Any, folder: Path) -> None:
    try:
        state.state = job.result()
    except Exception as error:
        # Whatever killed the job, the other cells go on.
        reason = f"Job {job.job_id} ended without a result: {error}".splitlines()[0]
        runner.ledger.fail(Failure(state.cell.name, reason, str(folder)))
        state.state, state.reason = "failed", reason
    runner.changed(state)
    print(f"{state.cell.name}  {state.state}  (job {job.job_id})", flush=True)
