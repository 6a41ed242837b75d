"""The steps of an experiment, in nnU-Net's own commands, and how each is seen to be done from the files it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of an experiment.

    Attributes:
        name: unique in the experiment, for people to read.
        command: the program and its arguments.
        needs: names of the steps that have to be done before.
        gpu: it needs one.
        log: the file its output is added to.
        is_done: whether its files are there and complete.
        array: steps with an equal, non-empty array may run as one job array of a cluster.
        hours: time limit on a cluster; None for the cluster's own.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    gpu: bool = False
    log: Path
    is_done: Callable[[], bool]
    array: str = ""
    hours: float | None = None
