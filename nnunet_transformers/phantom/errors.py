"""The phantom's exception: something the caller asked for cannot be made."""

from __future__ import annotations

from pathlib import Path

from nnunet_transformers.common.problems import Finding, UserError


class PhantomError(UserError):
    """The phantom was not written; the text says what is wrong, in which file, and what to do."""


def refusal(code: str, problem: str, remedy: str, mask: Path | None = None) -> PhantomError:
    """The error for a single problem, with the lesion mask it is about."""
    if mask is None:
        return PhantomError([Finding(code, problem, remedy)])
    return PhantomError([Finding(code, problem, remedy, case=mask.name, files=(("mask", str(mask)),))])
