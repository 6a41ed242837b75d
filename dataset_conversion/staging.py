"""A folder that appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dataset_conversion.errors import stop

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def new_folder(target: Path, *, resume: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside ``target`` that is renamed to it on success, and removed on any exception.

    What a killed run left there is removed first; a run still in progress is not disturbed.

    Args:
        target: the folder to make.
        resume: yield what a killed or interrupted (Ctrl-C) run left instead of removing it.

    Raises:
        ConversionError: when the target exists, or another process is writing it.
    """
    staging = partial_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(exist_ok=True)
    with _locked(staging, target):
        try:
            if not resume:
                _empty(staging)
            yield staging
            if os.path.lexists(target):
                raise stop("TARGET_EXISTS", f"{target} appeared during the conversion", "Choose another id or name.")
            staging.rename(target)
        except BaseException as error:
            if not (resume and isinstance(error, KeyboardInterrupt)):
                shutil.rmtree(staging, ignore_errors=True)
            raise


def partial_folder(target: Path) -> Path:
    """Where a folder lies until it is complete."""
    return target.with_name(f".{target.name}.partial")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
    """Hold a lock on a folder that the system releases when this process ends, however it ends."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise stop("IN_PROGRESS", f"another process is writing {target}", "Wait for it to end.") from None
        yield
    finally:
        os.close(descriptor)
