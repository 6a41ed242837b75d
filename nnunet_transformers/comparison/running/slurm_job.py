"""Run a step as a job of a cluster: the part that runs on the compute node.

A job may be requeued at its time limit, by a preemption, or when its node fails, and is the same job each time. What is
left of its step is decided when it starts, from the files that are there, by `step_process`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.state import is_checkpoint
from nnunet_transformers.comparison.running.processes import how_it_ended

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

SECONDS_TO_SAVE = 120  # between the signal and the time limit: finish a checkpoint, end the training, requeue

_SIGNAL_EARLY_SECONDS = 60.0  # SLURM may send the signal this much before it is due
_MOST_WORKERS = 12  # nnU-Net's own number for augmentation
_CHECKPOINTS = "checkpoint_*.pth"
_WRITING_SECONDS = 20.0  # to finish a checkpoint
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.2


@dataclass
class StepRun:
    """A call of it runs the step; submitit pickles it, and calls `checkpoint` before a requeue.

    Attributes:
        name, command, log: of the step.
        process: what to start; it runs what is left of the command.
        fold: folder of the fold it trains; None for a step that is no training.
        minutes: time limit of the job.
        environment: variables it needs beside those of the job, nnU-Net's three folders for example.
    """

    name: str
    command: tuple[str, ...]
    process: tuple[str, ...]
    log: Path
    fold: Path | None
    minutes: int
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _started: float = field(default=0.0, init=False, repr=False)
    _newest_at_start: float = field(default=0.0, init=False, repr=False)

    def __call__(self) -> None:
        """Run the step; its output is added to the log.

        Raises:
            ComparisonError: it could not be started, or failed.
        """
        self._started = time.monotonic()
        self._newest_at_start = _newest_checkpoint(self.fold)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = self._start(log)
        signal.signal(signal.SIGTERM, self._pass_on)
        code = self._process.wait()
        if code:
            raise ComparisonError(
                f"{self.name} failed ({how_it_ended(code)}): {' '.join(self.command)}",
                f"Its output: {self.log}. Finished steps are kept; submit again to go on from here.",
                "STEP_FAILED",
            )

    def checkpoint(self) -> DelayedSubmission | None:
        """End the command before its time limit or a preemption.

        Returns:
            What submitit requeues: the same step, which goes on from its newest checkpoint. None if this run used up
            its time without writing one: the next run would not come further, so the job is to fail.
        """
        from submitit.helpers import DelayedSubmission

        if self.fold is not None:
            wait_for_checkpoints(self.fold)
        if self._process is not None:
            _end(self._process.pid)
        seconds_left = self._started + 60 * self.minutes - time.monotonic()
        out_of_time = seconds_left < SECONDS_TO_SAVE + _SIGNAL_EARLY_SECONDS
        if out_of_time and _newest_checkpoint(self.fold) <= self._newest_at_start:
            from nnunet_transformers.comparison.running.step_process import FAILED

            with self.log.open("a") as log:
                log.write(
                    f"{FAILED} out of time, and this run wrote no checkpoint to go on from. Give it more hours.\n"
                )
            return None
        return DelayedSubmission(
            StepRun(self.name, self.command, self.process, self.log, self.fold, self.minutes, self.environment)
        )

    def _complete_environment(self) -> dict[str, str]:
        environment = {**worker_processes(os.environ), **os.environ, **self.environment}
        # nnU-Net's commands are beside the Python that runs this, whatever PATH the cluster sets.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        return environment

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # SLURM sends the signal to every process of the job. Only this one is to act on it: a blocked signal is
        # blocked in what it starts, too.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            return subprocess.Popen(
                self.process, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=self._complete_environment(),
            )  # fmt: skip
        except OSError as error:
            raise ComparisonError(
                f"{self.name}: {self.process[0]} cannot be started: {error}",
                "Finished steps are kept.",
                "CANNOT_START",
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._process is not None and not _has_ended(self._process.pid):
            _signal_group(self._process.pid, signal.Signals(number))


def worker_processes(environment: Mapping[str, str]) -> dict[str, str]:
    """nnU-Net's numbers of worker processes for the cores a job was given: it would count those of the whole node."""
    if "SLURM_CPUS_PER_TASK" not in environment:
        return {}
    workers = str(min(int(environment["SLURM_CPUS_PER_TASK"]), _MOST_WORKERS))
    return {"nnUNet_n_proc_DA": workers, "nnUNet_def_n_proc": workers}


def wait_for_checkpoints(folder: Path, seconds: float = _WRITING_SECONDS) -> None:
    """Wait until no checkpoint of a fold is half-written, as one is after a training was ended while it wrote."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(map(is_checkpoint, folder.glob(_CHECKPOINTS))):
        time.sleep(_POLL_SECONDS)


def _newest_checkpoint(folder: Path | None) -> float:
    """When the newest checkpoint was written, by the clock of the file system; 0 if there is none."""
    return max((path.stat().st_mtime for path in folder.glob(_CHECKPOINTS)), default=0.0) if folder else 0.0


def _end(pid: int) -> None:
    """End a child with all that it started, firmly if it does not go."""
    _signal_group(pid, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    while not _has_ended(pid) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    _signal_group(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    # Asked from signal handlers, where Popen's own poll() may be waiting for the code that was interrupted.
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
