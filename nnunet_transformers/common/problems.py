"""What is wrong with what a user gave, and the exception that tells it; a command prints it and exits with 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MAX_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (an error) or worth a look (a warning), as a sentence for the person who can mend it.

    Attributes:
        code: to search for; docs/codes.md lists them.
        files: (role, path) of the files concerned, for example ("mask", "Training/R001/…_mask.nii.gz"); all are kept,
            the first 20 are printed.
    """

    code: str
    problem: str
    remedy: str = ""
    case: str = ""
    files: tuple[tuple[str, str], ...] = ()
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        lines = [f"{self.case}: {self.problem}" if self.case else self.problem]
        width = max((len(role) for role, _ in self.files), default=0)
        lines += [f"  {role:<{width}}  {path}" for role, path in self.files[:MAX_SHOWN]]
        if len(self.files) > MAX_SHOWN:
            lines.append(f"  … and {len(self.files) - MAX_SHOWN} more")
        lines.append(f"{self.remedy} [{self.code}]".lstrip())
        return "\n".join(lines)


class UserError(Exception):
    """What was asked for cannot be done; the text names every problem, the remedies, and what happened to the data.

    Args:
        findings: what is wrong; all are kept, the first 20 are printed.
        outcome: what happened to the data, printed last.
    """

    def __init__(self, findings: Sequence[Finding], outcome: str = "Nothing was written.") -> None:
        self.findings = tuple(findings)
        self.outcome = outcome
        super().__init__(self.findings, outcome)

    @property
    def code(self) -> str:
        """Of the first problem."""
        return self.findings[0].code

    def __str__(self) -> str:
        parts = [str(finding) for finding in self.findings[:MAX_SHOWN]]
        if len(self.findings) > MAX_SHOWN:
            parts.append(f"… and {len(self.findings) - MAX_SHOWN} more.")
        return "\n\n".join([*parts, *filter(None, [self.outcome])])


def user_error(code: str, problem: str, remedy: str = "", outcome: str = "") -> UserError:
    """The error for a single problem."""
    return UserError([Finding(code, problem, remedy)], outcome)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """What the system says when a file or folder cannot be written, as an error for users."""
    try:
        yield
    except OSError as error:
        raise user_error(
            "CANNOT_WRITE",
            f"cannot be written: {error.filename or path} ({error.strerror})",
            "Give another place, or make room or get the right to write there, and run it again.",
        ) from error
