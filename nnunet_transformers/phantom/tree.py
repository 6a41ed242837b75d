"""The phantom as a folder: files named and placed as in ATLAS R2.0."""

from __future__ import annotations

import json
import math
import operator
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from nnunet_transformers.common.staging import new_folder
from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.phantom.acquisition import Scanner, draw_scanner
from nnunet_transformers.phantom.errors import refusal
from nnunet_transformers.phantom.fields import Grid, grid_at
from nnunet_transformers.phantom.lesions import VOLUMES_ML
from nnunet_transformers.phantom.mask_shapes import find_masks
from nnunet_transformers.phantom.subject import Subject, make_subject
from nnunet_transformers.phantom.template import load_template

# Which site the 1st, 2nd, … subject comes from, over and over: uneven, as ATLAS's cohorts are.
_SITE_ORDER = (9, 38, 40, 9, 1, 9, 38, 4, 9, 40, 9, 31, 38, 1, 9, 40)

# Numbers of test subjects within a site start behind those of any training subject.
_FIRST_TEST_NUMBER = 601
_MOST_SUBJECTS = 1500

# What a SeedSequence is spawned for.
_SITE, _TRAINING, _TESTING = 0, 1, 2

_COLUMNS = ("subject", "site", "split", "lesion_volume_ml", "lesions", "shape_source", "seed", "origin")

_MNI = 4  # NIfTI's code for MNI 152 space

_DESCRIPTION = (
    json.dumps(
        {
            "Name": "ATLAS R2.0 look-alike phantom (synthetic, no patient data)",
            "BIDSVersion": "1.6.0",
            "GeneratedBy": [{"Name": "nnunet-transformers phantom"}],
        },
        indent=2,
    )
    + "\n"
)

_NOTICE = """Synthetic data: an ATLAS R2.0 look-alike for trying out software
================================================================

No person was scanned. Every image is computed from the ICBM 2009a symmetric template, with invented anatomy, invented
lesions and an invented scanner. Only the names of files and folders, the grid and the spread of lesion volumes are as
in ATLAS R2.0 (Liew et al., Scientific Data 9:320, 2022); site and subject numbers mean nothing. A score on these data
says that software runs, not that a method works on patients.

  ATLAS_2/Training        images and lesion masks
  ATLAS_2/Testing         images without masks, if test subjects were asked for
  hidden_test_masks       their reference masks, to score predictions; outside ATLAS_2, so that nothing trains on them
  phantom.tsv             one row per subject: site, split, lesion volume (ml), number of lesions (26-connected), where
                          the shape came from, the seed; origin is "synthetic" in every row

Template: ICBM 152 non-linear 2009a symmetric, Fonov et al., NeuroImage 54, 2011, McConnell Brain Imaging Centre,
Montreal Neurological Institute, McGill University, as distributed with nilearn. Made by `nnunet-transformers phantom`.
"""


@dataclass(frozen=True)
class _Place:
    """Where a subject belongs."""

    site: int
    name: str
    split: str
    seed: np.random.SeedSequence


def write_phantom(
    destination: Path,
    *,
    subjects: int,
    seed: int = 0,
    spacing: float = 1.0,
    lesion_ml: Sequence[float] = VOLUMES_ML,
    lesions: Path | None = None,
    test_subjects: int = 0,
) -> Path:
    """Write a synthetic look-alike of ATLAS R2.0.

    The same arguments give the same bytes with the same library versions, and a subject depends on the seed and its own
    number only: asking for more subjects adds files and changes none. The folder appears when it is complete.

    Args:
        destination: a folder that does not exist yet or is empty. `destination/ATLAS_2` is what a converter reads.
        subjects: how many with a mask, in ATLAS_2/Training.
        seed: another seed, other subjects and other scanners.
        spacing: edge of the cubic voxel in mm, 0.5 to 10. 1 gives ATLAS's own grid, 197 × 233 × 189; others cover the
            same field of view.
        lesion_ml: the smallest and the largest volume of generated lesions; the defaults are ATLAS's.
        lesions: a folder of NIfTI masks in MNI space whose shapes are used; generated shapes without it.
        test_subjects: how many in ATLAS_2/Testing, their masks in destination/hidden_test_masks.

    Returns:
        destination.

    Raises:
        PhantomError: an argument is out of range, the destination is not empty or cannot be written, nilearn is
            missing, or a mask cannot be used. Nothing is left behind.
        ConversionError: another process is writing the same destination.
    """
    destination = Path(destination)
    _check_numbers(subjects, test_subjects, seed, spacing)
    _check_volumes(lesion_ml)
    _check_destination(destination)
    masks = find_masks(Path(lesions)) if lesions is not None else []
    grid = grid_at(float(spacing))
    template = load_template(grid)
    places = [*_places("Training", subjects, seed), *_places("Testing", test_subjects, seed)]
    scanners = {place.site: _scanner(place.site, seed) for place in places}

    try:
        with new_folder(destination) as folder:
            rows = []
            for place in tqdm(places, desc="phantom", unit="subject"):
                subject = make_subject(template, grid, scanners[place.site], place.seed, masks, lesion_ml)
                _write_subject(folder, place, subject, grid)
                rows.append(_row(place, subject, grid, seed))
            _write_table(folder / "phantom.tsv", rows)
            _write_text(folder / "README.txt", _NOTICE)
            if destination.is_dir():
                destination.rmdir()  # an empty folder makes way; one that has been filled since stays, and this fails
    except OSError as error:
        problem = f"the phantom cannot be written to {destination}: {error}"
        raise refusal("CANNOT_WRITE", problem, "Choose a folder you may write to, with room enough") from error
    return destination


def _check_numbers(subjects: int, test_subjects: int, seed: int, spacing: float) -> None:
    for name, value, least, most in (
        ("subjects", subjects, 1, _MOST_SUBJECTS),
        ("test subjects", test_subjects, 0, _MOST_SUBJECTS),
        ("seed", seed, 0, None),
    ):
        try:
            whole = operator.index(value)
        except TypeError:
            whole = least - 1
        if whole < least or (most is not None and whole > most):
            bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise refusal("BAD_NUMBER", f"{name}: {value} is not a whole number {bounds}", "Correct the number")
    if not (math.isfinite(spacing) and 0.5 <= spacing <= 10):
        raise refusal("BAD_SPACING", f"spacing: {spacing} mm is not between 0.5 and 10 mm", "Correct the spacing")


def _check_volumes(lesion_ml: Sequence[float]) -> None:
    smallest, largest = VOLUMES_ML
    if len(lesion_ml) != 2 or not smallest <= lesion_ml[0] <= lesion_ml[1] / 1.2 <= largest / 1.2:
        given = " to ".join(f"{volume:g}" for volume in lesion_ml)
        problem = f"lesion volumes: {given} ml is no range within {smallest} to {largest:g} ml that is a fifth wide"
        raise refusal("BAD_VOLUMES", problem, "Correct them")


def _check_destination(destination: Path) -> None:
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if os.path.lexists(destination):
        problem = f"the destination exists and is not an empty folder: {destination}"
        raise refusal("DESTINATION_EXISTS", problem, "Choose another one, or remove it first")


def _places(split: str, count: int, seed: int) -> Iterator[_Place]:
    """Site, name and seed of the first `count` subjects of a split."""
    at_site: Counter[int] = Counter()
    first, purpose = (1, _TRAINING) if split == "Training" else (_FIRST_TEST_NUMBER, _TESTING)
    for index in range(count):
        site = _SITE_ORDER[index % len(_SITE_ORDER)]
        name = f"sub-r{site:03d}s{first + at_site[site]:03d}"
        at_site[site] += 1
        yield _Place(site, name, split, np.random.SeedSequence(seed, spawn_key=(purpose, index)))


def _scanner(site: int, seed: int) -> Scanner:
    return draw_scanner(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SITE, site))))


def _write_subject(folder: Path, place: _Place, subject: Subject, grid: Grid) -> None:
    site = folder / "ATLAS_2" / place.split / _site_name(place)
    anat = site / place.name / "ses-1" / "anat"
    anat.mkdir(parents=True)
    _write_text(site / "dataset_description.json", _DESCRIPTION)
    masks = anat if place.split == "Training" else folder / "hidden_test_masks"
    masks.mkdir(exist_ok=True)
    header = nifti.grid_header(grid.affine, _MNI)
    stem = f"{place.name}_ses-1_space-MNI152NLin2009aSym"
    nifti.write(anat / f"{stem}_T1w.nii.gz", subject.image, header)
    nifti.write(masks / f"{stem}_label-L_desc-T1lesion_mask.nii.gz", subject.mask, header)


def _site_name(place: _Place) -> str:
    return f"R{place.site:03d}"


def _row(place: _Place, subject: Subject, grid: Grid, seed: int) -> tuple[str, ...]:
    volume = np.count_nonzero(subject.mask) * grid.voxel_ml
    _, count = ndimage.label(subject.mask, np.ones((3, 3, 3)))
    return (
        *(place.name, _site_name(place), place.split, f"{volume:.3f}", str(count)),
        *(subject.shape_source, str(seed), "synthetic"),
    )


def _write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    _write_text(path, "".join("\t".join(row) + "\n" for row in [_COLUMNS, *rows]))


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
