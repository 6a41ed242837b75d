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

from dataset_conversion.checks.case import CheckedCase
from dataset_conversion.checks.file import sorted_shape
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.geometry import orthonormal, to_ras

_EXTRACTED, _WHOLE = 0.7, 0.55  # share of voxels that are 0 with the brain alone, and with the head


class _File(NamedTuple):
    role: str
    case: Case
    path: str


def across_cases(checked: Sequence[CheckedCase], source: Path, allow: Collection[str] = ()) -> list[Finding]:
    """Findings that need more than one case. Leakage, also by one scan under two names, is an error unless allowed."""
    return [
        *(finding for one in checked for finding in _one_file_twice(one.case, source)),
        *_duplicates(checked, source, allow),
        *_in_both_parts([one.case for one in checked], allow),
        *_mixed_extraction(checked),
    ]


def image_digests(cases: Sequence[Case], jobs: int) -> dict[str, list[str]]:
    """Name of each case → digests of its images' voxels, whatever their orientation, header and type.

    Args:
        cases: with paths that lead to the files from here.
        jobs: files read at once.
    """

    def digests(case: Case) -> list[str]:
        try:
            return [_digest(Path(path), role) for role, path in case.images.items()]
        except nifti.BadFileError:
            return []  # the checks say what is wrong with it

    with ThreadPoolExecutor(jobs) as threads:
        found = tqdm(threads.map(digests, cases), "looking for scans in both", len(cases), unit="case", file=sys.stderr)
        return {case.case: each for case, each in zip(cases, found, strict=True)}


def _finding(
    code: str, problem: str, remedy: str, allow: Collection[str], files: tuple[tuple[str, str], ...] = ()
) -> Finding:
    if code in allow:
        return Finding(code, problem, "Allowed.", files=files, severity="warning")
    return Finding(code, problem, f"{remedy}, or accept it (--allow {code}).", files=files)


def _one_file_twice(case: Case, source: Path) -> list[Finding]:
    """An error where a path of one case is also that of another image or mask of it."""
    roles: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for role, path in (*case.images.items(), *(("mask", mask) for mask in case.masks)):
        roles[(source / path).resolve()].append((role, path))
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
    alike: dict[Hashable, list[_File]] = defaultdict(list)
    same: dict[Hashable, list[_File]] = defaultdict(list)
    for one in checked:
        if one.content is None:
            continue
        shape, case = sorted_shape(one.content.shape), one.case
        paths = {file.role: file.sources[0][0] for file in one.content.images}
        for role in paths.keys() - {role for role, _ in one.content.statistics}:
            same[(source / paths[role]).resolve()].append(_File(role, case, paths[role]))
        for role, each in one.content.statistics:
            alike[shape, each.lowest, each.highest, each.upper].append(_File(role, case, paths[role]))
        lesion = one.content.lesion
        if lesion and lesion.voxels and one.content.mask and len(one.content.mask.sources) == 1:
            alike["mask", shape, lesion.voxels].append(_File("mask", case, one.content.mask.sources[0][0]))
    for files in alike.values():
        for file in files if len(files) > 1 else ():
            same[file.role == "mask", _digest(source / file.path, file.role)].append(file)
    return [
        _duplicate(files, allow) for files in same.values() if len({(file.case.case, file.path) for file in files}) > 1
    ]


def _duplicate(files: Sequence[_File], allow: Collection[str]) -> Finding:
    names = ", ".join(dict.fromkeys(file.case.case for file in files))
    places = tuple((file.case.case, file.path) for file in files)
    roles = list(dict.fromkeys(file.role for file in files))
    one_subject = len({file.case.subject for file in files}) == 1
    own_masks = roles == ["mask"] and len({file.path for file in files}) == len(files)
    problem = f"{names}: the same {' and '.join(roles)} voxels under {len(files)} names"
    remedy = "One scan under two names leaks from training to validation: exclude all but one"
    if len(roles) > 1:
        remedy = "One image cannot be two channels: give each its own file, or exclude these cases"
    elif one_subject or own_masks:
        remedy = "Where they are one scan, exclude all but one."
        return Finding("DUPLICATE_VOXELS", problem, remedy, files=places, severity="warning")
    return _finding("DUPLICATE_VOXELS", problem, remedy, allow, places)


def _digest(path: Path, role: str) -> str:
    """Of the values on RAS axes, whatever their stored type."""
    volume = nifti.read(path)
    voxels, _ = to_ras(volume.data, orthonormal(volume.affine))
    values = (voxels != 0) if role == "mask" else voxels.astype(np.float32)
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
