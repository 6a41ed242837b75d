"""ATLAS from R2.0 on (Liew et al., Scientific Data 2022), as distributed and as copied by the ISLES 2022 challenge.

    ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz        R2.0
                                                  sub-r001s001_ses-1_…_label-L_desc-T1lesion_mask.nii.gz
    ATLAS_2/Testing/R003/…                        images only
    data/train/derivatives/ATLAS/sub-r001s001/…   the challenge's copy, same file names; test in data/test/…
    …/sub-r001s001_ses-1_T1w.nii.gz               R2.0 in native space (ICPSR)
      sub-r001s001_ses-1_space-orig_label-L_desc-T1lesion_mask.nii.gz
    Training_Raw/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-orig_desc-brain_T1w.nii.gz               R2.1
                                              sub-r001s001_ses-1_space-orig_label-lesion_desc-T1lesion_mask.nii.gz
                                              sub-r001s001_ses-1_metadata.csv
    ATLAS3_Training_Raw/SOOP/sub-soop0910/…       R3.0

Cases are found by file name; of the folders only those of a part (Training, test), a site and a session matter. A
folder without such names may hold R1.x: see `atlas_v1`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.layouts import atlas_v1
from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.layout import KnownIssue, Layout, Scan
from dataset_conversion.layouts.lesion_names import MASK_SUFFIXES, SEGMENTATION_SUFFIXES, meaning
from dataset_conversion.layouts.named_files import image_name
from dataset_conversion.layouts.pairing import MASK, NOT_USED, Convention, find_cases
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import some

IMAGE = "T1w"
EXPECTED = (
    "Give the folder that holds Training/ and Testing/ (as distributed) or derivatives/ATLAS/sub-* (the challenge's "
    "copy), with files named sub-r001s001_ses-1_…_T1w.nii.gz and …_label-L_desc-T1lesion_mask.nii.gz (R2.0) or "
    "…_label-lesion_desc-T1lesion_mask.nii.gz (R2.1, R3.0); or that of R1.x, with SiteN/031768/t01/."
)
_SITE_FOLDER = re.compile(r"R\d{3}|SOOP", re.IGNORECASE)
_SITE_IN_SUBJECT = re.compile(r"(r\d{3})s\d+|(soop)\d+", re.IGNORECASE)


def find(source: Path, entities: Mapping[str, str] = MappingProxyType({}), lesion_names: Collection[str] = ()) -> Scan:
    """Find the cases of an ATLAS folder of any release.

    Args:
        source: the folder.
        entities: which files to take where a case has several: `{"space": "orig"}`.
        lesion_names: words that say lesion in a mask's name, besides lesion, stroke and infarct.

    Raises:
        ConversionError: when the folder does not exist or holds no case, or no file has such an entity.
    """
    try:
        convention = replace(_CONVENTION, role=partial(_role, lesion_names=lesion_names))
        found = find_cases(source, convention, entities, lesion_names)
    except ConversionError as error:
        older = _find_v1(source) if error.findings[0].code == "NO_CASES" else None
        if older is None:
            raise
        if entities:
            problem = f"the names of ATLAS R1.x, such as {older.cases[0].images['T1w']}, have no entities"
            raise stop("UNKNOWN_ENTITY", problem, "Leave --entity out.") from None
        return older
    older = _find_v1(source)
    return replace(found, findings=(*found.findings, *_mixed(older.cases))) if older else found


def _find_v1(source: Path) -> Scan | None:
    try:
        return atlas_v1.find(source)
    except ConversionError:
        return None


def _mixed(older: Sequence[Case]) -> list[Finding]:
    names = some([case.case for case in older])
    problem = f"{len(older)} cases of R1.x ({names}) lie beside those of a later release, which uses many of them again"
    remedy = "Give the folder of one release only; `convert merge` makes one dataset of two."
    return [Finding("MIXED_RELEASES", problem, remedy)]


def layout(entities: Mapping[str, str] = MappingProxyType({}), lesion_names: Collection[str] = ()) -> Layout:
    """The layout that takes the files with these entities where a case has several; see `named_files.choose`."""
    find_such = partial(find, entities=entities, lesion_names=lesion_names)
    return Layout(name="atlas", find=find_such, about=_ABOUT, known_issues=_KNOWN_ISSUES)


def _role(name: BidsName, lesion_names: Collection[str] = ()) -> str:
    if image_name(name.suffix) == IMAGE and not name.words:
        return IMAGE
    if name.suffix.lower() not in (*MASK_SUFFIXES, *SEGMENTATION_SUFFIXES):
        return ""
    return MASK if not name.words and meaning(name, lesion_names) == "lesion" else NOT_USED


def _site(path: PurePosixPath, subject: str) -> str:
    folder = next((part for part in reversed(path.parts[:-1]) if _SITE_FOLDER.fullmatch(part)), "")
    named = _SITE_IN_SUBJECT.fullmatch(subject)
    return (folder or (named and (named[1] or named[2])) or "").upper()


_CONVENTION = Convention(
    kind="ATLAS",
    expected=EXPECTED,
    mask_example="…_desc-T1lesion_mask.nii.gz",
    role=_role,
    site=_site,
    images=(IMAGE,),
    unlabelled="train",
    source_says_part=True,
    one_release=True,
)

_ABOUT = {
    "description": "Chronic stroke lesions in T1-weighted MRI (ATLAS)",
    "reference": "Liew et al., Scientific Data 9:320 (2022), https://doi.org/10.1038/s41597-022-01401-7",
    "licence": "See the terms under which the ATLAS data were obtained.",
}

# Reports about the published files, checked by their finders and not by us.
_ALMOST_ONE = ("the mask has 0.9999999776 where it should have 1", "stebo85/isles26")
_EMPTY = ("the mask is reported to be empty", "stebo85/isles26")
_KNOWN_ISSUES = (
    KnownIssue("R2.0", "sub-r039s002", "the mask has about 0.01 where it should have 1", "nadluru/StrokeLesSeg"),
    KnownIssue("R2.0", "sub-r009s003", "the mask is reported to be mislabelled", "npnl/ATLAS#21"),
    KnownIssue("R2.0", "sub-r040s043", "the mask is reported to include microbleeds", "npnl/ATLAS#23"),
    *(KnownIssue("R2.1", f"sub-r039s{number}", *_ALMOST_ONE) for number in ("001", "002", "003", "005")),
    KnownIssue("R2.1", "sub-r049s018", "the metadata say -4 days post stroke", "stebo85/isles26"),
    *(
        KnownIssue("R3.0", f"sub-{subject}", *_EMPTY)
        for subject in ("r041s108", "r053s016", "r065s002", "soop0910", "soop0961")
    ),
)

LAYOUT = layout()
