"""Cross-validation folds that keep a subject's cases together and spread lesion volumes evenly."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Split = dict[str, list[str]]


@dataclass(frozen=True)
class Member:
    """A training case, what it must not be separated from (its subject, say), and its lesion volume in ml."""

    case: str
    group: str
    volume: float


def grouped_folds(members: Sequence[Member], n_folds: int = 5, seed: int = 12345) -> list[Split]:
    """Cut training cases into folds, as nnU-Net's ``splits_final.json`` has them.

    Groups are ordered by mean log volume and dealt out in blocks of ``n_folds``, one to each fold, so that every fold
    gets small and large lesions alike; where groups differ in size, the larger ones go to the folds with fewer cases.
    The order within a block depends on the seed and the group's name only, not on a random-number library.

    Args:
        members: one per case.
        n_folds: number of folds.
        seed: another seed deals the groups out differently.

    Returns:
        One ``{"train": [...], "val": [...]}`` per fold, cases sorted; each case is in exactly one ``val``.

    Raises:
        ValueError: with fewer than two folds, or fewer groups than folds.
    """
    cases: dict[str, list[str]] = defaultdict(list)
    log_volumes: dict[str, list[float]] = defaultdict(list)
    for member in members:
        cases[member.group].append(member.case)
        log_volumes[member.group].append(math.log1p(member.volume * 1000))  # in µl, so that small lesions differ too
    if not 2 <= n_folds <= len(cases):
        raise ValueError(f"{n_folds} folds of {len(cases)} groups")

    def shuffled(*key: object) -> str:
        return hashlib.sha256(repr((seed, *key)).encode("utf-8", "surrogateescape")).hexdigest()

    ordered = sorted(
        cases, key=lambda group: (math.fsum(log_volumes[group]) / len(log_volumes[group]), shuffled(group))
    )
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    for start in range(0, len(ordered), n_folds):
        block = sorted(ordered[start : start + n_folds], key=lambda group: (-len(cases[group]), shuffled(group)))
        emptiest = sorted(range(n_folds), key=lambda fold: (len(folds[fold]), shuffled(start, fold)))
        for fold, group in zip(emptiest, block, strict=False):
            folds[fold] += cases[group]
    return [
        {"train": sorted(case for other in folds if other is not fold for case in other), "val": sorted(fold)}
        for fold in folds
    ]
