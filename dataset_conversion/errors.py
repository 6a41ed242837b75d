"""The one exception of a conversion."""

from __future__ import annotations

from nnunet_transformers.common.problems import Finding, UserError


class ConversionError(UserError):
    """The conversion stopped; its text names every problem found, the remedies, and what happened to the data."""


def stop(code: str, problem: str, remedy: str = "") -> ConversionError:
    """The error for a single problem that is not about one case."""
    return ConversionError([Finding(code, problem, remedy)])
