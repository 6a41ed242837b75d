"""BIDS with lesion masks among the derivatives, and trees that are nearly BIDS.

    sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz              derivatives/…/sub-01_ses-1_label-lesion_mask.nii.gz
    rawdata/sub-01/anat/sub-01_acq-FLAIR.nii.gz            derivatives/sub-01/seg/sub-01_acq-FLAIR_seg.nii.gz
    preprocessed/sub-01/anat/sub-01_T1w.nii.gz             derivatives/sub-01/seg/sub-01_seg.nii.gz
    sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz               derivatives/sub-01/ses-1/sub-01_ses-1_msk.nii.gz
    sub-01/anat/sub-01_T2w.nii.gz                          derivatives/labels/…/sub-01_T2w_lesion-manual.nii.gz

The second is what Empenn's core_convertToBIDS writes, the third what its StrokeSeg-Toolkit reads, the fourth ISLES 2022
(2024: `_lesion-msk`), the fifth what ivadomed reads. Cases are found by file name; of the folders only those of a part
(train, test) and a session matter. What a mask is of is said by `lesion_names`, and where a name does not say it by the
sidecar (`"Type": "Lesion"`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.layouts.lesion_names import MASK_SUFFIXES, SEGMENTATION_SUFFIXES, meaning
from dataset_conversion.layouts.named_files import image_name
from dataset_conversion.layouts.pairing import (
    MASK,
    NOT_USED,
    POSSIBLE_MASK,
    SEGMENTATION,
    Convention,
    find_cases,
)

EXPECTED = (
    "Give the folder that holds sub-*/ or rawdata/ and derivatives/, with images named sub-01_T1w.nii.gz or "
    "sub-01_acq-T1w.nii.gz and masks named sub-01_…_label-lesion_mask.nii.gz or sub-01_…_seg.nii.gz."
)


def find(source: Path, entities: Mapping[str, str] = MappingProxyType({}), lesion_names: Collection[str] = ()) -> Scan:
    """Find the cases of a BIDS folder: images by suffix, or by `acq` where the name has no suffix, with their masks.

    A case without a mask is for test, unless a folder or the column `split` of participants.tsv says train.

    Args:
        source: the folder.
        entities: which files to take where a case has several: `{"run": "1"}`.
        lesion_names: words that say lesion in a mask's name, besides lesion, stroke and infarct.

    Raises:
        ConversionError: when the folder does not exist or holds no case, or no file has such an entity.
    """
    return find_cases(
        source, replace(_CONVENTION, role=partial(_role, lesion_names=lesion_names)), entities, lesion_names
    )


def layout(entities: Mapping[str, str] = MappingProxyType({}), lesion_names: Collection[str] = ()) -> Layout:
    """The layout that takes the files with these entities where a case has several; see `named_files.choose`."""
    return Layout(name="bids", find=partial(find, entities=entities, lesion_names=lesion_names))


def _role(name: BidsName, lesion_names: Collection[str] = ()) -> str:
    suffix = name.suffix.lower()
    if image_name(suffix) and not name.words and "label" not in name.entities:
        return image_name(suffix)  # desc-lesionfilled_T1w is a T1w too
    is_segmentation = suffix in SEGMENTATION_SUFFIXES
    of = meaning(name, lesion_names)
    if of == "lesion" or (suffix == "msk" and of == "unsaid"):
        return MASK
    if suffix in MASK_SUFFIXES or is_segmentation or "label" in name.entities:
        if of == "other":
            return NOT_USED
        if not all(image_name(word) for word in name.words):
            return ""  # sub-AVC_011_seg is not of a subject AVC
        return SEGMENTATION if is_segmentation else POSSIBLE_MASK
    image = name.suffix or name.entities.get("acq", "")
    return image_name(image) if not name.words else ""


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
    source_says_part=False,
    one_release=False,
)

LAYOUT = layout()
