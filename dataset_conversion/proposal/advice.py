"""The options of `convert` that the data need, from the cases that a layout file finds and the grids of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dataset_conversion.alignment.grids import Grid, drawn_on
from dataset_conversion.checks.file import ROUNDING_MM
from dataset_conversion.layouts.layout import Scan
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.words import counted, joined

_MOST_CASES = 100


class Suggestion(NamedTuple):
    """Options of a conversion, and why they are given."""

    options: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Grids:
    """The grids of a case: for each of its images those with the same grid, and for its mask those that have its."""

    images: dict[str, tuple[str, ...]]
    mask: tuple[str, ...]


def suggestions(found: Scan, source: Path, *, lawful: bool) -> list[Suggestion]:
    """Ways to convert what was found: first the one that takes most images, then others; none without a mask.

    Args:
        found: what the layout file finds.
        source: the folder.
        lawful: whether subjects and sessions can be names of cases as they are.
    """
    bad = {each.case for each in found.findings if each.severity == "error" and each.code != "CASE_NAME"} - {""}
    cases = [case for case in found.cases if case.masks and any(case.images.values())]
    cases = [case for case in cases if case.case not in bad] or cases
    if not cases:
        return []
    counts = Counter(name for case in cases for name, path in case.images.items() if path)
    names = list(found.cases[0].images)
    channels = [name for name in names if 2 * counts[name] >= len(cases)] or [counts.most_common(1)[0][0]]
    grids = {case.case: each for case in _spread(cases) if (each := _read(case, source))}
    common, why = _for_all(len(bad), lawful)
    main = _suggestion(channels, names, cases, grids, common)
    first = Suggestion(main.options, (*why, *main.why))
    several = [first]
    if "--register" in first.options:
        options = first.options.replace("--register rigid", "--resample")
        several.append(Suggestion(options, ("or, where the patient did not move between the images:",)))
    lacking = {name: len(cases) - counts[name] for name in channels if counts[name] < len(cases)}
    if lacking:
        lack = joined([f"{number} of {counted(len(cases), 'case')} lack {name}" for name, number in lacking.items()])
        why_second = f"{lack}, and are left out of the dataset; to make a second one of them:"
        several.append(Suggestion(f"{first.options} --incomplete-dataset-id 302".strip(), (why_second,)))
        full = [name for name in channels if name not in lacking]
        if full:
            fewer = _suggestion(full, names, cases, grids, common)
            several.append(Suggestion(fewer.options, (f"or to take all of them, with {joined(full)} only:",)))
    return several


def _for_all(bad: int, lawful: bool) -> tuple[list[str], list[str]]:
    """The options that do not depend on the channels."""
    options, why = [], []
    if not lawful:
        options.append("--pseudonymise key.json")
        why.append(
            "names here cannot be names of cases (blanks, accents): --pseudonymise gives others, kept in key.json"
        )
    if bad:
        options.append("--skip-bad")
        why.append(f"--skip-bad leaves out {counted(bad, 'case')} with an error (above)")
    return options, why


def _suggestion(
    channels: Sequence[str],
    names: Sequence[str],
    cases: Sequence[Case],
    grids: dict[str, _Grids],
    common: Sequence[str],
) -> Suggestion:
    options, why = [], []
    if len(channels) < len(names):
        options.append(f"--channels {' '.join(channels)}")
    complete = [case.case for case in cases if all(case.images.get(name) for name in channels) and case.case in grids]
    votes = Counter(name for case in complete for name in grids[case].mask if name in channels)
    reference = max(channels, key=lambda name: (votes[name], -channels.index(name)))
    apart = [case for case in complete if not set(channels) <= set(grids[case].images[reference])]
    elsewhere = [case for case in complete if reference not in grids[case].mask]
    if apart:
        options.append("--register rigid")
        why.append(f"{joined(channels)} have grids of their own in {len(apart)} of {counted(len(complete), 'case')}")
    if elsewhere:
        options += ["--resample-mask"] if apart else ["--resample", "--resample-mask"]
        why.append(f"{len(elsewhere)} of {counted(len(complete), 'mask')} are not on the grid of the {reference}")
        if lost := [case for case in elsewhere if not grids[case].mask]:
            why.append(
                f"{counted(len(lost), 'mask')} are on the grid of no image, such as that of {lost[0]}: look at them"
            )
    return Suggestion(" ".join([*options, *common]), tuple(why))


def _spread(cases: Sequence[Case]) -> list[Case]:
    step = max(1, -(-len(cases) // _MOST_CASES))
    return list(cases[::step])


def _read(case: Case, source: Path) -> _Grids | None:
    """From the headers; None where one cannot be read, of which the conversion will tell."""
    try:
        images = {name: _grid(source / path) for name, path in case.images.items() if path}
        mask = _grid(source / case.masks[0])
    except nifti.BadFileError:
        return None
    same = {name: drawn_on(grid, images, ROUNDING_MM) for name, grid in images.items()}
    return _Grids(same, drawn_on(mask, images, ROUNDING_MM))


def _grid(path: Path) -> Grid:
    header = nifti.read_header(path)
    return Grid(header.shape, header.affine)


def is_4d(path: Path) -> bool:
    """Whether a file has several volumes, by its header."""
    try:
        nifti.read_header(path)
    except nifti.BadFileError as error:
        return error.code == "NOT_3D"
    return False
