"""The one exception of a comparison."""

from __future__ import annotations

from nnunet_transformers.common.problems import Finding, UserError


class ComparisonError(UserError):
    """A comparison cannot go on; the text says what is wrong, where, and what to do.

    Args:
        problem: what is wrong and where.
        remedy: what to do, and what became of the data.
        code: to search for.
    """

    def __init__(self, problem: str, remedy: str, code: str) -> None:
        super().__init__([Finding(code, problem, remedy)], outcome="")
        self.args = (problem, remedy, code)
