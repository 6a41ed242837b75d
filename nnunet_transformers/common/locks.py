"""Locks that last exactly as long as the process that took them, however it ends.

`locked` and `holder` are for trainings: POSIX record locks, which the processes a training starts do not inherit, so
none that it leaves behind keeps one, and which work on the network file systems of clusters that support locks. Windows
has none of them; nothing is locked there. `exclusive` is for a file or a folder that this process changes: a lock that
its other threads respect too.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_SECONDS = 0.1


@contextmanager
def locked(path: Path, *, patience: float = 5.0) -> Iterator[bool]:
    """Take the lock of a file while the block runs.

    Args:
        path: made with its folder if it does not exist; says who has the lock, and stays there.
        patience: seconds to try for; whoever only asks for the holder has the lock for a moment.

    Yields:
        Whether the lock was taken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        taken = _take(file.fileno(), patience)
        if taken:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield taken


def holder(path: Path) -> str | None:
    """Who has the lock of a file, as `process 4711 on host`; None if nobody has."""
    try:
        with path.open("r+") as file:
            return None if _take(file.fileno(), 0) else file.read() or "another process"
    except OSError:
        return None


def was_taken_here(path: Path) -> bool:
    """Whether the last process that had the lock of a file was on this machine, whose locks are seen for certain."""
    return path.read_text().endswith(f" on {socket.gethostname()}")


@contextmanager
def exclusive(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Have a folder or a file for oneself while the block runs.

    Args:
        path: a folder, which Windows cannot lock; or else a file, made for its owner only if it does not exist.
        wait: until it is free, for as long as that takes (on Windows ten seconds).

    Yields:
        Whether it was taken.
    """
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            taken = True
        except BlockingIOError:
            taken = False
        yield taken
    finally:
        os.close(descriptor)


def _take(descriptor: int, patience: float) -> bool:
    if sys.platform == "win32":
        return True
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        except PermissionError:  # what some systems say instead
            return False
