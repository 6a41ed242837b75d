"""One command of an experiment, how it is seen to be done, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_transformers.comparison.experiment.model import Model


@dataclass(frozen=True)
class Fold:
    """What a training trains, and the folder nnU-Net writes it to, whether it is there or not."""

    model: Model
    number: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of an experiment.

    Attributes:
        name: unique in the experiment, for people to read.
        command: nnU-Net's own, from the start.
        process: runs the step in a process of its own: locked, prepared, only what is left (`step_process`).
        needs: names of the steps that have to be done before.
        after: names of steps that have to have ended before, done or failed: it takes what is there.
        fold: what it trains; None for a step that is no training.
        gpu: it needs one.
        log: the file its output is added to.
        is_done: whether its files are there and complete.
        stays_done: also when a step before it is run again.
        array: steps with an equal, non-empty array may run as one job array of a cluster.
        hours: time limit on a cluster; None for the cluster's own.
        lock: a file that is locked while the step runs, by whoever runs it.
        prepare: removes files that were cut off and gives the command that is left, None if nothing is.
    """

    name: str
    command: tuple[str, ...]
    process: tuple[str, ...]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    fold: Fold | None = None
    gpu: bool = False
    log: Path
    is_done: Callable[[], bool]
    stays_done: bool = False
    array: str = ""
    hours: float | None = None
    lock: Path | None = None
    prepare: Callable[[], Sequence[str] | None] | None = None


def settled(all_steps: Sequence[Step]) -> set[str]:
    """Names of the steps that are done and will still be when the others have run.

    A selection made before one of the trainings it may take is not: that training is to be waited for.
    """
    by_name = {step.name: step for step in all_steps}
    found: dict[str, bool] = {}

    def is_settled(name: str) -> bool:
        if name not in found:
            step = by_name.get(name)
            found[name] = (
                step is not None
                and step.is_done()
                and (step.stays_done or all(map(is_settled, (*step.needs, *step.after))))
            )
        return found[name]

    return {name for name in by_name if is_settled(name)}
