"""BIDS entities in a file name: ``sub-r001s001_ses-1_space-orig_T1w.nii.gz`` → sub, ses, space, suffix, extension."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")
_SUFFIX = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True)
class BidsName:
    """A parsed file name; ``extension`` is everything from the first dot, in lower case."""

    entities: Mapping[str, str]
    suffix: str
    extension: str

    @property
    def is_nifti(self) -> bool:
        return self.extension in (".nii", ".nii.gz")


def parse(name: str) -> BidsName | None:
    """Read the entities of a file name (no folders); None where it is not ``key-value_…_suffix.ext``."""
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    matches = [_ENTITY.fullmatch(pair) for pair in pairs]
    if not matches or not all(matches) or not _SUFFIX.fullmatch(suffix):
        return None
    entities = {match[1].lower(): match[2] for match in matches if match}
    return BidsName(entities, suffix, (dot + extension).lower())
