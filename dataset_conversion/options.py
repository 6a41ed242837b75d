"""The options of a conversion, each written once: the command line and the defaults of `convert` are made from here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from nnunet_transformers.common.command_line import Group, Option

Link = Literal["auto", "hard", "symlink", "reference", "copy"]
Align = Literal["refuse", "resample", "rigid"]
EmptyMasks = Literal["error", "keep", "skip"]
GroupBy = Literal["subject", "site"]
Missing = Literal["error", "exclude"]
Policy = Literal["first", "group"]

ALLOWABLE = (
    *("BLANK_IMAGE", "DUPLICATE_VOXELS", "EMPTY_MASK", "GRID_MISMATCH", "MASK_FULL", "MASK_NEGATIVE", "MASK_VALUES"),
    *("NOT_FINITE", "NOT_ORTHONORMAL", "SUBJECT_IN_BOTH_PARTS"),
)
"""Errors that a user may turn into warnings; after all others there is nothing that could be written."""


@dataclass(frozen=True)
class Target:
    """The dataset to make, `<raw_folder>/Dataset<NNN>_<name>`; only a merge makes a name of its own."""

    dataset_id: Annotated[int, Option("1 to 999", metavar="ID")]
    name: Annotated[str, Option("the dataset is called Dataset<ID>_<NAME>")] = ""
    raw_folder: Annotated[Path | None, Option("instead of the folder in nnUNet_raw", metavar="DIR")] = None
    link: Annotated[
        Link,
        Option(
            "files that need no change: hard link, else symbolic link, else copy (auto), one of these, or only named "
            "in dataset.json (reference)"
        ),
    ] = "auto"


@dataclass(frozen=True)
class FileNames:
    """How layouts that go by file names (ATLAS, BIDS) read them; not part of `ConvertOptions`."""

    entity: Annotated[
        tuple[str, ...],
        Option(
            "where several files could be the image or the mask: take those with this in their names (space-orig)",
            metavar="KEY-VALUE",
        ),
    ] = ()
    lesion_names: Annotated[
        tuple[str, ...],
        Option("words that say lesion in a mask's name, besides lesion, stroke and infarct (tumour)", metavar="WORD"),
    ] = ()


@dataclass(frozen=True)
class Channels:
    """Which images, in which order, and what becomes of cases that lack one."""

    names: Annotated[
        tuple[str, ...], Option("images, in this order (default: all found)", name="channels", metavar="NAME")
    ] = ()
    incomplete_dataset_id: Annotated[
        int | None,
        Option("make a second dataset of the cases that lack a channel, with the channels they all have", metavar="ID"),
    ] = None


@dataclass(frozen=True)
class Alignment:
    """How several images of a case come onto one grid; without a way to align, other grids are an error."""

    reference: Annotated[str, Option("image whose grid the case gets (default: the mask's)", metavar="NAME")] = ""
    align: Annotated[
        Align,
        Option(
            "images of one examination: bring the others onto that grid as they lie", name="resample", value="resample"
        ),
        Option("register the others to it first", name="register", choices=("rigid",)),
    ] = "refuse"
    resample_mask: Annotated[
        bool, Option("a mask drawn on another image than the reference follows that image, by nearest neighbour")
    ] = False


@dataclass(frozen=True)
class Masks:
    """What of a mask is lesion, where it has more than one value besides 0."""

    labels: Annotated[
        tuple[str, ...],
        Option("values of the masks that are lesion (1 2 4, or 1,2,4); all others are not", "VALUE", "mask-labels"),
    ] = ()
    threshold: Annotated[
        float | None, Option("masks of probabilities: lesion is from this value on (0.5)", "VALUE", "mask-threshold")
    ] = None
    regions: Annotated[
        tuple[str, ...],
        Option(
            "labels kept apart, as regions of nnU-Net, the largest first and each inside the one before (lesion=1,2,4 "
            "core=1,4)",
            "NAME=VALUES",
            "mask-regions",
        ),
    ] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """The labels as numbers.

        Raises:
            ValueError: where one is none.
        """
        return _numbers(self.labels)

    @property
    def values_of_regions(self) -> dict[str, tuple[float, ...]]:
        """Name of each region → its labels, the largest region first.

        Raises:
            ValueError: where one is no number, or a region has none.
        """
        found = {}
        for region in self.regions:
            name, _, labels = region.partition("=")
            if not (values := _numbers([labels])):
                raise ValueError(region)
            found[name.strip()] = values
        return found

    @property
    def chosen(self) -> bool:
        return bool(self.labels) or self.threshold is not None or bool(self.regions)

    def __str__(self) -> str:
        if self.threshold is not None:
            return f"at least {self.threshold:g}"
        if self.regions:
            named = self.values_of_regions.items()
            return ", ".join(f"{' or '.join(f'{value:g}' for value in values)} ({name})" for name, values in named)
        return " or ".join(f"{value:g}" for value in self.values)


def _numbers(labels: Iterable[str]) -> tuple[float, ...]:
    return tuple(float(text) for label in labels for text in label.replace(",", " ").split())


@dataclass(frozen=True)
class Privacy:
    """New names for people, and nothing in the dataset that leads back to them."""

    pseudonyms: Annotated[
        Path | None,
        Option(
            "other names for subjects and sessions, kept in this file (made if missing); headers are cleaned",
            name="pseudonymise",
            metavar="KEYFILE",
        ),
    ] = None
    keep_sites: Annotated[bool, Option("leave the names of sites as they are")] = False

    @property
    def cleans(self) -> bool:
        """Whether every file is rewritten, so that no text of its header is left."""
        return self.pseudonyms is not None


@dataclass(frozen=True)
class Checks:
    """What is left out, what is accepted, and how much is read."""

    exclude: Annotated[tuple[str, ...], Option("cases or subjects to leave out", metavar="CASE")] = ()
    skip_bad: Annotated[bool, Option("leave out cases that fail a check, with the reason")] = False
    empty_masks: Annotated[EmptyMasks, Option("a mask without lesion")] = "error"
    allow: Annotated[
        tuple[str, ...], Option("accept an error by its code, for example DUPLICATE_VOXELS", metavar="CODE")
    ] = ()
    quick: Annotated[bool, Option("read headers and masks only, not every voxel")] = False
    pictures: Annotated[bool, Option("qc.html without pictures of the cases")] = True


@dataclass(frozen=True)
class Folds:
    """How the training cases are cut into folds, or the assignment to take instead."""

    number: Annotated[int, Option("their number", name="folds", metavar="N")] = 5
    seed: Annotated[int, Option("another one gives other folds")] = 12345
    group_by: Annotated[GroupBy, Option("what is never on two sides of a fold")] = "subject"
    fold_list: Annotated[
        Path | None, Option("a published assignment: splits_final.json, or CSV with a fold", metavar="FILE")
    ] = None
    missing_folds: Annotated[Missing, Option("cases that the list does not have")] = "error"


@dataclass(frozen=True)
class Work:
    """What is done at once, and whether anything is written."""

    dry_run: Annotated[bool, Option("check everything, write nothing")] = False
    # A thread holds one case, about 0.3 GB for a float64 T1 of 197 × 233 × 189 voxels.
    jobs: Annotated[int, Option("cases at a time", metavar="N")] = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class ConvertOptions:
    """All that can be chosen of a conversion; what is not said is as its default."""

    channels: Annotated[Channels, Group("images and cases")] = field(default_factory=Channels)
    alignment: Annotated[Alignment, Group("several images of a case")] = field(default_factory=Alignment)
    masks: Annotated[Masks, Group("masks that are not 0 and 1")] = field(default_factory=Masks)
    privacy: Annotated[Privacy, Group("privacy")] = field(default_factory=Privacy)
    checks: Annotated[Checks, Group("checks")] = field(default_factory=Checks)
    folds: Annotated[Folds, Group("folds of the cross-validation")] = field(default_factory=Folds)
    work: Annotated[Work, Group("the run")] = field(default_factory=Work)
