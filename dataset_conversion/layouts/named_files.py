"""Choose among files by their BIDS entities, and tell which images and masks lie in one space.

Data sets leave `space-orig` out as often as they write it, and `desc` says another thing of an image (`brain`)
than of a mask (`T1lesion`); so a space always says something, any other entity only of the files that have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dataset_conversion.layouts.entities import BidsName

IMAGE_NAMES = (
    *("T1w", "T2w", "PDw", "FLAIR", "T2starw", "SWI", "DWI", "ADC", "TRACE", "CT"),
    *("T1map", "T2map", "UNIT1", "angio", "CBF", "CBV", "MTT", "Tmax"),
)
_SPELLINGS = {name.lower(): name for name in IMAGE_NAMES} | {
    "t1": "T1w",
    "t2": "T2w",
    "pd": "PDw",
    "t2star": "T2starw",
}
_NATIVE = {"", "orig", "native", "individual", "scanner", "subject", *_SPELLINGS}


def image_name(text: str) -> str:
    """The BIDS spelling of a modality, `FLAIR` for `flair` and `T1w` for `t1`; empty for anything else."""
    return _SPELLINGS.get(text.lower(), "")


@dataclass(frozen=True)
class NamedFile:
    """A file of a case; its `role` is the name of an image or says what else it is."""

    path: PurePosixPath
    name: BidsName
    role: str

    def value(self, key: str) -> str:
        """The value of an entity; empty where the name lacks it, `orig` for a missing space."""
        return self.name.entities.get(key, "orig" if key == "space" else "")

    @property
    def frame(self) -> str:
        """`orig` for every space of the subject's own, else the template, in lower case."""
        space = self.value("space").lower()
        return "orig" if space in _NATIVE else space


def choose(files: Sequence[NamedFile], entities: Mapping[str, str], all_files: Sequence[NamedFile]) -> list[NamedFile]:
    """Of the candidates for one role of one case those that the user means.

    Args:
        files: the candidates.
        entities: the wanted value of each entity; an empty value means files without it.
        all_files: all files of this role, of every case: an entity that none of them has with this value does not
            concern the role.
    """
    chosen = list(files)
    for key, value in entities.items():
        if key == "space":
            chosen = in_space(chosen, value or "orig")
        elif matching := [file for file in chosen if _has(file, key, value)]:
            chosen = matching
        elif any(_has(file, key, value) for file in all_files):
            chosen = [file for file in chosen if not file.value(key)]
    return chosen


def in_space(files: Sequence[NamedFile], space: str) -> list[NamedFile]:
    """The files in exactly this space or, where there is none, in another of the same frame.

    A T1w image without a space is in the space `T1w`, to which other images may have been registered.
    """
    exact = [
        file
        for file in files
        if _has(file, "space", space) or ("space" not in file.name.entities and file.role == image_name(space))
    ]
    template = space.lower()
    frame = "orig" if template in _NATIVE else template
    return exact or [file for file in files if file.frame == frame]


def known(files: Sequence[NamedFile], key: str, value: str) -> bool:
    """Whether the choice of an entity can mean any of these files."""
    return bool(in_space(files, value)) if key == "space" else any(_has(file, key, value) for file in files)


def options(files: Sequence[NamedFile]) -> list[str]:
    """`--entity space-orig` and so on: what tells the files apart; empty where their entities are the same."""
    keys = dict.fromkeys(key for file in files for key in file.name.entities)
    values = {key: sorted({file.value(key) for file in files}) for key in keys}
    return [f"--entity {key}-{value}" for key in keys if len(values[key]) > 1 for value in values[key]]


def _has(file: NamedFile, key: str, value: str) -> bool:
    return file.value(key).lower() == value.lower()
