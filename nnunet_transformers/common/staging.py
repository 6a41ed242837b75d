"""Folders that appear complete or not at all."""

from __future__ import annotations

import contextlib
import json
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

    What a killed run left there is removed first; a run still in progress is not disturbed. Of one that is killed
    between two renames `finish_renames` does the rest.

    Args:
        targets: the folders to make, all in one folder.
        resume: go on from what a run left that was killed, interrupted (Ctrl-C) or met an OSError, such as a full disk:
            these leave the hidden folders there.
        check: raises where a target may not appear; no other process makes one in that folder until it has appeared.

    Raises:
        UserError: when a target exists, or another process is writing it.
    """
    finish_renames(targets[0].parent)
    with contextlib.ExitStack() as stack:
        stagings = [stack.enter_context(_staging(target, resume)) for target in targets]
        yield stagings
        with exclusive(targets[0].parent):
            for target in targets:
                check(target)
            journal = targets[0].with_name(f".{targets[0].name}.appearing")
            if len(targets) > 1:  # one appears by one rename, which cannot be cut in two
                journal.write_text(json.dumps([target.name for target in targets]))
            for staging, target in zip(stagings, targets, strict=True):
                staging.rename(target)
            if len(targets) > 1:
                journal.unlink()


def finish_renames(folder: Path) -> list[Path]:
    """Put in place what `new_folders` had completed in a folder when it was killed between two renames.

    Returns:
        All folders that were made together, where any of them has been put in place now.
    """
    journals = list(folder.glob(".*.appearing")) if os.path.isdir(folder) else []
    if not journals:
        return []
    found = []
    with exclusive(folder):
        for journal in journals:
            with contextlib.suppress(OSError):  # it is somebody else's, or of a run that has ended meanwhile
                try:
                    targets = [folder / name for name in json.loads(journal.read_text())]
                except ValueError:  # cut off, so from before the first rename
                    targets = []
                waiting = [each for each in targets if partial_folder(each).is_dir() and not os.path.lexists(each)]
                for target in waiting:
                    partial_folder(target).rename(target)
                found += targets if waiting else []
                journal.unlink()
    return found


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
            if not (resume and isinstance(error, (KeyboardInterrupt, OSError))):
                shutil.rmtree(staging, ignore_errors=True)
            raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
