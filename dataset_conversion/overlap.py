"""The same people in two datasets that are to be merged: find them, and decide whose cases stay.

The releases of ATLAS contain one another: R2.0's training cases are in R2.1, and scans of v1.x were used again in R2.0
under new names, which its metadata sheet gives (columns `ATLAS 1.2 Subject ID` and `INDI Subject ID`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, get_args

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.folds.splits import connected
from dataset_conversion.options import Policy
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding

ID_COLUMNS = ("atlas_1_2_subject_id", "indi_subject_id")
"""Metadata that name a subject of an earlier release; spelled with any capitals, spaces and dots."""
_NO_ID = {"", "na", "n/a", "nan", "none", "null", "-", "0"}
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Overlap:
    """One person in two datasets: all their cases on both sides, and why they are taken for one person."""

    first: tuple[Case, ...]
    second: tuple[Case, ...]
    reasons: tuple[str, ...]

    @property
    def subjects(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The person's subject identifiers in either dataset, usually one."""
        first, second = (tuple(sorted({case.subject for case in cases})) for cases in (self.first, self.second))
        return first, second

    @property
    def leaks(self) -> bool:
        """Whether a model would be trained on the person in one place and tested in another."""
        return len({case.split for case in (*self.first, *self.second)}) > 1


class Resolution(NamedTuple):
    """What is left of two datasets.

    Attributes:
        cases: of the first dataset, then of the second. Where both had a case of one name, the second's ends in `_2`.
        exclusions: (case, reason) for those left out.
        groups: name of each case that is left → what must not be separated in the folds.
    """

    cases: tuple[Case, ...]
    exclusions: tuple[tuple[Case, str], ...]
    groups: Mapping[str, str]


def overlaps(
    first: Sequence[Case],
    second: Sequence[Case],
    first_digests: Mapping[str, Collection[str]] | None = None,
    second_digests: Mapping[str, Collection[str]] | None = None,
) -> list[Overlap]:
    """Find the people who are in both datasets.

    They have the same subject identifier in both, or one in an `ID_COLUMNS` of the other (or both the same one there),
    or a scan or a lesion mask with equal voxels. `sub-`, capitals and leading zeros make no difference to an
    identifier.

    Args:
        first: cases of one dataset.
        second: cases of the other.
        first_digests: name of case → digests of the voxels of its images and masks, where they are known.
        second_digests: the same of the other dataset.

    Returns:
        One per person, in the order of the first dataset's subjects.
    """
    evidence = _shared(_identities(first), _identities(second)) + _shared(
        _digests(first, first_digests or {}), _digests(second, second_digests or {})
    )
    person_of = connected((("first", a), ("second", b)) for a, b, _ in evidence)
    reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for a, _, reason in evidence:
        reasons[person_of["first", a]][reason] = None
    cases: dict[tuple[str, str], dict[str, list[Case]]] = defaultdict(lambda: {"first": [], "second": []})
    for side, dataset in (("first", first), ("second", second)):
        for case in dataset:
            if (side, case.subject) in person_of:
                cases[person_of[side, case.subject]][side].append(case)
    return [
        Overlap(tuple(sides["first"]), tuple(sides["second"]), tuple(reasons[person]))
        for person, sides in sorted(cases.items())
    ]


def overlap_findings(found: Sequence[Overlap], policy: Policy | None = None) -> list[Finding]:
    """The errors that remain under a policy; without one, every overlap is an error.

    Returns:
        LEAKAGE for people whom one dataset has for training and the other for testing, unless only the first's cases
        are kept; OVERLAP for the others where no policy was chosen.
    """
    if policy == "first":
        return []
    keep_first = "Keep the first dataset's cases of such people (--overlap first)"
    findings = []
    for one in found:
        first, second = (", ".join(subjects) for subjects in one.subjects)
        who = f"{first} of the first dataset and {second} of the second are the same person: {'; '.join(one.reasons)}"
        if one.leaks:
            problem = f"{who}; a model would be trained on them in one dataset and tested in the other"
            remedy = f"{keep_first}, or give them one split in the case tables."
            findings.append(Finding("LEAKAGE", problem, remedy))
        elif policy is None:
            remedy = (
                f"{keep_first}, or all as one subject in the folds (--overlap group); if they are two people, give "
                "one another subject in its case table, and where it is voxels that are equal accept that (--allow "
                "DUPLICATE_VOXELS)."
            )
            findings.append(Finding("OVERLAP", who, remedy))
    return findings


def resolve(first: Sequence[Case], second: Sequence[Case], found: Sequence[Overlap], policy: Policy) -> Resolution:
    """Merge the cases of two datasets in which the same people were found.

    Args:
        first: cases of one dataset.
        second: cases of the other.
        found: their `overlaps`.
        policy: "first" leaves out the second's cases of people who are in the first; "group" keeps all, and makes one
            group of the cases of a person.

    Raises:
        ConversionError: BAD_OPTION for another policy; LEAKAGE where "group" would keep a person for both training and
            testing.
    """
    if policy not in get_args(Policy):
        raise stop("BAD_OPTION", f"the policy for overlaps is {policy!r}", f"Choose {', '.join(get_args(Policy))}.")
    findings = overlap_findings(found, policy)
    if findings:
        raise ConversionError(findings)
    person_of = {case.subject: one for one in found for case in one.second}
    kept, exclusions = list(first), []
    groups = {case.case: case.subject for case in first}
    for one in found:
        groups |= {case.case: one.subjects[0][0] for case in one.first}
    names = {case.case.casefold() for case in first}
    taken = names | {case.case.casefold() for case in second}
    for case in second:
        person = person_of.get(case.subject)
        if person and policy == "first":
            reason = f"the same person as {', '.join(person.subjects[0])} of the first dataset"
            exclusions.append((case, f"{reason}: {'; '.join(person.reasons)}"))
            continue
        name = case.case
        if name.casefold() in names:
            name = _free(name, taken)
            taken.add(name.casefold())
        kept.append(replace(case, case=name))
        groups[name] = person.subjects[0][0] if person else case.subject
    return Resolution(tuple(kept), tuple(exclusions), groups)


class _Trait(NamedTuple):
    """Something that two cases of one person share; `said` is how one of them has it."""

    subject: str
    key: str
    said: str


def _identities(cases: Sequence[Case]) -> Iterator[_Trait]:
    for case in cases:
        yield _Trait(case.subject, _plain_id(case.subject), f"subject {case.subject}")
        for column, value in case.metadata.items():
            plain = re.sub(r"[^a-z0-9]+", "_", column.casefold()).strip("_")
            if plain in ID_COLUMNS and value.strip().casefold() not in _NO_ID:
                yield _Trait(case.subject, _plain_id(value), f"{column} {value.strip()} of {case.subject}")


def _digests(cases: Sequence[Case], digests: Mapping[str, Collection[str]]) -> Iterator[_Trait]:
    for case in cases:
        for digest in digests.get(case.case, ()):
            yield _Trait(case.subject, digest, f"voxels of {case.case}")


def _plain_id(name: str) -> str:
    """An identifier without what is written differently in different places: `031768`, `31768.0`, `sub-031768`.

    A time-point at the end (`c0003s0002t01`) belongs to the scan and not to the person.
    """
    plain = unicodedata.normalize("NFC", name.strip()).casefold().removeprefix("sub-")
    plain = re.sub(r"^(\d+)\.0+$", r"\1", plain)
    plain = re.sub(r"^(c\d+s\d+|\d+)_?t\d+$", r"\1", plain)
    return _NUMBER.sub(lambda digits: digits[0].lstrip("0") or "0", plain)


def _shared(first: Iterator[_Trait], second: Iterator[_Trait]) -> list[tuple[str, str, str]]:
    """(subject of the first dataset, subject of the second, reason) for each trait that is in both."""
    of_key: dict[str, list[_Trait]] = defaultdict(list)
    for trait in first:
        of_key[trait.key].append(trait)
    return [(a.subject, b.subject, _reason(a, b)) for b in second for a in of_key.get(b.key, ())]


def _reason(a: _Trait, b: _Trait) -> str:
    return f"{a.said} = {b.said}" if a.said != b.said else f"{a.said} in both"


def _free(name: str, taken: Collection[str]) -> str:
    """The name with the first number from 2 that makes it another than those taken, whatever their capitals."""
    return next(free for number in count(2) if (free := f"{name}_{number}").casefold() not in taken)
