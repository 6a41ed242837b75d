"""Run commands as processes: several at a time, their output in log files, progress on stderr, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from nnunet_transformers.comparison.errors import ComparisonError

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        name: what it does, for the progress display.
        command: the program and its arguments.
        log: the file its output goes to; added to if it exists.
        environment: variables it needs beside those of this process.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def run_jobs(jobs: Sequence[Job], *, at_once: int = 1, keep_open: Iterable[int] = ()) -> None:
    """Run all jobs in order, `at_once` of them together; show a line for each that is done.

    If a job fails, or on Ctrl-C, the running ones are ended first.

    Args:
        keep_open: file descriptors the processes inherit: a lock on one lasts as long as any of them lives.

    Raises:
        ComparisonError: a job failed; the text has the end of its log.
    """
    waiting = list(jobs)
    running: dict[subprocess.Popen[bytes], tuple[Job, float]] = {}
    done = 0
    with tqdm(total=len(jobs), unit="step", leave=False, disable=None, bar_format="  {bar:20} {elapsed} {desc}") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running[start_job(job, tuple(keep_open))] = (job, time.monotonic())
                    bar.set_description_str(", ".join(job.name for job, _ in running.values()))
                for process, (job, started) in list(running.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del running[process]
                    if code:
                        raise _failure(job, code)
                    done += 1
                    bar.update()
                    seconds = time.monotonic() - started
                    width = len(str(len(jobs)))
                    tqdm.write(f"  [{done:>{width}}/{len(jobs)}] {job.name} ({seconds:.0f} s)", file=sys.stderr)
                bar.refresh()
                time.sleep(_POLL_SECONDS)
        finally:
            end_processes(list(running))


def start_job(job: Job, keep_open: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Start a job in a session of its own; its command and its output are added to its log.

    Raises:
        ComparisonError: there is no such program.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        log.write(f"$ {' '.join(job.command)}\n".encode())
        log.flush()
        try:
            # In a session of its own, so that Ctrl-C reaches this process only, which then ends all of its processes.
            return subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **job.environment}, pass_fds=keep_open,
            )  # fmt: skip
        except OSError as error:
            raise ComparisonError(
                f"{job.name}: {job.command[0]} cannot be started: {error}",
                "Finished steps are kept.",
                "CANNOT_START",
            ) from error


def end_processes(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes with all that they started, firmly if they do not go."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def how_it_ended(code: int) -> str:
    """A process's return code in words."""
    return f"exit code {code}" if code > 0 else f"ended by signal {signal.Signals(-code).name}"


def tail(log: Path) -> str:
    """The last lines of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  | {line.rstrip()}" for line in lines[-_TAIL_LINES:])


def _failure(job: Job, code: int) -> ComparisonError:
    return ComparisonError(
        f"{job.name} failed ({how_it_ended(code)}): {' '.join(job.command)}\n{tail(job.log)}",
        f"The whole log: {job.log}. Finished steps are kept; the same command goes on from here.",
        "STEP_FAILED",
    )
