"""Commands as processes with their output in log files, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_transformers.comparison.errors import ComparisonError

_GRACE_SECONDS = 10.0
_TAIL_LINES = 15


def start_process(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it and its output are added to the log.

    Args:
        name: what it does, for an error.
        environment: variables it needs beside those of this process.

    Raises:
        ComparisonError: there is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        try:
            # In a session of its own, so that Ctrl-C reaches this process only, which then ends all of its processes.
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **environment},
            )  # fmt: skip
        except OSError as error:
            raise ComparisonError(
                f"{name}: {command[0]} cannot be started: {error}", "Finished steps are kept.", "CANNOT_START"
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
