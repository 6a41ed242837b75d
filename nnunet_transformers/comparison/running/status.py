"""How far an experiment is, from nnU-Net's files, its training logs and the locks of running steps. Ask at any time.

Running means that a process has the step's lock, or, where that cannot be seen (another machine, a training started by
hand), that a log of it was written to within the last `RECENT_SECONDS`; the status says which.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from statistics import median

from nnunet_transformers.common.locks import holder, was_taken_here
from nnunet_transformers.common.words import duration
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Experiment, Slurm
from nnunet_transformers.comparison.nnunet.model_id import ModelId
from nnunet_transformers.comparison.nnunet.state import load_json, training_logs
from nnunet_transformers.comparison.nnunet.training_log import read_training_log
from nnunet_transformers.comparison.running.slurm import Queued, in_queue
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.step_process import FAILED
from nnunet_transformers.comparison.running.steps import steps

RECENT_SECONDS = 900.0

_LAST_EPOCHS = 20  # that the remaining time is taken from
_DEFAULT_EPOCHS = 1000  # of nnU-Net
_END_OF_LOG = 65536  # bytes


class State(str, Enum):
    """What a step can be."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: the one it is at, from 0 as nnU-Net counts.
        epochs: how many there will be.
        remaining_seconds: until the last epoch ends, without the validation; None before the first has ended.
    """

    epoch: int
    epochs: int
    remaining_seconds: float | None


@dataclass(frozen=True)
class StepStatus:
    """How far a step is.

    Attributes:
        dataset, model, fold: of a training, else None.
        progress: of a training that runs or was interrupted.
        detail: what shows that it runs, why it failed, or how far it was when it was interrupted.
    """

    name: str
    state: State
    detail: str
    log: Path
    dataset: int | None = None
    model: str | None = None
    fold: int | None = None
    progress: Progress | None = None


def status(experiment: Experiment) -> list[StepStatus]:
    """The status of every step, in their order.

    Raises:
        ComparisonError: a dataset or a folder of nnU-Net's is not there.
    """
    folders = experiment.nnunet_folders()
    queued = _queued(experiment)
    found = []
    for step in steps(experiment, folders):
        fold = step.fold
        state, detail, progress = _state(step, fold.folder if fold else None)
        if state is not State.DONE and (job := queued.get(step.name)):
            state = State.RUNNING if job.state == "RUNNING" else State.WAITING
            detail = f"SLURM's job {job.job}, {job.state.lower()}"
        of_model = (fold.model.dataset, fold.model.name, fold.number, progress) if fold else ()
        found.append(StepStatus(step.name, state, detail, step.log, *of_model))
    return found


def _queued(experiment: Experiment) -> Mapping[str, Queued]:
    """Steps that SLURM has in its queue, as far as it can be asked from here."""
    if not isinstance(experiment.where, Slurm):
        return {}
    try:
        return in_queue(experiment.output)
    except ComparisonError:
        return {}


def as_json(found: Sequence[StepStatus]) -> str:
    """The status for a script to read: a list of steps."""
    return json.dumps([{**asdict(each), "log": str(each.log)} for each in found], indent=2)


def as_text(found: Sequence[StepStatus]) -> str:
    """A table of trainings, model × fold, then the other steps, then what failed and why."""
    lines: list[str] = []
    for dataset in dict.fromkeys(each.dataset for each in found if each.model):
        trainings = [each for each in found if each.dataset == dataset]
        folds = sorted({each.fold for each in trainings if each.fold is not None})
        rows = [[f"dataset {dataset}", *(f"fold {fold}" for fold in folds)]]
        for model in dict.fromkeys(each.model for each in trainings):
            cells = {each.fold: _cell(each) for each in trainings if each.model == model}
            rows.append([str(model), *(cells[fold] for fold in folds)])
        lines += [*_columns(rows), ""]
    others = [[each.name, _cell(each)] for each in found if each.model is None]
    lines += [*_columns(others), ""] if others else []
    lines += [f"{each.name} failed: {each.detail}\n  {each.log}" for each in found if each.state is State.FAILED]
    lines += [f"{each.name}: {each.detail}" for each in found if each.state is State.RUNNING]
    lines += [f"{each.name}: {each.detail}" for each in found if each.state is State.WAITING and each.detail]
    counts = ", ".join(f"{n} {s.value}" for s in State if (n := sum(each.state is s for each in found)))
    return "\n".join([*lines, f"{len(found)} steps: {counts}"])


def read_progress(folder: Path) -> Progress | None:
    """How far a fold is, from its training logs; None if no epoch has begun."""
    log = read_training_log(folder)
    if log.epoch is None:
        return None
    epochs = _epochs(folder)
    left = epochs - log.epoch - log.is_epoch_finished
    times = list(log.seconds.values())[-_LAST_EPOCHS:]
    return Progress(log.epoch, epochs, max(0, left) * median(times) if times else None)


def newest_log(folder: Path) -> Path | None:
    """The training log of the last start."""
    return next(reversed(training_logs(folder)), None)


def _epochs(folder: Path) -> int:
    """Those planned, as nnU-Net recorded them or as the trainer's name says."""
    description = load_json(folder / "debug.json")
    planned = str(description.get("num_epochs")) if isinstance(description, dict) else ""
    model = ModelId.parse(folder.parent.name)
    return int(planned) if planned.isdigit() else (model.parts.epochs if model else None) or _DEFAULT_EPOCHS


def _state(step: Step, folder: Path | None) -> tuple[State, str, Progress | None]:
    if step.is_done():
        return State.DONE, "", None
    progress = read_progress(folder) if folder else None
    if step.lock and (who := holder(step.lock)):
        return State.RUNNING, who, progress
    last = _last_line(step.log)
    if last.startswith(FAILED):
        return State.FAILED, last.removeprefix(FAILED).strip(), progress
    seen_here = step.lock is not None and step.lock.is_file() and was_taken_here(step.lock)
    written = [path for path in (step.log, newest_log(folder) if folder else None) if path and path.is_file()]
    age = min((time.time() - path.stat().st_mtime for path in written), default=None)
    if age is None:
        return State.WAITING, "", None
    if age < RECENT_SECONDS and not seen_here:
        return (
            State.RUNNING,
            f"by its log, written to {duration(age)} ago; its process is not seen from here",
            progress,
        )
    where = f" in epoch {progress.epoch}" if progress else ""
    return State.WAITING, f"interrupted{where} {duration(age)} ago; will go on", progress


def _last_line(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _END_OF_LOG))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _cell(each: StepStatus) -> str:
    if each.state is not State.RUNNING or each.progress is None:
        return each.state.value
    progress = each.progress
    if progress.remaining_seconds == 0:
        return "validating"
    left = "" if progress.remaining_seconds is None else f", {duration(progress.remaining_seconds)} left"
    return f"epoch {progress.epoch} of {progress.epochs}{left}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
