"""Submit the steps of an experiment to SLURM through submitit: dependencies, job arrays, and no job twice.

What is done is read from nnU-Net's files, what is under way from SLURM's queue. The only thing stored is which job
stands for which step, in slurm_jobs.json.
"""

from __future__ import annotations

import getpass
import json
import math
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from nnunet_transformers.common.files import write_whole
from nnunet_transformers.common.locks import holder, locked
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Slurm
from nnunet_transformers.comparison.nnunet.state import load_json
from nnunet_transformers.comparison.running.slurm_job import SECONDS_TO_SAVE, StepRun
from nnunet_transformers.comparison.running.step import Step, settled

JOBS_FILE = "slurm_jobs.json"
# Where neither a step nor the settings say: submitit needs a number. A training that takes longer is requeued.
DEFAULT_HOURS = 24.0

_REQUEUES = 1000  # a run without a new checkpoint is not requeued, so this bound need not be tight


@dataclass(frozen=True)
class JobGroup:
    """Steps that are submitted together: as a job array, or as a job if there is one.

    Attributes:
        name: of the job.
        needs: names of the steps that have to be done before.
        after: names of the steps that have to have ended before.
        minutes: time limit.
    """

    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...]
    after: tuple[str, ...]
    gpu: bool
    minutes: int


@dataclass(frozen=True)
class Queued:
    """A job in SLURM's queue.

    Attributes:
        job: number of the job, with its index if it is an element of an array: 4711_3.
        state: as SLURM says it: PENDING, RUNNING, COMPLETING, …
    """

    job: str
    state: str


def submit(
    steps: Sequence[Step], settings: Slurm, folder: Path, *, environment: Mapping[str, str] | None = None
) -> dict[str, Queued]:
    """Submit what is neither done nor in the queue; it returns at once.

    A job waits for the jobs of the steps it needs or comes after; if one it needs fails, SLURM cancels it. A training
    that reaches its time limit is requeued and goes on from its checkpoint.

    Args:
        folder: of the experiment, on a file system the compute nodes share; slurm_jobs.json and a folder slurm with
            submitit's files are written to it.
        environment: variables of the jobs beside those of this process; `nnUNet_results` must be in one of them.

    Returns:
        Names of the submitted steps with their jobs; those that were done or in the queue already are not in it.

    Raises:
        ComparisonError: submitit or SLURM is missing, another process is submitting, or SLURM refuses a job; the jobs
            before that one stay submitted.
    """
    submitit = _import_submitit()
    folder = Path(folder).resolve()
    with locked(folder / ".slurm.lock") as taken:
        if not taken:
            raise ComparisonError(
                f"jobs are being submitted from {folder} by another process: {holder(folder / '.slurm.lock')}",
                "Wait until it has ended. Nothing was submitted.",
                "BEING_SUBMITTED",
            )
        return _submit_locked(submitit, steps, settings, folder, environment or {})


def in_queue(folder: Path) -> dict[str, Queued]:
    """The steps whose jobs, by slurm_jobs.json in this folder, are in SLURM's queue: waiting or running.

    A job that waits for one that failed will never start, and is not among them.

    Raises:
        ComparisonError: SLURM does not answer.
    """
    known = _known_jobs(folder)
    if not known:
        return {}
    rows = _squeue()
    return {
        name: Queued(job, rows[job][1])
        for name, (job, job_name) in known.items()
        if rows.get(job, ("",))[0] == job_name
    }


def grouped(steps: Sequence[Step], settings: Slurm, *, queued: Collection[str] = ()) -> list[JobGroup]:
    """Put what is not done into jobs and job arrays, each after those it needs.

    Steps are one array if they say so, wait for the same steps, and ask for the same: an array has one dependency and
    one request.

    Args:
        queued: names of steps that are in the queue and may be waited for.

    Raises:
        ValueError: a step needs one that is not there.
    """
    done = settled(steps)
    left = {step.name: step for step in steps if step.name not in done}
    members: dict[tuple[Any, ...], list[Step]] = {}
    for step in left.values():
        unknown = {*step.needs, *step.after} - done - set(left) - set(queued)
        if unknown:
            raise ValueError(f"{step.name} needs {', '.join(sorted(unknown))}: there is no such step")
        needs = tuple(name for name in step.needs if name not in done)
        after = tuple(name for name in step.after if name not in done)
        hours = step.hours or settings.hours or DEFAULT_HOURS
        key = (step.array or step.name, bool(step.array), needs, after, step.gpu, math.ceil(hours * 60))
        members.setdefault(key, []).append(step)
    groups = [
        JobGroup(_job_name(name), tuple(together), needs, after, gpu, minutes)
        for (name, _, needs, after, gpu, minutes), together in members.items()
    ]
    group_of = {step.name: group for group in groups for step in group.steps}
    before = {group: [group_of[n] for n in (*group.needs, *group.after) if n in group_of] for group in groups}
    order = TopologicalSorter(before)
    return list(order.static_order())


def gpu_request(gpus: int) -> str:
    """Value of --gres, which every cluster with GPUs understands."""
    return f"gpu:{gpus}"


def _submit_locked(
    submitit: Any, steps: Sequence[Step], settings: Slurm, folder: Path, environment: Mapping[str, str]
) -> dict[str, Queued]:
    ids = {name: queued.job for name, queued in in_queue(folder).items()}
    submitted: dict[str, Queued] = {}
    for group in grouped([step for step in steps if step.name not in ids], settings, queued=ids):
        executor = submitit.SlurmExecutor(folder / "slurm", max_num_timeout=_REQUEUES)
        executor.update_parameters(**_parameters(group, settings, ids))
        runs = [_run(step, group.minutes, environment) for step in group.steps]
        try:
            with executor.batch():
                made = [executor.submit(run) for run in runs]
        except submitit.core.utils.FailedJobError as error:
            raise ComparisonError(
                f"SLURM refuses the job {group.name}: {error}".rstrip(),
                f"{len(submitted)} steps were submitted before it. Mend the slurm section of the experiment file, and "
                "run the same command again: it submits the rest.",
                "SLURM_REFUSES",
            ) from error
        for step, job in zip(group.steps, made, strict=True):
            ids[step.name] = job.job_id
            submitted[step.name] = Queued(job.job_id, "PENDING")
        _remember(folder, {step.name: (ids[step.name], group.name) for step in group.steps})
    return submitted


def _run(step: Step, minutes: int, environment: Mapping[str, str]) -> StepRun:
    fold = step.fold.folder.resolve() if step.fold else None
    return StepRun(step.name, step.command, step.process, step.log.resolve(), fold, minutes, environment)


def _parameters(group: JobGroup, settings: Slurm, ids: Mapping[str, str]) -> dict[str, Any]:
    """submitit's names for what a group asks for."""
    extra: dict[str, Any] = {"requeue": True, **extra_options(settings.extra)}
    dependency = dependencies([ids[name] for name in group.needs], [ids[name] for name in group.after])
    if dependency:
        extra["kill-on-invalid-dep"] = "yes"
    parameters = {
        "job_name": group.name,
        "time": group.minutes,
        "cpus_per_task": settings.cpus,
        # Since SLURM 22.05 srun does not take the number of cores from the job.
        "srun_args": [f"--cpus-per-task={settings.cpus}"],
        "partition": settings.partition or None,
        "account": settings.account or None,
        "mem": None if settings.memory_gb is None else f"{math.ceil(settings.memory_gb * 1024)}M",
        "gres": gpu_request(settings.gpus_per_task) if group.gpu and settings.gpus_per_task else None,
        "dependency": dependency or None,
        "setup": list(settings.setup) or None,
        "signal_delay_s": SECONDS_TO_SAVE,
        "additional_parameters": extra,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def dependencies(done: Sequence[str], ended: Sequence[str]) -> str:
    """Value of --dependency for jobs that have to be done before, and jobs that have to have ended in any way."""
    kinds = {"afterok": done, "afterany": ended}
    return ",".join(f"{kind}:{':'.join(jobs)}" for kind, jobs in kinds.items() if jobs)


def extra_options(lines: Sequence[str]) -> dict[str, str | bool]:
    """Options of sbatch by name: "--constraint=a100" → {"constraint": "a100"}, "#SBATCH --exclusive" → {…: True}.

    Raises:
        ComparisonError: a line is something else.
    """
    options: dict[str, str | bool] = {}
    for line in lines:
        match = re.fullmatch(r"(?:#SBATCH\s+)?--([a-z][a-z-]*)(?:(?:=|\s+)(.+))?", line.strip())
        if match is None:
            raise ComparisonError(
                f"the slurm section's extra line is no option of sbatch in full: {line}",
                'Write it like "--constraint=a100" or "--exclusive". Nothing was submitted.',
                "SLURM_EXTRA",
            )
        options[match[1]] = True if match[2] is None else match[2].strip("\"'")
    return options


def _import_submitit() -> Any:
    if shutil.which("sbatch") is None:
        raise ComparisonError(
            "sbatch is not found: this is not a machine jobs can be submitted from",
            "Run this on the cluster's login node, or write the scripts with --print and submit them there. "
            "Nothing was submitted.",
            "NO_SLURM",
        )
    try:
        import submitit
    except ImportError as error:
        raise ComparisonError(
            f"submitit cannot be imported, which submits jobs to SLURM: {error}",
            'Install it: pip install "nnunet-transformers[slurm]". Or write plain scripts with --print. '
            "Nothing was submitted.",
            "NO_SUBMITIT",
        ) from error
    return submitit


def _job_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def _known_jobs(folder: Path) -> dict[str, tuple[str, str]]:
    """Step → (job, name of the job) as remembered; the name tells a job from another user of its number."""
    content = load_json(folder / JOBS_FILE)
    if not isinstance(content, dict):
        return {}
    return {name: (entry["job"], entry["job_name"]) for name, entry in content.items()}


def _remember(folder: Path, jobs: Mapping[str, tuple[str, str]]) -> None:
    known = {**_known_jobs(folder), **jobs}
    content = {name: {"job": job, "job_name": job_name} for name, (job, job_name) in known.items()}
    write_whole(folder / JOBS_FILE, json.dumps(content, indent=2) + "\n")


def _squeue() -> dict[str, tuple[str, str]]:
    """Job → (name, state) of this user's jobs that wait for nothing impossible; each element of an array by itself."""
    command = ["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T|%r|%j"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise ComparisonError(
            f"SLURM's queue cannot be read: {reason}",
            "Which jobs run is not known. Nothing was submitted; try again when squeue answers.",
            "NO_SLURM",
        ) from error
    rows = (line.split("|", 3) for line in answer.splitlines())
    return {job: (name, state) for job, state, reason, name in rows if reason != "DependencyNeverSatisfied"}
