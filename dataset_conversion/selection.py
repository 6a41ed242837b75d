"""Which cases of a scan are converted, with which images, and why the others are not."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dataset_conversion.errors import stop
from dataset_conversion.layouts import Scan
from dataset_conversion.tables.case_table import Case, plain_name
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import some


@dataclass(frozen=True)
class Exclusion:
    """A case that was found but not converted, and why."""

    case: Case
    code: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The cases to convert, with the chosen images in channel order; `incomplete` ones lack some of those, not all."""

    cases: tuple[Case, ...]
    incomplete: tuple[Case, ...]
    exclusions: tuple[Exclusion, ...]
    findings: tuple[Finding, ...]


def select(found: Scan, channels: Sequence[str], exclude: Sequence[str]) -> Selection:
    """Choose channels and cases.

    Args:
        found: what a layout found.
        channels: names of the images to convert, in channel order; empty: all that the layout found.
        exclude: cases or subjects to leave out.

    Raises:
        ConversionError: for a channel or a case to exclude that was not found.
    """
    channels = _channels(found, channels)
    kept, exclusions = _leave_out(found, exclude)
    kept = _with_sites_of_other_sessions(_with_one_spelling_of_sites(kept))
    exclusions = [*(Exclusion(*each) for each in found.left_out), *exclusions]
    names_out = {one.case.case for one in exclusions}
    of_others = _with_other_images_only(found, kept, channels)
    findings = [
        finding
        for finding in found.findings
        if finding.case not in names_out
        and not _of_other_image(finding, channels)
        and not (finding.case in of_others and finding.code == "MISSING_MASK")
    ]
    reported = {finding.case for finding in findings if finding.severity == "error"}
    findings += _same_names(kept)
    cases, incomplete = [], []
    for case in kept:
        chosen = replace(case, images={name: case.images.get(name, "") for name in channels})
        missing = [name for name, path in chosen.images.items() if not path]
        if case.case in reported:
            cases.append(chosen)
            continue
        if case.case in of_others:
            exclusions.append(_incomplete(case, channels, found))
            continue
        if not any(case.images.values()):
            findings.append(_missing(case, "MISSING_IMAGE", "a case without any image", "Add its image"))
        elif case.split == "train" and not case.masks:
            findings.append(_missing(case, "MISSING_MASK", "a training case without a lesion mask", "Add its mask"))
        elif missing:
            incomplete.append(chosen)
            exclusions.append(_incomplete(case, missing, found))
            continue
        cases.append(chosen)
    return Selection(tuple(cases), tuple(incomplete), tuple(exclusions), tuple(findings))


def without_missing(incomplete: Sequence[Case]) -> tuple[Case, ...]:
    """Incomplete cases with the channels that all of them have.

    Raises:
        ConversionError: where there is no such channel.
    """
    common = [name for name in incomplete[0].images if all(case.images[name] for case in incomplete)]
    if not common:
        problem = "the incomplete cases have no image in common, so they make no dataset of their own"
        raise stop("INCOMPLETE", problem, "Convert them one channel at a time (--channels).")
    return tuple(replace(case, images={name: case.images[name] for name in common}) for case in incomplete)


def _with_one_spelling_of_sites(cases: Sequence[Case]) -> list[Case]:
    """`R001` and `r001` are one centre, called what most cases call it."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for case in sorted(cases, key=lambda case: case.site):
        spellings[_plain_site(case.site)][case.site] += 1
    return [replace(case, site=spellings[_plain_site(case.site)].most_common(1)[0][0]) for case in cases]


def _plain_site(site: str) -> str:
    return unicodedata.normalize("NFC", site.strip()).casefold()


def _with_sites_of_other_sessions(cases: Sequence[Case]) -> list[Case]:
    """Sheets often name a subject's site at the first session only."""
    sites: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        sites[case.subject] |= {case.site} - {""}
    return [
        replace(case, site=next(iter(sites[case.subject]))) if not case.site and len(sites[case.subject]) == 1 else case
        for case in cases
    ]


def _same_names(cases: Sequence[Case]) -> list[Finding]:
    """Cases that one file could stand for, as on file systems that do not tell capitals apart, and people as two."""
    findings = []
    case_of: dict[str, str] = {}
    subject_of: dict[str, str] = {}
    for case in cases:
        first = subject_of.setdefault(plain_name(case.subject), case.subject)
        if case.case.casefold() in case_of:
            problem = f"{case_of[case.case.casefold()]} and {case.case} differ in capitals only, or not at all"
            remedy = "Rename one in the case table (scan, edit, convert --table)."
            findings.append(Finding("CASE_NAME", problem, remedy, case.case))
        elif first != case.subject:
            problem = f"the subjects {first} and {case.subject} could be one person on two sides of a fold"
            remedy = (
                "Give a person one name in the case table (scan, edit, convert --table); names of two people must "
                "differ in more than capitals and sub-."
            )
            findings.append(Finding("CASE_NAME", problem, remedy, case.case))
        case_of.setdefault(case.case.casefold(), case.case)
    return findings


def _channels(found: Scan, asked: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(name for case in found.cases for name in case.images))
    by_name = {name.casefold(): name for name in known}
    unknown = [name for name in asked if name.casefold() not in by_name]
    if unknown:
        problem = f"no image is called {', '.join(unknown)}; found {', '.join(known)}"
        raise stop("UNKNOWN_CHANNEL", problem, "Name images as the case table does.")
    return list(dict.fromkeys(by_name[name.casefold()] for name in asked)) or known


def _leave_out(found: Scan, exclude: Sequence[str]) -> tuple[list[Case], list[Exclusion]]:
    known = {name for case in found.cases for name in (case.case, case.subject)}
    unknown = [name for name in exclude if name not in known]
    if unknown:
        problem = f"to be excluded, but not found: {', '.join(unknown)}"
        raise stop("UNKNOWN_EXCLUDE", problem, "Name cases or subjects as the scan lists them.")
    asked = set(exclude)
    kept = [case for case in found.cases if not asked & {case.case, case.subject}]
    out = [case for case in found.cases if asked & {case.case, case.subject}]
    return kept, [Exclusion(case, "EXCLUDED", "excluded by the user") for case in out]


def _of_other_image(finding: Finding, channels: Sequence[str]) -> bool:
    """Whether it is about which file is an image that nobody asked for."""
    return finding.code == "AMBIGUOUS_IMAGE" and not {role for role, _ in finding.files} & {"image", *channels}


def _with_other_images_only(found: Scan, cases: Sequence[Case], channels: Sequence[str]) -> set[str]:
    """Cases, by name, of which there are images, one or several that could be it, but of no chosen channel."""
    images: dict[str, set[str]] = {case.case: {name for name, path in case.images.items() if path} for case in cases}
    for finding in found.findings:
        if finding.code == "AMBIGUOUS_IMAGE" and finding.case in images:
            images[finding.case] |= {role for role, _ in finding.files}
    return {case for case, names in images.items() if names and not names & {"image", *channels}}


def _incomplete(case: Case, missing: Sequence[str], found: Scan) -> Exclusion:
    reason = f"no {' and no '.join(missing)}"
    if unused := found.unused.get(case.case):
        reason += f"; without use: {some(unused)}"
    return Exclusion(case, "INCOMPLETE", reason)


def _missing(case: Case, code: str, problem: str, remedy: str) -> Finding:
    files = tuple((role, path) for role, path in case.images.items() if path) + tuple(("mask", p) for p in case.masks)
    return Finding(code, problem, f"{remedy}, or exclude the case (--exclude {case.case}).", case.case, files)
