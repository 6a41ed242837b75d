"""Cross-validation folds that keep a subject's cases together, or a centre's, and spread lesion volumes evenly."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dataset_conversion.errors import ConversionError
from nnunet_transformers.common.problems import Finding

Split = dict[str, list[str]]
Node = TypeVar("Node", str, tuple[str, str])


@dataclass(frozen=True)
class Member:
    """A training case, what it must not be separated from (its subject, say), its lesion volume in ml, its centre."""

    case: str
    group: str
    volume: float
    site: str = ""


def grouped_folds(members: Sequence[Member], n_folds: int = 5, seed: int = 12345) -> list[Split]:
    """Cut training cases into folds, as nnU-Net's `splits_final.json` has them.

    Groups are ordered by mean log volume and dealt out in blocks of `n_folds`, one to each fold, so that every fold
    gets small and large lesions alike: of the groups up to any volume, no fold has more than one more than another.
    Where groups differ in size, the larger ones go to the folds with fewer cases. The order within a block depends on
    the seed and the group's name only, not on a random-number library.

    Args:
        members: one per case.
        n_folds: number of folds.
        seed: another seed deals the groups out differently.

    Returns:
        One `{"train": [...], "val": [...]}` per fold, cases sorted; each case is in exactly one `val`.

    Raises:
        ValueError: with fewer than two folds, or fewer groups than folds.
    """
    cases: dict[str, list[str]] = defaultdict(list)
    log_volumes: dict[str, list[float]] = defaultdict(list)
    for member in members:
        cases[member.group].append(member.case)
        log_volumes[member.group].append(_log_volume(member))
    if not 2 <= n_folds <= len(cases):
        raise ValueError(f"{n_folds} folds of {len(cases)} groups")

    ordered = sorted(cases, key=lambda group: (_mean(log_volumes[group]), _shuffled(seed, group)))
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    for start in range(0, len(ordered), n_folds):
        block = sorted(ordered[start : start + n_folds], key=lambda group: (-len(cases[group]), _shuffled(seed, group)))
        emptiest = sorted(range(n_folds), key=lambda fold: (len(folds[fold]), _shuffled(seed, start, fold)))
        for fold, group in zip(emptiest, block, strict=False):
            folds[fold] += cases[group]
    return splits_of(folds)


def centre_folds(members: Sequence[Member], n_folds: int = 5, seed: int = 12345) -> list[Split]:
    """Cut training cases into folds so that neither a subject nor a centre is on both sides of any.

    Centres are very unequal (111 cases to 2 in ATLAS), so numbers come first: the largest goes first, always to the
    fold with the fewest cases. A fold of several centres thus has at most as many cases more than another as its
    smallest centre has. Between folds with equally few cases, the one whose mean log volume comes nearest to that of
    all cases is taken; centres of one size are dealt out by volume, as `grouped_folds` does.

    With as many folds as `centre_groups` finds, each fold leaves one of them out.

    Args:
        members: one per case, with its site.
        n_folds: number of folds.
        seed: another seed settles ties differently.

    Returns:
        As `grouped_folds`.

    Raises:
        ConversionError: NO_SITE, naming the cases without a site.
        ValueError: with fewer than two folds, or fewer groups of centres than folds.
    """
    group_of = centre_groups(members)
    groups: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        groups[group_of[member.case]].append(member)
    if not 2 <= n_folds <= len(groups):
        raise ValueError(f"{n_folds} folds of {len(groups)} groups of centres")

    log_volumes = {group: [_log_volume(member) for member in own] for group, own in groups.items()}
    overall = _mean([volume for volumes in log_volumes.values() for volume in volumes])
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    fold_volumes: list[list[float]] = [[] for _ in range(n_folds)]
    ordered = sorted(groups, key=lambda g: (-len(groups[g]), _mean(log_volumes[g]), _shuffled(seed, g)))
    for group in ordered:
        off_centre = [abs(_mean(volumes + log_volumes[group]) - overall) for volumes in fold_volumes]
        keys = [(len(folds[fold]), off_centre[fold], _shuffled(seed, group, fold)) for fold in range(n_folds)]
        fold = keys.index(min(keys))
        folds[fold] += [member.case for member in groups[group]]
        fold_volumes[fold] += log_volumes[group]
    return splits_of(folds)


def centre_groups(members: Sequence[Member]) -> dict[str, str]:
    """What must stay together so that neither a subject nor a centre is split: case → name of its group.

    A group is a centre, or several centres where a subject was scanned in more than one; it is named after the first.

    Raises:
        ConversionError: NO_SITE, naming the cases without a site.
    """
    nowhere = [member.case for member in members if not member.site]
    if nowhere:
        problem = "the site is not known, so the case cannot be kept on one side with its centre"
        remedy = "Fill the column site in the case table, or cut the folds by subject only."
        raise ConversionError([Finding("NO_SITE", problem, remedy, case) for case in nowhere])
    group_of = connected((("site", member.site), ("subject", member.group)) for member in members)
    return {member.case: group_of["site", member.site][1] for member in members}


def check_folds(splits: Sequence[Split], members: Sequence[Member], *, by_site: bool = False) -> list[Finding]:
    """What is wrong with an assignment to folds.

    Args:
        splits: as in `splits_final.json`.
        members: one per training case of the dataset.
        by_site: whether a centre on both sides of a fold is an error too.

    Returns:
        LEAKAGE for each subject (SITE_LEAKAGE for each centre) on both sides of a fold; FOLD_REPEATED and FOLD_MISSING
        for cases validated more than once or never, FOLD_UNKNOWN for names that are no case, FOLD_EMPTY for a fold
        without training or validation cases, or no fold. All are errors.
    """
    member_of = {member.case: member for member in members}
    remedy = "Correct the fold list, or leave it out and let the folds be cut here."
    findings = [] if splits else [Finding("FOLD_EMPTY", "there is no fold", remedy)]
    for number, split in enumerate(splits):
        sides = [
            [member_of[case] for case in dict.fromkeys(split[side]) if case in member_of] for side in ("train", "val")
        ]
        shared = {member.group for member in sides[0]} & {member.group for member in sides[1]}
        for subject in sorted(shared):
            problem = f"fold {number} trains and validates on the same subject, {subject}"
            findings.append(Finding("LEAKAGE", problem, remedy))
        shared = {member.site for member in sides[0]} & {member.site for member in sides[1]} - {""}
        for site in sorted(shared) if by_site else ():
            problem = f"fold {number} trains and validates on the same centre, {site}"
            findings.append(Finding("SITE_LEAKAGE", problem, remedy))
        for side in ("train", "val"):
            for case in sorted(set(split[side]) - member_of.keys()):
                problem = f"{case!r} in {side} of fold {number} is no training case of the dataset"
                findings.append(Finding("FOLD_UNKNOWN", problem, remedy))
            if not split[side]:
                findings.append(Finding("FOLD_EMPTY", f"fold {number} has no case in {side}", remedy))
    validated = Counter(case for split in splits for case in split["val"])
    for case in sorted(member_of):
        if validated[case] > 1:
            problem = f"validated {validated[case]} times; each case must be in the val of one fold"
            findings.append(Finding("FOLD_REPEATED", problem, remedy, case))
        elif not validated[case]:
            problem = "in the val of no fold, so it would be missing from the cross-validation"
            findings.append(Finding("FOLD_MISSING", problem, remedy, case))
    return findings


def splits_of(folds: Sequence[Sequence[str]]) -> list[Split]:
    """`splits_final.json` from the cases of each fold: each is validated in its fold and trained on in the others."""
    return [
        {
            "train": sorted(case for i, other in enumerate(folds) if i != number for case in other),
            "val": sorted(fold),
        }
        for number, fold in enumerate(folds)
    ]


def connected(links: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The first node, in sorted order, of each node's connected component; each link joins two nodes."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for a, b in links:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {node: root(node) for node in parent}


def _log_volume(member: Member) -> float:
    return math.log1p(member.volume * 1000)  # in µl, so that small lesions differ too


def _mean(values: Sequence[float]) -> float:
    """Of one value or more; the same in whatever order they come."""
    return math.fsum(values) / len(values)


def _shuffled(seed: int, *key: object) -> str:
    """A place in an order that depends on the seed and the key only."""
    return hashlib.sha256(repr((seed, *key)).encode("utf-8", "surrogateescape")).hexdigest()
