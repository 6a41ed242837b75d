"""A disk that is full at the write that a test chooses."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def full_at(
    monkeypatch: pytest.MonkeyPatch, folder: Path, where: Callable[[int, Path], bool], error: int = 28
) -> list[Path]:
    """Half of a write to a file in a folder finds no room.

    Args:
        where: chosen by its number, from 1, and the file.
        error: of the system.

    Returns:
        The files that were written to, once for each write; filled as they are.
    """
    real = io.open
    written: list[Path] = []

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        stream = real(file, mode, *arguments, **options)
        if "r" not in mode and Path(file).is_relative_to(folder):
            write = stream.write

            def limited(data: Any) -> int:
                written.append(Path(file))
                if where(len(written), Path(file)):
                    write(data[: len(data) // 2])
                    raise OSError(error, os.strerror(error))
                return write(data)

            stream.write = limited
        return stream

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    return written
