"""Cases by regular expressions on paths: the engine of layout files and of layouts whose file names say everything.

Each image and the mask have expressions that describe whole paths, relative to the source and with forward slashes:

    patients/(?P<subject>\\d{4})/(?P<session>M\\d+)/IRM_T1_3D\\.nii\\.gz

Files with the same subject and session are one case. For matching only, accents are composed (Unicode NFC) and bytes
that are not UTF-8 are read as Latin-1, so that an expression fits what people see, whatever wrote the names.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import no_match
from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.layouts.participants import Participants, add_participants
from dataset_conversion.layouts.source import is_volume, list_files, no_cases
from dataset_conversion.options import Masks
from dataset_conversion.tables.case_table import Case, Split, case_name
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.names import is_mask_form, is_nifti
from nnunet_transformers.common.words import counted, some

MASK = "mask"
GROUPS = ("subject", "session", "site", "split")
SHOWN = 5

_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
_NAME = re.compile(r"[A-Za-z0-9.+_-]+")


@dataclass(frozen=True)
class Patterns:
    """What a layout file says. Expressions describe the whole path and have a group `subject`.

    Further groups: `session`, `site`, `split` (train, training, tr, test, testing or ts), and those that
    `subject_name` uses. Of several expressions for one image the first that fits counts.

    Attributes:
        images: in channel order.
        masks: whether a case has one mask, or several that are parts of one.
        test: a case is a test case if one of its files matches. None: what has no mask is; empty: none is.
        exclude: cases or subjects.
        lesion: what of a mask is lesion.
        subject_name: a subject's name, with groups in braces; `sub-` is put in front.
        kind: for a built-in layout: what it finds, for messages.
        expected: for a built-in layout: what it looks for, as a sentence. Users cannot mend its expressions.
    """

    images: Mapping[str, tuple[re.Pattern[str], ...]]
    mask: tuple[re.Pattern[str], ...]
    masks: Literal["one", "union"] = "one"
    test: tuple[re.Pattern[str], ...] | None = None
    ignore: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[str, ...] = ()
    subject_name: str = "{subject}"
    drawn_on: str = ""
    lesion: Masks = field(default_factory=Masks)
    participants: Participants | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    expected: str = ""


class _File(NamedTuple):
    """A file that an expression fits, and what its groups say.

    Attributes:
        role: the name of the image, or "mask".
    """

    path: PurePosixPath
    role: str
    subject: str
    session: str
    site: str
    split: str
    in_test: bool


class _Matched(NamedTuple):
    """The files of a folder by what they are.

    Attributes:
        files: the files that match the patterns of exactly one image, or of the mask.
        unused: what else may be an image or a mask, in whatever form.
    """

    files: list[_File]
    findings: list[Finding]
    unused: list[PurePosixPath]


def layout(patterns: Patterns, name: str) -> Layout:
    """The layout that finds cases by these patterns."""
    find = partial(find_cases, patterns)
    return Layout(name=name, find=find, about=patterns.about, drawn_on=patterns.drawn_on, masks=patterns.lesion)


def find_cases(patterns: Patterns, source: Path) -> Scan:
    """Find the cases of a folder.

    Raises:
        ConversionError: when the folder does not exist, when nothing in it matches, or when the sheet of participants
            cannot be read.
    """
    listed, findings = list_files(source, patterns.expected or "Give the folder that holds the data.")
    paths = {path: text for path in listed if not _fits(patterns.ignore, text := as_text(path))}
    found = _match(patterns, paths)
    findings += found.findings
    files = found.files
    if not files and any(finding.severity == "error" for finding in found.findings):
        raise ConversionError(findings)
    if not files and patterns.expected:
        raise no_cases(source, list(paths), patterns.kind, patterns.expected, findings)
    if not files:
        raise no_match.explain(source, paths, _expressions(patterns), findings)

    files_of: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for file in files:
        files_of[file.subject, file.session].append(file)
    sessions_with_image: dict[str, list[str]] = defaultdict(list)
    for (subject, session), own in sorted(files_of.items()):
        if _has_image(own):
            sessions_with_image[subject].append(session or "none")
    cases, unused = [], {}
    beside = _beside(files_of, found.unused)
    for (subject, session), own in files_of.items():
        around = beside[subject, session]
        case, problems = _case(patterns, subject, session, own, sessions_with_image[subject], around)
        cases.append(case)
        unused[case.case] = tuple(map(str, around))
        findings += problems
    cases.sort(key=lambda case: case.case)
    findings.sort(key=lambda finding: finding.case)
    findings += _name_problems(cases)
    left_out = _left_out(patterns.exclude, cases)
    findings += _unknown_names(patterns.exclude, cases)
    cases = [case for case in cases if case not in left_out]
    names_out = {case.case for case in left_out}
    findings = [finding for finding in findings if finding.case not in names_out]
    findings += _unlabelled(patterns, cases, files, unused)
    if patterns.participants:
        cases, problems = add_participants(cases, patterns.participants, source)
        findings += problems
    reason = "excluded by the layout file"
    return Scan(tuple(cases), tuple(findings), tuple((case, "EXCLUDED", reason) for case in left_out), unused)


def as_text(path: PurePosixPath) -> str:
    """The path as people see it: accents composed, and bytes that are not UTF-8 read as Latin-1."""
    # os.fsdecode turns such a byte b into the lone surrogate U+DC00 + b.
    legible = re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), path.as_posix())
    return unicodedata.normalize("NFC", legible)


def _roles(patterns: Patterns) -> dict[str, tuple[re.Pattern[str], ...]]:
    return {**patterns.images, MASK: patterns.mask}


def _expressions(patterns: Patterns) -> list[tuple[str, re.Pattern[str]]]:
    return [(role, each) for role, several in _roles(patterns).items() for each in several]


def _fits(expressions: Iterable[re.Pattern[str]], text: str) -> re.Match[str] | None:
    return next((match for each in expressions if (match := each.fullmatch(text))), None)


def _match(patterns: Patterns, paths: Mapping[PurePosixPath, str]) -> _Matched:
    """Match NIfTI files, and masks in other forms; all are given by path and text."""
    files: list[_File] = []
    several: dict[tuple[str, ...], list[PurePosixPath]] = defaultdict(list)
    unmatched: dict[PurePosixPath, str] = {}
    nifti = {path: text for path, text in paths.items() if is_nifti(path.name)}
    for path, text in nifti.items():
        matches = {role: match for role, each in _roles(patterns).items() if (match := _fits(each, text))}
        if not matches:
            unmatched[path] = text
        elif len(matches) > 1:
            several[tuple(matches)].append(path)
        else:
            ((role, match),) = matches.items()
            files.append(_file(patterns, path, text, role, match))
    others, findings = _in_other_forms(patterns, files, paths)
    files += others
    for roles, ambiguous in several.items():
        problem = f"{counted(len(ambiguous), 'file')} could be {' or '.join(roles)}: the expressions of each fit"
        remedy = "Make the expressions differ, so that each file fits one."
        findings.append(Finding("AMBIGUOUS_PATTERN", problem, remedy, files=_listing("file", ambiguous)))
    used = {file.role for file in files}.union(*several)
    if used:
        findings += _unused(patterns, used, unmatched)
    known = {file.path for file in files}.union(*several.values())
    return _Matched(files, findings, [path for path in paths if path not in known and is_volume(path.name)])


def _in_other_forms(
    patterns: Patterns, files: Sequence[_File], paths: Mapping[PurePosixPath, str]
) -> tuple[list[_File], list[Finding]]:
    """NRRD and MHA masks of cases that have none as NIfTI, and a warning about parts of a mask that are left out.

    Args:
        patterns: of the layout.
        files: the NIfTI files; without an image among them nothing is taken.
        paths: all files.
    """
    if not _has_image(files):
        return [], []
    stems: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        if file.role == MASK:
            stems[file.subject, file.session].add(_stem(file.path))
    taken, left_out = [], []
    for path, text in paths.items():
        match = _fits(patterns.mask, text) if is_mask_form(path.name) else None
        if not match or any(_fits(each, text) for each in patterns.images.values()):
            continue
        file = _file(patterns, path, text, MASK, match)
        of_nifti = stems.get((file.subject, file.session))
        if of_nifti is None:
            taken.append(file)
        elif patterns.masks == "union" and _stem(path) not in of_nifti:
            left_out.append(path)
    if not left_out:
        return taken, []
    problem = f"{counted(len(left_out), 'mask')} not used, since the case has others as NIfTI"
    remedy = "Convert these to NIfTI too if they are parts of the lesion."
    return taken, [Finding("OTHER_FORMS", problem, remedy, files=_listing("not used", left_out), severity="warning")]


def _beside(
    files_of: Mapping[tuple[str, str], Sequence[_File]], unused: Iterable[PurePosixPath]
) -> dict[tuple[str, str], list[PurePosixPath]]:
    """The unused files in the folders of each case; of a folder of several cases those that name its subject."""
    cases_in: dict[PurePosixPath, set[tuple[str, str]]] = defaultdict(set)
    for key, own in files_of.items():
        for file in own:
            cases_in[file.path.parent].add(key)
    found: dict[tuple[str, str], list[PurePosixPath]] = {key: [] for key in files_of}
    for path in unused:
        there = cases_in.get(path.parent, set())
        for subject, session in there:
            if len(there) == 1 or subject.removeprefix("sub-") in as_text(path):
                found[subject, session].append(path)
    return found


def _stem(path: PurePosixPath) -> str:
    """The path without the ending of its form."""
    return re.sub(r"(\.nii(\.gz)?|(\.seg)?\.nrrd|\.mha)$", "", str(path), flags=re.IGNORECASE)


def _unused(patterns: Patterns, used: Collection[str], unmatched: Mapping[PurePosixPath, str]) -> list[Finding]:
    """Warnings about expressions that no file fits, and about files that fit no expression."""
    warnings = []
    for role, expressions in _roles(patterns).items():
        if role not in used:
            problem = f"no file fits the {'expressions' if len(expressions) > 1 else 'expression'} of {role}"
            shown = [line for each in expressions for line in no_match.fit(role, each, list(unmatched.values()))]
            remedy = "Mend the expression if there should be some."
            warnings.append(Finding("UNUSED_PATTERN", problem, remedy, files=tuple(shown), severity="warning"))
    if unmatched:
        problem = f"{counted(len(unmatched), 'NIfTI file')} without use: no expression fits"
        remedy = "Nothing is to be done if they are not needed."
        listing = _listing("not used", unmatched)
        warnings.append(Finding("UNMATCHED_FILES", problem, remedy, files=listing, severity="warning"))
    return warnings


def _file(patterns: Patterns, path: PurePosixPath, text: str, role: str, match: re.Match[str]) -> _File:
    groups = {name: value or "" for name, value in match.groupdict().items()}
    groups["subject"] = groups["subject"].removeprefix("sub-")
    subject = patterns.subject_name.format_map(groups).removeprefix("sub-")
    session = groups.get("session", "").removeprefix("ses-")
    in_test = bool(patterns.test and _fits(patterns.test, text))
    return _File(path, role, f"sub-{subject}", session, groups.get("site", ""), groups.get("split", ""), in_test)


def _case(
    patterns: Patterns,
    subject: str,
    session: str,
    files: Sequence[_File],
    sessions_with_image: Sequence[str],
    unused: Sequence[PurePosixPath],
) -> tuple[Case, list[Finding]]:
    """One subject at one session.

    Args:
        patterns: of the layout.
        subject: with `sub-`.
        session: may be empty.
        files: of the case.
        sessions_with_image: those of this subject.
        unused: what lies beside these files.
    """
    name = case_name(subject, session)
    images = {role: [file.path for file in files if file.role == role] for role in patterns.images}
    masks = [file.path for file in files if file.role == MASK]
    problems: list[Finding] = []

    def error(code: str, problem: str, remedy: str, shown: Iterable[_File]) -> None:
        listed = tuple((file.role, str(file.path)) for file in shown)
        listed += _listing("not used", unused) if code.startswith("MISSING") else ()
        problems.append(Finding(code, problem, f"{remedy}, or exclude the case (--exclude '{name}').", name, listed))

    split = _split(patterns, files, bool(masks))
    if isinstance(split, Finding):
        error(split.code, split.problem, split.remedy, files)
        split = "train"
    for role, candidates in images.items():
        if len(candidates) > 1:
            remedy = "Leave one of them in the folder" + ("" if patterns.expected else " or list the other in ignore:")
            problem = f"{len(candidates)} files could be the {role} image"
            error("AMBIGUOUS_IMAGE", problem, remedy, (file for file in files if file.role == role))
    if len(masks) > 1 and patterns.masks == "one":
        remedy = "Leave one of them in the folder, or say masks: union if they are parts of one lesion mask"
        problem = f"{len(masks)} files could be the mask"
        error("AMBIGUOUS_MASK", problem, remedy, (file for file in files if file.role == MASK))
        chosen_masks: Sequence[PurePosixPath] = ()
    else:
        chosen_masks = masks
    if not _has_image(files):
        problem, remedy = "a mask without any image", "Add the image"
        if sessions_with_image:
            problem += (
                f": its session is {session or 'none'}, its subject's images have {', '.join(sessions_with_image)}"
            )
            remedy = "Let the expressions capture one session for both" if not patterns.expected else remedy
        error("MISSING_IMAGE", problem, remedy, files)
    elif not masks and split == "train":
        remedy = "Add the mask" + ("" if patterns.expected else ", let test: match the case")
        error("MISSING_MASK", "a training image without its mask", remedy, files)
    sites = sorted({file.site for file in files if file.site})
    if len(sites) > 1:
        remedy = "Keep those of one"
        if not patterns.expected:
            remedy += ", tell patients of one name apart by subject_name: '{site}{subject}'"
        error("SITE_CONFLICT", f"the files are of different sites: {', '.join(sites)}", remedy, files)
    case = Case(
        case=name,
        subject=subject,
        session=session,
        site=sites[0] if len(sites) == 1 else "",
        split=split,
        images={role: str(found[0]) if len(found) == 1 else "" for role, found in images.items()},
        masks=tuple(str(path) for path in chosen_masks),
    )
    return case, problems


def _split(patterns: Patterns, files: Sequence[_File], has_mask: bool) -> Split | Finding:
    """Training or test, or what is wrong with what the paths say about it."""
    said = {file.split for file in files if file.split}
    unknown = sorted(word for word in said if word.casefold() not in _SPLITS)
    if unknown:
        problem = f"the split is {unknown[0]!r}; it can be {', '.join(_SPLITS)}"
        return Finding("SPLIT_NAME", problem, "Rename the folder, or say by test: which files are for testing")
    splits = {_SPLITS[word.casefold()] for word in said}
    if len(splits) > 1:
        return Finding("SPLIT_CONFLICT", "files both in the training and in the test part", "Keep it in one of them")
    if splits:
        return splits.pop()
    if patterns.test is not None:
        return "test" if any(file.in_test for file in files) else "train"
    return "train" if has_mask else "test"


def _has_image(files: Iterable[_File]) -> bool:
    return any(file.role != MASK for file in files)


def _name_problems(cases: Sequence[Case]) -> list[Finding]:
    """Names that nnU-Net's files cannot have, and names that some file systems cannot tell apart."""
    findings = []
    first: dict[str, Case] = {}
    for case in cases:
        for part, text in (("subject", case.subject.removeprefix("sub-")), ("session", case.session)):
            if not _NAME.fullmatch(text) and (part == "subject" or text):
                problem = f"the {part} is {text!r}; a file name of nnU-Net has letters, digits and . + _ - only"
                remedy = f"Let the group {part} capture less, "
                remedy += "build the name from several groups (subject_name:), " if part == "subject" else ""
                remedy += "or print the case table (scan), change the column case and convert that."
                findings.append(_about(case, "CASE_NAME", problem, remedy))
        same = first.setdefault(case.case.casefold(), case)
        if same is not case:
            problem = f"differs from {same.case} in upper and lower case only" if same.case != case.case else "is twice"
            remedy = f"Give both one spelling, or exclude one (--exclude '{case.case}')."
            findings.append(_about(case, "CASE_NAME", problem, remedy))
    return findings


def _about(case: Case, code: str, problem: str, remedy: str) -> Finding:
    shown = [(role, path) for role, path in case.images.items() if path] + [(MASK, path) for path in case.masks]
    return Finding(code, problem, remedy, case.case, tuple(shown))


def _left_out(exclude: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if not _names(case).isdisjoint(exclude)]


def _unknown_names(exclude: Sequence[str], cases: Sequence[Case]) -> list[Finding]:
    known = {name for case in cases for name in _names(case)}
    unknown = [name for name in exclude if name not in known]
    if not unknown:
        return []
    problem = f"to be excluded by the layout file, but not found: {', '.join(unknown)}"
    return [Finding("UNKNOWN_EXCLUDE", problem, "Name cases or subjects as the scan lists them.")]


def _names(case: Case) -> set[str]:
    """What a case is called in `exclude`."""
    return {case.case, case.subject, case.subject.removeprefix("sub-")}


def _unlabelled(
    patterns: Patterns, cases: Sequence[Case], files: Sequence[_File], unused: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """One warning for the cases that are for testing only because they have no mask; `unused` are files by case."""
    told = {(file.subject, file.session) for file in files if file.split or file.role == MASK}
    without = [case.case for case in cases if (case.subject, case.session) not in told]
    if patterns.test is not None or not without:
        return []
    others = dict.fromkeys(path for name in without for path in unused[name])
    problem = f"{counted(len(without), 'case')} without mask, taken as test cases: {some(without, SHOWN)}"
    remedy = "Mend the expression of mask if they have one. test: in the layout file says which are for testing."
    problem += f"; {counted(len(others), 'file')} of unknown use there" if others else ""
    shown = (*(("not used", path) for path in others), *(("no mask", name) for name in without))
    return [Finding("UNLABELLED", problem, remedy, files=shown, severity="warning")]


def _listing(role: str, paths: Iterable[PurePosixPath]) -> tuple[tuple[str, str], ...]:
    return tuple((role, str(path)) for path in paths)
