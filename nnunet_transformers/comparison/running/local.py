"""Run what is left of an experiment on this machine: one training after the other, or side by side, one per GPU.

A step that fails does not stop the others; those that need it are left out, with the reason. Nothing is lost by an
interruption: the next run does what is missing.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from nnunet_transformers.common.locks import holder
from nnunet_transformers.common.words import duration
from nnunet_transformers.comparison.experiment.model import Experiment, Local
from nnunet_transformers.comparison.running.processes import end_processes, how_it_ended, start_process, tail
from nnunet_transformers.comparison.running.step import Step, settled
from nnunet_transformers.comparison.running.step_process import FAILED, UNDER_WAY
from nnunet_transformers.comparison.running.steps import steps

_GPU = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 0.2
_POLLS_PER_LOOK = 5  # at what other processes do


@dataclass(frozen=True)
class Failure:
    """A step that failed: how it ended, and the end of its log."""

    step: Step
    how: str
    tail: str

    def __str__(self) -> str:
        return f"{self.step.name} failed ({self.how}):\n{self.tail}\n  whole log: {self.step.log}"


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        before: names of the steps that were done before.
        done: of those done now.
        failed: steps that failed.
        left_out: steps that were not started, with the reason.
    """

    before: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return not self.failed and not self.left_out

    def __str__(self) -> str:
        lines = [f"{len(self.before)} steps were done before, {len(self.done)} are done now"]
        lines += [f"failed: {failure.step.name}: {failure.how}, see {failure.step.log}" for failure in self.failed]
        lines += [f"not run: {name}: {reason}" for name, reason in self.left_out.items()]
        if not self.is_complete:
            lines.append("Finished steps are kept; the same command goes on from here.")
        return "\n".join(lines)


def run(experiment: Experiment) -> Outcome:
    """Run what is left of an experiment on this machine; progress goes to stderr.

    Raises:
        ComparisonError: a dataset or a folder of nnU-Net's is not there.
        KeyboardInterrupt: on Ctrl-C, SIGTERM or a closed terminal, after the running steps are ended.
    """
    where = experiment.where if isinstance(experiment.where, Local) else Local()
    folders = experiment.nnunet_folders()
    for folder in (folders.preprocessed, folders.results):
        folder.mkdir(parents=True, exist_ok=True)
    return run_steps(steps(experiment, folders), at_once=where.at_once, gpus=where.gpus)


def run_steps(
    all_steps: Sequence[Step],
    *,
    at_once: int = 1,
    gpus: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the steps that are not done, each after those it needs or comes after.

    A step that another process runs already, one that an interrupted run left for example, is waited for.

    Args:
        all_steps: in the order in which to start them.
        at_once: how many run together; of those that need no GPU one more, if there are steps that need one.
        gpus: names for CUDA_VISIBLE_DEVICES; the steps that run together take turns on them.
        environment: variables of the steps beside those of this process.
    """
    done = settled(all_steps)
    outcome = Outcome(before=[step.name for step in all_steps if step.name in done])
    schedule = _Schedule(all_steps, outcome, at_once, list(gpus), dict(environment or {}))
    with _signals_as_interrupts(), schedule.progress():
        try:
            while not schedule.is_finished():
                schedule.look()
                time.sleep(_POLL_SECONDS)
        finally:
            end_processes([each.process for each in schedule.running])
    return outcome


@dataclass
class _Elsewhere:
    """A step that another process runs, and the slot that is kept free for it."""

    step: Step
    slot: int | None


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    slot: int | None
    started: float


class _Schedule:
    """Which steps wait, run here, run elsewhere, and which slots are free."""

    def __init__(
        self,
        all_steps: Sequence[Step],
        outcome: Outcome,
        at_once: int,
        gpus: list[str],
        environment: dict[str, str],
    ) -> None:
        self.waiting = [step for step in all_steps if step.name not in outcome.before]
        self.running: list[_Running] = []
        self.elsewhere: list[_Elsewhere] = []
        self.outcome, self.gpus, self.environment = outcome, gpus, environment
        self.free = list(range(at_once))
        # Ensembles and preprocessing need not wait for a GPU.
        self.cpu_free = self.has_gpu_steps = any(step.gpu for step in all_steps)
        self.polls = 0
        self.bar: tqdm

    @contextmanager
    def progress(self) -> Iterator[None]:
        count = len(self.waiting)
        form = "  {bar:20} {n_fmt}/{total_fmt} {elapsed} {desc}"
        with tqdm(total=count, leave=False, disable=None, bar_format=form) as self.bar:
            yield

    def is_finished(self) -> bool:
        return not (self.waiting or self.running or self.elsewhere)

    def look(self) -> None:
        """Take note of what has ended, leave out what cannot be run, start what can."""
        for each in list(self.running):
            if (code := each.process.poll()) is not None:
                self.running.remove(each)
                self._ended(each, code)
        if self.polls % _POLLS_PER_LOOK == 0:
            for other in list(self.elsewhere):
                self._look_elsewhere(other)
            for step in list(self.waiting):
                if step.lock and (who := holder(step.lock)):
                    self.waiting.remove(step)
                    self._wait_for(step, who)
        self.polls += 1
        for step in list(self.waiting):
            if reason := self._obstacle(step):
                self.waiting.remove(step)
                self.outcome.left_out[step.name] = reason
                self._say(f"not run: {step.name}: {reason}")
        satisfied = {*self.outcome.before, *self.outcome.done}
        ended = {*satisfied, *self.outcome.left_out, *(failure.step.name for failure in self.outcome.failed)}
        for step in list(self.waiting):
            if satisfied.issuperset(step.needs) and ended.issuperset(step.after):
                self._try_to_start(step)
        self.bar.set_description_str(", ".join(each.step.name for each in self.running), refresh=True)

    def _obstacle(self, step: Step) -> str | None:
        failed = [failure.step.name for failure in self.outcome.failed]
        if step.after and all(name in failed or name in self.outcome.left_out for name in step.after):
            return "no step before it succeeded"
        for need in step.needs:
            if need in failed:
                return f"{need} failed"
            if need in self.outcome.left_out:
                return f"{need} was not run"
        return None

    def _try_to_start(self, step: Step) -> None:
        if not step.gpu and self.cpu_free:
            self.cpu_free, slot = False, None
        elif self.free:
            slot = self.free.pop(0)
        else:
            return
        self.waiting.remove(step)
        if step.lock and (who := holder(step.lock)):
            self._release(slot)
            self._wait_for(step, who)
            return
        environment = dict(self.environment)
        if self.gpus and slot is not None:
            environment[_GPU] = self._gpu(slot)
        process = start_process(step.name, step.process, step.log, environment)
        self.running.append(_Running(step, process, slot, time.monotonic()))

    def _ended(self, each: _Running, code: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(each.process.pid, signal.SIGKILL)  # workers that a training which was killed left behind
        self._release(each.slot)
        if code == UNDER_WAY:
            self._wait_for(each.step, holder(each.step.lock) if each.step.lock else None)
        elif code:
            self._failed(each.step, how_it_ended(code))
        else:
            self._done(each.step, f"{duration(time.monotonic() - each.started)}")

    def _look_elsewhere(self, other: _Elsewhere) -> None:
        step = other.step
        if step.lock and holder(step.lock):
            return
        self.elsewhere.remove(other)
        if other.slot is not None:
            self._release(other.slot)
        if step.is_done():
            self._done(step, "by another process")
        else:
            self.waiting.insert(0, step)

    def _wait_for(self, step: Step, who: str | None) -> None:
        """It takes a slot as if it ran here, that of its GPU if it can be seen which that is."""
        slot = None
        if self.free and (step.gpu or not self.has_gpu_steps):
            gpu = _environment_of(who).get(_GPU)
            slot = next((slot for slot in self.free if self.gpus and self._gpu(slot) == gpu), self.free[0])
            self.free.remove(slot)
        self.elsewhere.append(_Elsewhere(step, slot))
        self._say(f"{step.name} is under way already ({who or 'another process'}): waiting for it")

    def _gpu(self, slot: int) -> str:
        return self.gpus[slot % len(self.gpus)]

    def _done(self, step: Step, how: str) -> None:
        self.outcome.done.append(step.name)
        self.bar.update()
        self._say(f"done: {step.name} ({how})")

    def _failed(self, step: Step, how: str) -> None:
        failure = Failure(step, how, tail(step.log))
        if not failure.tail.rpartition("| ")[2].startswith(FAILED):
            with step.log.open("a") as log:
                log.write(f"{FAILED} {how}\n")
        self.outcome.failed.append(failure)
        self._say(str(failure))

    def _release(self, slot: int | None) -> None:
        if slot is None:
            self.cpu_free = True
        else:
            self.free.append(slot)
            self.free.sort()

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def _environment_of(who: str | None) -> dict[str, str]:
    """The variables that a process on this machine was started with, by what `holder` says of it; empty if unknown."""
    match = re.fullmatch(rf"process (\d+) on {re.escape(socket.gethostname())}", who or "")
    try:
        content = Path(f"/proc/{match[1]}/environ").read_text() if match else ""
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(entry.split("=", 1) for entry in content.split("\0") if "=" in entry)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """End as on Ctrl-C when this process is told to end or its terminal is closed, unless that is to be ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) is not signal.SIG_IGN and number not in before:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
