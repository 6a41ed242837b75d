"""ATLAS R1.1 and R1.2 (Liew et al., Scientific Data 2018), as INDI and as ICPSR distribute them.

    ATLAS_R1.1/Site1/031768/t01/031768_t1w_deface_stx.nii.gz            INDI, in MNI space
                                031768_LesionSmooth_stx.nii.gz
                                031768_LesionSmooth_1_stx.nii.gz        further parts of the same lesion mask
    c0003/c0003s0002t01/c0003s0002t01_t1w_stx.nii.gz                    ICPSR, in MNI space (_stx) or native
                        c0003s0002t01_LesionSmooth_stx.nii.gz

INDI's names say the time point by the folder (t01, t02) only, ICPSR's in the file name; the folders of the latter are
not known for certain, so they do not matter. The masks of one time point are united. All cases are for training. R2.0
uses many of these subjects again, under other names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.layouts.patterns import Patterns, find_cases
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding

# The first that fits counts, so the one that says most comes first.
_INDI_FOLDERS = (r"(?:.*/)?(?P<site>Site\d+)/(?:.*/)?(?P<session>t\d+)/", r"(?:.*/)?(?P<session>t\d+)/", r"(?:.*/)?")
_INDI = tuple(folders + r"(?P<subject>\d+)" for folders in _INDI_FOLDERS)
_ICPSR = r"(?:.*/)?(?P<subject>(?P<site>c\d+)s\d+)(?P<session>t\d+)"
_IMAGE = r"_t1w(?:_deface)?(?:_stx)?\.nii(?:\.gz)?"
_MASK = r"_LesionSmooth(?:_\d+)?(?:_stx)?\.(?:nii(?:\.gz)?|(?:seg\.)?nrrd|mha)"


def _expressions(ending: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(start + ending, re.IGNORECASE) for start in (_ICPSR, *_INDI))


_PATTERNS = Patterns(
    images={"T1w": _expressions(_IMAGE)},
    mask=_expressions(_MASK),
    masks="union",
    test=(),
    drawn_on="T1w",
    kind="ATLAS R1.x",
    expected=(
        "Give the folder that holds Site1/031768/t01/031768_t1w_deface_stx.nii.gz and …_LesionSmooth_stx.nii.gz, or "
        "files named c0003s0002t01_t1w_stx.nii.gz and c0003s0002t01_LesionSmooth_stx.nii.gz."
    ),
)


def find(source: Path) -> Scan:
    """Find the cases of an ATLAS R1.x folder, which may also be that of one site.

    Raises:
        ConversionError: when the folder does not exist or holds no case.
    """
    found = find_cases(_PATTERNS, source)
    name = source.resolve().name
    site = name if re.fullmatch(r"Site\d+", name, re.IGNORECASE) else ""
    paired = [_in_one_space(case) for case in found.cases]
    cases = tuple(replace(case, site=case.site or site) for case, _ in paired)
    return replace(found, cases=cases, findings=(*found.findings, *(each for _, several in paired for each in several)))


def _in_one_space(case: Case) -> tuple[Case, list[Finding]]:
    """The case with the masks in the space of its image, MNI (`_stx`) or native, and a finding about the others."""
    image = case.images["T1w"]
    others = [mask for mask in case.masks if _in_mni(mask) != _in_mni(image)]
    if not image or not others:
        return case, []
    masks = tuple(mask for mask in case.masks if mask not in others)
    spaces = ("MNI space (_stx)", "native space")
    problem = "the image is in {}, a mask in {}".format(*(spaces if _in_mni(image) else reversed(spaces)))
    problem += ", which is not used" if masks else ""
    remedy = f"Add the file that belongs to the other, or exclude the case (--exclude {case.case})."
    files = (("T1w", image), *(("mask", mask) for mask in others))
    return replace(case, masks=masks), [
        Finding("PAIR_MISMATCH", problem, remedy, case.case, files, "warning" if masks else "error")
    ]


def _in_mni(path: str) -> bool:
    return bool(re.search(r"_stx\.[a-z.]+$", path, re.IGNORECASE))


LAYOUT = Layout(
    name="atlas-v1",
    find=find,
    about={
        "description": "Chronic stroke lesions in T1-weighted MRI (ATLAS R1.x)",
        "reference": "Liew et al., Scientific Data 5:180011 (2018), https://doi.org/10.1038/sdata.2018.11",
        "licence": "See the terms under which the ATLAS data were obtained.",
    },
    drawn_on="T1w",
)
