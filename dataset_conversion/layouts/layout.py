"""What a layout is: a way to find cases by file name, and what is known about the data it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataset_conversion.options import Masks
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding


@dataclass(frozen=True)
class Scan:
    """Cases found in a folder, sorted by identifier, and what the file names alone show to be wrong with them.

    A case with a missing or ambiguous file is in `cases` with that cell empty; if it cannot be converted for that, it
    has an error in `findings`.

    Attributes:
        left_out: (case, code, reason) of those that are known and not to be converted.
        unused: case → files that lie there without use, to be named where the case lacks one.
    """

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    left_out: tuple[tuple[Case, str, str], ...] = ()
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownIssue:
    """What others have reported about a published file, with the source. Warned about, never mended."""

    release: str
    subject: str
    problem: str
    source: str


@dataclass(frozen=True)
class Layout:
    """How the data of a folder lie there, and what is known about them.

    Attributes:
        find: raises ConversionError for a folder that does not exist or has no case of this layout.
        about: descriptive entries of nnU-Net's dataset.json: description, reference, licence.
        drawn_on: the image on which the masks were drawn, where the layout says so.
        masks: what of a mask is lesion, where the layout says so.
    """

    name: str
    find: Callable[[Path], Scan]
    about: Mapping[str, str] = field(default_factory=dict)
    known_issues: tuple[KnownIssue, ...] = ()
    drawn_on: str = ""
    masks: Masks = field(default_factory=Masks)
