"""BIDS with lesion masks among the derivatives, and trees that are nearly BIDS.

    sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz              derivatives/…/sub-01_ses-1_label-lesion_mask.nii.gz
    rawdata/sub-01/anat/sub-01_acq-FLAIR.nii.gz            derivatives/sub-01/seg/sub-01_acq-FLAIR_seg.nii.gz
    preprocessed/sub-01/anat/sub-01_T1w.nii.gz             derivatives/sub-01/seg/sub-01_seg.nii.gz

The second is what Empenn's core_convertToBIDS writes, the third what its StrokeSeg-Toolkit reads. Cases are found by
file name; of the folders only those of a part (train, test) and a session matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.layouts.named_files import image_name
from dataset_conversion.layouts.pairing import MASK, NOT_USED, POSSIBLE_MASK, Convention, find_cases

EXPECTED = (
    "Give the folder that holds sub-*/ or rawdata/ and derivatives/, with images named sub-01_T1w.nii.gz or "
    "sub-01_acq-T1w.nii.gz and masks named sub-01_…_label-lesion_mask.nii.gz or sub-01_…_seg.nii.gz."
)
_MASK_SUFFIXES = ("mask", "seg", "dseg", "roi", "lesion")
_LESION = re.compile(r"lesion|stroke|infarct")
_NOT_A_LESION = re.compile(
    r".*(brain|skull|head|scalp|bone|face|tissue|ventric|aseg|aparc|vessel|white|bleed|hippo|atlas).*"
    r"|bet|eyes?|[cs]?gm|n?wm|csf|bg|bs|cbm|cr|eb|nbr|sp|st|wmh|cmb"
)


def find(source: Path, entities: Mapping[str, str] = MappingProxyType({})) -> Scan:
    """Find the cases of a BIDS folder: images by suffix, or by `acq` where the name has no suffix, with their masks.

    A case without a mask is for test, unless a folder or the column `split` of participants.tsv says train.

    Args:
        source: the folder.
        entities: which files to take where a case has several: `{"run": "1"}`.

    Raises:
        ConversionError: when the folder does not exist or holds no case, or no file has such an entity.
    """
    return find_cases(source, _CONVENTION, entities)


def layout(entities: Mapping[str, str] = MappingProxyType({})) -> Layout:
    """The layout that takes the files with these entities where a case has several; see `named_files.choose`."""
    return Layout(name="bids", find=partial(find, entities=entities))


def _role(name: BidsName) -> str:
    if image_name(name.suffix) and not name.words and "label" not in name.entities:
        return image_name(name.suffix)  # desc-lesionfilled_T1w is a T1w too
    said = [word.lower() for word in (*_values(name, "label", "desc"), *name.words)]
    is_lesion = any(_LESION.search(word) for word in (*said, name.suffix.lower()))
    if is_lesion:
        return MASK
    if name.suffix.lower() in _MASK_SUFFIXES:
        if any(_NOT_A_LESION.fullmatch(word) for word in said):
            return NOT_USED
        if not all(image_name(word) for word in name.words):
            return ""
        return POSSIBLE_MASK if name.suffix.lower() == "dseg" and not said else MASK
    image = name.suffix or name.entities.get("acq", "")
    return image_name(image) if not name.words else ""


def _values(name: BidsName, *keys: str) -> list[str]:
    return [name.entities[key] for key in keys if key in name.entities]


def _no_site(path: PurePosixPath, subject: str) -> str:
    return ""


_CONVENTION = Convention(
    kind="BIDS",
    expected=EXPECTED,
    mask_example="…_label-lesion_mask.nii.gz",
    role=_role,
    site=_no_site,
    images=(),
    unlabelled="test",
    one_release=False,
)

LAYOUT = layout()
