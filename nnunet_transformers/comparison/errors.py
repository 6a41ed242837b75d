"""The one exception of this room; `nnunet-transformers` prints its text and exits with 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ComparisonError(Exception):
    """A comparison cannot go on; the text says what is wrong, where, and what to do.

    Args:
        problem: what is wrong and where.
        remedy: what to do, and what became of the data.
        code: to search for.
    """

    def __init__(self, problem: str, remedy: str, code: str) -> None:
        super().__init__(f"{problem}\n{remedy} [{code}]")
        self.code = code


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """What the system says when a file or folder cannot be written, as an error for users."""
    try:
        yield
    except OSError as error:
        raise ComparisonError(
            f"cannot be written: {error.filename or path} ({error.strerror})",
            "Give another place, or make room or get the right to write there, and run it again.",
            "CANNOT_WRITE",
        ) from error
