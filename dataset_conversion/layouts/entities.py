"""BIDS entities in a file name: `sub-r001s001_ses-1_space-orig_T1w.nii.gz` → sub, ses, space, suffix, extension."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# BIDS allows no hyphen in a value; hospitals write sub-CHU-012, and it reads in only one way.
_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+(?:-[A-Za-z0-9+]+)*)")
_WORD = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True)
class BidsName:
    """A parsed file name.

    `suffix` is empty in `sub-01_acq-T1w.nii.gz`; `words` are those before it that have no key, as in
    `sub-01_T1w_label-lesion_roi.nii.gz`; `extension` is everything from the first dot, in lower case.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str
    words: tuple[str, ...] = ()

    @property
    def is_nifti(self) -> bool:
        return self.extension in (".nii", ".nii.gz")

    @property
    def is_mask_form(self) -> bool:
        """Whether it is in another form of which masks are read."""
        return self.extension in (".nrrd", ".seg.nrrd", ".mha")


def parse(name: str) -> BidsName | None:
    """Read the entities of a file name (no folders); keys become lower case, values stay as they are.

    Returns:
        None where it is not `key-value_…_suffix.ext`, has one key twice, or has nothing but one entity.
    """
    stem, dot, extension = name.partition(".")
    parts = stem.split("_")
    entities: dict[str, str] = {}
    words = []
    for part in parts:
        match = _ENTITY.fullmatch(part)
        if match and match[1].lower() not in entities:
            entities[match[1].lower()] = match[2]
        elif not match and _WORD.fullmatch(part):
            words.append(part)
        else:
            return None
    if len(parts) < 2 or not _ENTITY.fullmatch(parts[0]):
        return None
    suffix = words.pop() if words and words[-1] == parts[-1] else ""
    return BidsName(entities, suffix, (dot + extension).lower(), tuple(words))
