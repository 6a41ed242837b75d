"""The one exception of this room; `nnunet-transformers` prints its text and exits with 2."""

from __future__ import annotations


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
