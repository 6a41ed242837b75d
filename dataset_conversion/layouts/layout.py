"""What a layout is: a way to find cases by file name, and what is known about the data it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataset_conversion.case_table import Case
from dataset_conversion.errors import Finding


@dataclass(frozen=True)
class Scan:
    """Cases found in a folder, sorted by identifier, and what the file names alone show to be wrong with them.

    A case with a missing or ambiguous file is in ``cases`` with that cell empty, and has an error in ``findings``.
    """

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Layout:
    """A layout that `convert` can be asked for by name."""

    name: str
    find: Callable[[Path], Scan]
    about: Mapping[str, str]
    """Descriptive entries of nnU-Net's dataset.json: description, reference, licence."""
    known_issues: Mapping[str, str] = field(default_factory=dict)
    """Subject → what others have reported about its published files, with the source. Warned about, never mended."""
