"""Folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nnunet_transformers.common.locks import exclusive
from nnunet_transformers.common.problems import user_error


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """`new_folders` for one."""
    with new_folders([target]) as [staging]:
        yield staging


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise user_error(
            "TARGET_EXISTS", f"{target} appeared meanwhile", "Choose another id or name.", "Nothing was written."
        )


@contextlib.contextmanager
def new_folders(
    targets: Sequence[Path], *, resume: bool = False, check: Callable[[Path], None] = _refuse_existing
) -> Iterator[list[Path]]:
    """Yield hidden folders beside `targets` that are all renamed to them on success, and removed on any exception.

    What a killed run left there is removed first; a run still in progress is not disturbed.

    Args:
        targets: the folders to make, all in one folder.
        resume: yield what a killed or interrupted (Ctrl-C) run left instead of removing it.
        check: raises where a target may not appear; no other process makes one in that folder until it has appeared.

    Raises:
        UserError: when a target exists, or another process is writing it.
    """
    with contextlib.ExitStack() as stack:
        stagings = [stack.enter_context(_staging(target, resume)) for target in targets]
        yield stagings
        with exclusive(targets[0].parent):
            for target in targets:
                check(target)
            for staging, target in zip(stagings, targets, strict=True):
                staging.rename(target)


def partial_folder(target: Path) -> Path:
    """Where a folder lies until it is complete."""
    return target.with_name(f".{target.name}.partial")


@contextlib.contextmanager
def _staging(target: Path, resume: bool) -> Iterator[Path]:
    """The hidden folder of a target, for this process only; removed on any exception."""
    staging = partial_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(exist_ok=True)
    with exclusive(staging, wait=False) as taken:
        if not taken:
            raise user_error(
                "IN_PROGRESS", f"another process is writing {target}", "Wait for it to end.", "Nothing was written."
            )
        try:
            if not resume:
                _empty(staging)
            yield staging
        except BaseException as error:
            if not (resume and isinstance(error, KeyboardInterrupt)):
                shutil.rmtree(staging, ignore_errors=True)
            raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
