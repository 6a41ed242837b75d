"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside a file to write to; what was written there takes the file's place at the end of the block.

    After an exception, and for readers meanwhile, the file is as it was. Its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, UTF-8 where it is text, so that it is never seen half-written."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def secret_partial(path: Path) -> Path:
    """Where a secret lies until it is complete; a process that is killed meanwhile leaves it there."""
    return path.with_name(f".{path.name}.partial")


def write_secret(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old or the new one, on disk when this returns.

    A new file is its owner's only, from its first byte on; one that is there keeps its mode. For one process at a time.
    """
    partial = secret_partial(path)
    partial.unlink(missing_ok=True)
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
