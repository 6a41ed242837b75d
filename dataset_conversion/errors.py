"""What a conversion finds wrong with the data, and the one exception that tells the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (an error) or worth a look (a warning), as a sentence for the person who can mend it."""

    code: str
    problem: str
    remedy: str = ""
    case: str = ""
    files: tuple[tuple[str, str], ...] = ()
    """(role, path) of the files concerned, for example ("mask", "Training/R001/…_mask.nii.gz")."""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        lines = [f"{self.case}: {self.problem}" if self.case else self.problem]
        width = max((len(role) for role, _ in self.files), default=0)
        lines += [f"  {role:<{width}}  {path}" for role, path in self.files]
        lines.append(f"{self.remedy} [{self.code}]".lstrip())
        return "\n".join(lines)


class ConversionError(Exception):
    """The conversion stopped; its text names every problem found, the remedies, and what happened to the data.

    Args:
        findings: what is wrong; all are kept, the first 20 are printed.
        outcome: what happened to the data, printed last.
    """

    def __init__(self, findings: Sequence[Finding], outcome: str = "Nothing was written.") -> None:
        self.findings = tuple(findings)
        self.outcome = outcome
        super().__init__(self.findings, outcome)

    def __str__(self) -> str:
        parts = [str(finding) for finding in self.findings[:MAX_SHOWN]]
        if len(self.findings) > MAX_SHOWN:
            parts.append(f"… and {len(self.findings) - MAX_SHOWN} more.")
        parts.append(self.outcome)
        return "\n\n".join(parts)


def stop(code: str, problem: str, remedy: str = "") -> ConversionError:
    """The error for a single problem that is not about one case."""
    return ConversionError([Finding(code, problem, remedy)])
