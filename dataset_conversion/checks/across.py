"""What shows only when all cases are known: the same voxels twice, a subject on both sides, mixed preprocessing."""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dataset_conversion.checks.alike import alike, candidates, thumbnail
from dataset_conversion.checks.case import CheckedCase
from dataset_conversion.checks.file import sorted_shape
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.geometry import orthonormal, to_ras
from nnunet_transformers.common.volumes.names import identity
from nnunet_transformers.common.volumes.reading import read
from nnunet_transformers.common.volumes.stored import BadFileError

_FEW_VOXELS = 8
"""Masks of so few may be equal by chance."""
_EXTRACTED, _WHOLE = 0.7, 0.55  # share of voxels that are 0 with the brain alone, and with the head


class _File(NamedTuple):
    """An image, or all masks of a case."""

    role: str
    case: Case
    paths: tuple[str, ...]


def across_cases(checked: Sequence[CheckedCase], source: Path, allow: Collection[str] = ()) -> list[Finding]:
    """Findings that need more than one case. Leakage, also by one scan under two names, is an error unless allowed."""
    duplicates = _duplicates(checked, source, allow)
    return [
        *(finding for one in checked for finding in _one_file_twice(one.case, source)),
        *duplicates,
        *_same_up_to_scale(checked, source, allow, [set(each.files) for each in duplicates]),
        *_in_both_parts([one.case for one in checked], allow),
        *_mixed_extraction(checked),
    ]


class _Seen(NamedTuple):
    """What is kept of a case's voxels: digests of its images and its mask, and path and thumbnail of each image."""

    digests: list[str]
    images: list[tuple[Path, str]]


def voxel_digests(
    first: Sequence[Case], second: Sequence[Case], jobs: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Name of each case → digests of its images and its mask, whatever their orientation, header and type.

    Images of the two datasets that are equal up to scale and shift have a digest in common too.

    Args:
        first: cases of one dataset, with paths that lead to the files from here.
        second: cases of the other.
        jobs: files read at once.
    """
    everyone = [*first, *second]
    with ThreadPoolExecutor(jobs) as threads:
        seen = threads.map(_see, everyone)
        found = list(tqdm(seen, "looking for scans in both", len(everyone), unit="case", file=sys.stderr))
    images = [(number, path, small) for number, one in enumerate(found) for path, small in one.images]
    for a, b in candidates([small for _, _, small in images]):
        (one, path, _), (other, other_path, _) = images[a], images[b]
        in_both = (one < len(first)) != (other < len(first))
        if in_both and not set(found[one].digests) & set(found[other].digests) and _alike(path, other_path):
            found[one].digests.append(f"like {other_path}")
            found[other].digests.append(f"like {other_path}")
    digests = [one.digests for one in found]
    return (
        {case.case: each for case, each in zip(first, digests, strict=False)},
        {case.case: each for case, each in zip(second, digests[len(first) :], strict=True)},
    )


def _see(case: Case) -> _Seen:
    digests, images = [], []
    try:
        for path in map(Path, case.images.values()):
            voxels = _on_ras_axes(path)
            digests.append(_digest(voxels.astype(np.float32)))
            images.append((path, thumbnail(voxels)))
        lesion = _lesion(list(map(Path, case.masks)))
        if lesion is not None and np.count_nonzero(lesion) > _FEW_VOXELS:
            digests.append(f"mask {_digest(lesion)}")
    except BadFileError:
        return _Seen([], [])  # the checks say what is wrong with it
    return _Seen(digests, images)


def _alike(one: Path, other: Path) -> bool:
    return alike(_on_ras_axes(one), _on_ras_axes(other))


def _finding(
    code: str, problem: str, remedy: str, allow: Collection[str], files: tuple[tuple[str, str], ...] = ()
) -> Finding:
    if code in allow:
        return Finding(code, problem, "Allowed.", files=files, severity="warning")
    return Finding(code, problem, f"{remedy}, or accept it (--allow {code}).", files=files)


def _one_file_twice(case: Case, source: Path) -> list[Finding]:
    """An error where a path of one case is also that of another image or mask of it."""
    roles: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for role, path in (*case.images.items(), *(("mask", mask) for mask in case.masks)):
        roles[identity(source / path)].append((role, path))
    remedy = f"Give each its own file, or exclude the case (--exclude {case.case})."
    return [
        Finding("SAME_FILE", f"{' and '.join(role for role, _ in uses)} are one file", remedy, case.case, tuple(uses))
        for uses in roles.values()
        if len(uses) > 1
    ]


def _duplicates(checked: Sequence[CheckedCase], source: Path, allow: Collection[str]) -> list[Finding]:
    """Files with the same voxels, whatever their orientation and header.

    Extremes and counts of voxels tell nearly all of them apart; only the others are read again. Where images were not
    read, their paths are compared.
    """
    similar: dict[Hashable, list[_File]] = defaultdict(list)
    lesion_voxels: dict[str, int] = {}
    same: dict[Hashable, list[_File]] = defaultdict(list)
    for one in checked:
        if one.content is None:
            continue
        shape, case = sorted_shape(one.content.shape), one.case
        paths = {file.role: file.sources[0][0] for file in one.content.images}
        for role in paths.keys() - {role for role, _ in one.content.statistics}:
            same[(source / paths[role]).resolve()].append(_File(role, case, (paths[role],)))
        for role, each in one.content.statistics:
            similar[shape, each.lowest, each.highest, each.upper].append(_File(role, case, (paths[role],)))
        lesion, mask = one.content.lesion, one.content.mask
        if lesion and lesion.voxels and mask:
            similar["mask", shape, lesion.voxels].append(_File("mask", case, tuple(p for p, _ in mask.sources)))
            lesion_voxels[case.case] = lesion.voxels
    for files in similar.values():
        for file in files if len(files) > 1 else ():
            same[file.role == "mask", _digest(_voxels(file, source))].append(file)
    return [
        _duplicate(files, allow, few=any(lesion_voxels.get(file.case.case, 0) <= _FEW_VOXELS for file in files))
        for files in same.values()
        if len({(file.case.case, file.paths) for file in files}) > 1
    ]


def _same_up_to_scale(
    checked: Sequence[CheckedCase], source: Path, allow: Collection[str], reported: Sequence[set[tuple[str, str]]]
) -> list[Finding]:
    """Images of two subjects that differ by a scale and a shift of their values only, as after a normalisation.

    Args:
        reported: (case, path) of files that were found to be the same.
    """
    images: list[tuple[_File, str]] = []
    for one in checked:
        paths = {file.role: file.sources[0][0] for file in one.content.images} if one.content else {}
        for role, each in one.content.statistics if one.content else ():
            images.append((_File(role, one.case, (paths[role],)), each.thumbnail))
    findings = []
    for a, b in candidates([small for _, small in images]):
        pair = images[a][0], images[b][0]
        places = tuple((file.case.case, file.paths[0]) for file in pair)
        if pair[0].case.subject == pair[1].case.subject or any(set(places) <= files for files in reported):
            continue
        if alike(_voxels(pair[0], source), _voxels(pair[1], source)):
            names = ", ".join(file.case.case for file in pair)
            roles = " and ".join(dict.fromkeys(file.role for file in pair))
            problem = f"{names}: the same {roles} voxels up to scale and shift"
            findings.append(_finding("DUPLICATE_VOXELS", problem, _LEAKS, allow, places))
    return findings


_LEAKS = "One scan under two names leaks from training to validation: exclude all but one"


def _duplicate(files: Sequence[_File], allow: Collection[str], *, few: bool) -> Finding:
    names = ", ".join(dict.fromkeys(file.case.case for file in files))
    places = tuple((file.case.case, path) for file in files for path in file.paths)
    roles = list(dict.fromkeys(file.role for file in files))
    one_subject = len({file.case.subject for file in files}) == 1
    own_masks = roles == ["mask"] and few and len({file.paths for file in files}) == len(files)
    problem = f"{names}: the same {' and '.join(roles)} voxels under {len(files)} names"
    remedy = _LEAKS
    if len(roles) > 1:
        remedy = "One image cannot be two channels: give each its own file, or exclude these cases"
    elif one_subject or own_masks:
        remedy = "Where they are one scan, exclude all but one."
        return Finding("DUPLICATE_VOXELS", problem, remedy, files=places, severity="warning")
    return _finding("DUPLICATE_VOXELS", problem, remedy, allow, places)


def _voxels(file: _File, source: Path) -> np.ndarray:
    """On RAS axes: of an image in the type that all have in common, of masks where any has a lesion."""
    paths = [source / path for path in file.paths]
    lesion = _lesion(paths) if file.role == "mask" else None
    return _on_ras_axes(paths[0]).astype(np.float32) if lesion is None else lesion


def _lesion(paths: Sequence[Path]) -> np.ndarray | None:
    return np.logical_or.reduce([_on_ras_axes(path) != 0 for path in paths]) if paths else None


def _on_ras_axes(path: Path) -> np.ndarray:
    volume = read(path)
    return to_ras(volume.data, orthonormal(volume.affine))[0]


def _digest(values: np.ndarray) -> str:
    hashed = hashlib.sha256(repr(values.shape).encode())
    hashed.update(np.ascontiguousarray(values.T).data)
    return hashed.hexdigest()


def _in_both_parts(cases: Sequence[Case], allow: Collection[str]) -> list[Finding]:
    parts: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        parts[case.subject].add(case.split)
    remedy = "Results on the test cases would not be independent of the training: exclude one side"
    return [
        _finding("SUBJECT_IN_BOTH_PARTS", f"{subject}: has cases both in training and in test", remedy, allow)
        for subject, found in sorted(parts.items())
        if len(found) > 1
    ]


def _mixed_extraction(checked: Sequence[CheckedCase]) -> list[Finding]:
    """Images of the brain alone beside images of the whole head."""
    zeros: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for one in checked:
        for role, each in one.content.statistics if one.content else ():
            zeros[role].append((each.zeros, one.case.case))
    found = []
    for role, shares in zeros.items():
        brains = [case for share, case in shares if share >= _EXTRACTED]
        heads = [case for share, case in shares if share <= _WHOLE]
        if brains and heads:
            problem = (
                f"{role}: {len(brains)} images look like extracted brains (such as {brains[0]}), {len(heads)} "
                f"like whole heads (such as {heads[0]})"
            )
            remedy = "Preprocess all cases in the same way, or train on one kind."
            found.append(Finding("MIXED_BRAIN_EXTRACTION", problem, remedy, severity="warning"))
    return found
