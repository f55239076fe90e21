"""Running a queue as SLURM jobs through submitit (an extra)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sr_lightning.errors import UserError
from sr_lightning.studies.queue import Job, Queue

__all__ = ["run_on_slurm"]


def run_on_slurm(
    queue: Queue, folder: Path, name: str, parameters: dict[str, Any], poll_s: float = 5.0
) -> None:
    """Submit every job of a queue as one of SLURM's and wait for all.

    A preempted job is put back into SLURM's queue and goes on from its last checkpoint, since that
    is what running a broken-off one does. What waits for another's result is left to the next call.

    Args:
        queue: The queue.
        folder: Where submitit writes its logs.
        name: Name of the jobs in SLURM.
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
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    except RuntimeError as error:
        raise UserError(f"There is no SLURM here ({error}); use --launcher local.") from error
    executor.update_parameters(name=name, **parameters)
    waiting: list[tuple[Job, Any]] = []
    with executor.batch():
        for job in queue.jobs:
            if what := job.waits_for():
                print(f"{job.name}  waits for {what}", flush=True)
            else:
                waiting.append((job, executor.submit(*job.elsewhere())))
    while waiting:
        time.sleep(poll_s)
        for pair in [pair for pair in waiting if pair[1].done()]:
            waiting.remove(pair)
            _conclude(*pair)


def _conclude(job: Job, submitted: Any) -> None:
    try:
        job.state, job.reason = submitted.result()
    except Exception as error:
        # Whatever killed the job, the other ones go on.
        reason = f"Job {submitted.job_id} ended without a result: {error}".splitlines()[0]
        job.state, job.reason = "failed", reason
        job.over()
    said = f": {job.reason}" if job.reason else ""
    print(f"{job.name}  {job.state}{said}  (job {submitted.job_id})", flush=True)
