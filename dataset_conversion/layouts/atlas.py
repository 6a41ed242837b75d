"""ATLAS R2.0 (Liew et al., Scientific Data 2022), as distributed and as copied by the ISLES 2022 challenge's script.

    ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz
                                                  sub-r001s001_ses-1_…_label-L_desc-T1lesion_mask.nii.gz
    ATLAS_2/Testing/R003/…                        images only
    data/train/derivatives/ATLAS/sub-r001s001/ses-1/anat/…      the challenge's copy, same file names
    data/test/derivatives/ATLAS/…

Cases are found by file name; of the folders only Training or train and Testing or test matter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dataset_conversion import entities
from dataset_conversion.case_table import Case, Split
from dataset_conversion.entities import BidsName
from dataset_conversion.errors import Finding, stop
from dataset_conversion.layouts.layout import KnownIssue, Layout, Scan
from dataset_conversion.layouts.walk import walk

IMAGE = "T1w"
EXPECTED = (
    "Give the folder that holds Training/ and Testing/ (as distributed) or derivatives/ATLAS/sub-* (the challenge's "
    "copy), with files named sub-r001s001_ses-1_…_T1w.nii.gz and …_label-L_desc-T1lesion_mask.nii.gz."
)
_SITE = re.compile(r"r(\d{3})s\d+", re.IGNORECASE)


class _File(NamedTuple):
    path: PurePosixPath
    name: BidsName


def find(source: Path) -> Scan:
    """Find the cases of an ATLAS folder.

    Raises:
        ConversionError: when the folder does not exist or holds no case.
    """
    if not source.is_dir():
        problem = "is not a folder" if source.exists() else "does not exist"
        remedy = "Unpack the archive and give its folder. " if source.is_file() else ""
        raise stop("NO_SOURCE", f"{source} {problem}", remedy + EXPECTED)
    paths, unreadable = walk(source)
    findings = [
        Finding("UNREADABLE_FOLDER", f"no permission to list the folder {path}", "Make it readable.")
        for path in unreadable
    ]
    files_of: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for path in paths:
        name = entities.parse(path.name)
        if name and "sub" in name.entities and (_is_image(name) or name.suffix.lower() == "mask"):
            session = name.entities.get("ses") or _session_folder(path)
            files_of[name.entities["sub"], session].append(_File(path, name))
    cases = []
    for (subject, session), files in sorted(files_of.items()):
        case, problems = _case(subject, session, files, source)
        if case:
            cases.append(case)
            findings += problems
    if not cases:
        raise stop("NO_CASES", f"no ATLAS case among the {len(paths)} files under {source}", EXPECTED)
    return Scan(tuple(cases), tuple(findings))


def _case(subject: str, session: str, files: list[_File], source: Path) -> tuple[Case | None, list[Finding]]:
    """Pair the files of one subject and session; None when they are masks of something else than a lesion."""
    if not any(_is_image(file.name) or _is_lesion_mask(file.name) for file in files):
        return None, []
    images = [file.path for file in files if file.name.is_nifti and _is_image(file.name)]
    masks = [file.path for file in files if file.name.is_nifti and _is_lesion_mask(file.name)]
    others = [file.path for file in files if file.path not in images and file.path not in masks]
    name = f"sub-{subject}_ses-{session}" if session else f"sub-{subject}"
    parts = {part for file in files if (part := _split(file.path.parts[:-1]))}
    split = next(iter(parts)) if len(parts) == 1 else _split_of_source(source) or "train"
    exclude = f"exclude the case (--exclude {name})"

    def listing(role: str, paths: Iterable[PurePosixPath]) -> tuple[tuple[str, str], ...]:
        return tuple((role, str(path)) for path in paths)

    def error(code: str, problem: str, remedy: str, shown: tuple[tuple[str, str], ...]) -> Finding:
        return Finding(code, problem, f"{remedy}, or {exclude}.", name, shown)

    problems = []
    unused = listing("not used", others[:3])
    if len(parts) > 1:
        remedy = "Keep it in one of them"
        shown = listing("image", images) + listing("mask", masks)
        problems.append(error("SPLIT_CONFLICT", "files both in the training and in the test part", remedy, shown))
    for role, candidates in (("image", images), ("mask", masks)):
        if len(candidates) > 1:
            problem = f"{len(candidates)} files could be the {role}"
            remedy = "Leave one of them in the folder"
            problems.append(error(f"AMBIGUOUS_{role.upper()}", problem, remedy, listing(role, candidates)))
    if not images:
        remedy = "Add the T1w image as .nii.gz or .nii"
        shown = listing("mask", masks) + unused
        problem = "a lesion mask without its T1w image" if masks else "no T1w image as .nii.gz or .nii"
        problems.append(error("MISSING_IMAGE", problem, remedy, shown))
    elif not masks and split == "train":
        remedy = "Add the mask (…_label-L_desc-T1lesion_mask.nii.gz), move the case to Testing/"
        shown = listing("image", images) + unused
        problems.append(error("MISSING_MASK", "a training image without its lesion mask", remedy, shown))
    site = _SITE.fullmatch(subject)
    case = Case(
        case=name,
        subject=f"sub-{subject}",
        session=session,
        site=f"R{site[1]}" if site else "",
        split=split,
        images={IMAGE: str(images[0]) if len(images) == 1 else ""},
        masks=(str(masks[0]),) if len(masks) == 1 else (),
    )
    return case, problems


def _is_image(name: BidsName) -> bool:
    return name.suffix.lower() == IMAGE.lower()


def _is_lesion_mask(name: BidsName) -> bool:
    """``label-L`` (lesion, not left), ``label-lesion`` or ``desc-T1lesion``, but not a mask of the brain, say."""
    label, desc = name.entities.get("label", "").lower(), name.entities.get("desc", "").lower()
    return name.suffix.lower() == "mask" and ("lesion" in label + desc or (label in ("l", "r") and not desc))


def _split(folders: Iterable[str]) -> Split | None:
    """Which part the innermost folder that says so belongs to; ``Training_Raw`` says so too."""
    for folder in reversed(list(folders)):
        words = set(re.split(r"[^a-z]+", folder.lower()))
        parts: list[Split] = []
        if words & {"training", "train"}:
            parts.append("train")
        if words & {"testing", "test"}:
            parts.append("test")
        if len(parts) == 1:
            return parts[0]
    return None


def _split_of_source(source: Path) -> Split | None:
    """The part that the given folder itself belongs to, as ``…/Testing/R003`` or ``…/test/derivatives/ATLAS`` do."""
    folders = list(source.resolve().parts)
    inside = re.compile(r"derivatives|R\d{3}|sub-.*|ses-.*|anat", re.IGNORECASE)
    while folders and (inside.fullmatch(folders[-1]) or folders[-2:] == ["derivatives", "ATLAS"]):
        folders.pop()
    return _split(folders[-1:])


def _session_folder(path: PurePosixPath) -> str:
    return next((part[4:] for part in reversed(path.parts[:-1]) if re.fullmatch(r"ses-[A-Za-z0-9]+", part)), "")


# Reports about the published files, checked by their finders and not by us.
_KNOWN_ISSUES = (
    KnownIssue("R2.0", "sub-r039s002", "the mask has about 0.01 where it should have 1", "nadluru/StrokeLesSeg"),
    KnownIssue("R2.0", "sub-r009s003", "the mask is reported to be mislabelled", "npnl/ATLAS#21"),
    KnownIssue("R2.0", "sub-r040s043", "the mask is reported to include microbleeds", "npnl/ATLAS#23"),
)

LAYOUT = Layout(
    name="atlas",
    find=find,
    about={
        "description": "Chronic stroke lesions in T1-weighted MRI (ATLAS R2.0)",
        "reference": "Liew et al., Scientific Data 9:320 (2022), https://doi.org/10.1038/s41597-022-01401-7",
        "licence": "See the terms under which the ATLAS data were obtained.",
    },
    known_issues=_KNOWN_ISSUES,
)
