"""Scores of whatever can be scored, and sentences about the rest: one damaged file of thousands leaves the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_transformers.common.words import counted, joined, listed
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.evaluation import Pair, update
from nnunet_transformers.comparison.metrics.images import DataFolders, UnreadableImageError, same_voxels
from nnunet_transformers.comparison.metrics.labels import Labels
from nnunet_transformers.comparison.metrics.masks import UnusableMasksError
from nnunet_transformers.comparison.metrics.pairs import Absent, People, recorded_scores
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION, write_scores
from nnunet_transformers.comparison.nnunet.results import Ensemble, Model

_WHERE_TO_FIND_THEM = (
    "Set nnUNet_raw, nnUNet_preprocessed and nnUNet_results to the folders that have them, or validate that fold again "
    "(nnUNetv2_train … --val --npz)."
)


def scores_of(
    pairs: Sequence[Pair],
    absent: Sequence[Absent],
    table: Path,
    jobs: int,
    labels: Labels,
    recorded: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Bring the table of scores up to date.

    Args:
        absent: files that are not there, to be said.
        jobs: cases at a time.
        recorded: scores to begin the table with, of what cannot be measured.

    Returns:
        The scores, and sentences about what is not scored.

    Raises:
        ComparisonError: nothing can be scored, or it is not said which of several labels are lesion.
    """
    unusable: list[tuple[Pair, UnusableMasksError]] = []

    def note(pair: Pair, error: UnusableMasksError) -> None:
        if error.code == "SEVERAL_LABELS":
            raise ComparisonError(error.problem, f"{error.remedy} The table was not changed: {table}", error.code)
        unusable.append((pair, error))

    scores = update(table, pairs, jobs, labels=labels, on_unusable=note)
    if recorded is not None:
        scores = pd.concat([recorded, scores], ignore_index=True) if len(scores) else recorded
        write_scores(scores, table)
    if scores.empty and unusable:
        first = unusable[0][1]
        raise ComparisonError(
            f"none of {counted(len(pairs), 'case')} can be scored, the first because {first.problem}",
            f"{first.remedy} Nothing was reported.",
            first.code,
        )
    return scores, (*_absent(absent), *_unusable(unusable))


def _absent(absent: Sequence[Absent]) -> list[str]:
    notes = []
    for set_ in dict.fromkeys(each.set for each in absent):
        here = [each for each in absent if each.set == set_]
        if files := list(dict.fromkeys(str(each.path) for each in here if each.model)):
            cases = sorted({each.case for each in here if each.model})
            models = list(dict.fromkeys(each.model for each in here if each.model))
            notes.append(f"Not scored ({set_}): {listed(cases)} of {joined(models)}. {not_there(files)}.")
        if unpredicted := sorted(each.case for each in here if not each.model):
            notes.append(
                f"Not scored ({set_}): no model has predicted {counted(len(unpredicted), 'case')} of which there is a "
                f"reference: {listed(unpredicted)}."
            )
    return notes


def _unusable(unusable: Sequence[tuple[Pair, UnusableMasksError]]) -> list[str]:
    notes = []
    for code in dict.fromkeys(error.code for _, error in unusable):
        here = [(pair, error) for pair, error in unusable if error.code == code]
        problems = list(dict.fromkeys(" ".join(error.problem.split()) for _, error in here))
        more = f"; and {counted(len(problems) - 1, 'other')}" if len(problems) > 1 else ""
        cases = sorted({f"{pair.case} of {pair.model} ({pair.set})" for pair, _ in here})
        notes.append(f"Not scored: {listed(cases)}: {problems[0]}{more}. {here[0][1].remedy}")
    return notes


def not_there(files: Sequence[str]) -> str:
    """That segmentations are missing, as a sentence without its full stop."""
    one = len(files) == 1
    what = f"{counted(len(files), 'segmentation')} {'is' if one else 'are'} not where nnU-Net recorded"
    return f"{what} {'it' if one else 'them'}, such as {files[0]}"


def recorded_dice(
    entries: Sequence[Model | Ensemble], names: Mapping[str, str], people: People, absent: Iterable[Absent]
) -> pd.DataFrame:
    """nnU-Net's own Dice, for results of which the baseline has no segmentation left.

    A mixture would compare models by different definitions, so it is that of all models.

    Raises:
        ComparisonError: nnU-Net recorded several labels and so no Dice of the lesion.
    """
    if any(entry.scores["case"].duplicated().any() for entry in entries):
        raise ComparisonError(
            f"{not_there(_files(absent))}; and of a dataset with several labels nnU-Net recorded no Dice of the lesion",
            f"{_WHERE_TO_FIND_THEM} Nothing was written.",
            "NO_SEGMENTATIONS",
        )
    return recorded_scores(entries, names, people)


def only_recorded(absent: Iterable[Absent], models: Sequence[str]) -> str:
    """The remark on a report of nnU-Net's own Dice; `models` have no segmentation."""
    return (
        f"{not_there(_files(absent))}, and {joined(list(models))} {'has' if len(models) == 1 else 'have'} none: only "
        "nnU-Net's own Dice of the cross-validation is shown (1 where both masks are empty), without lesion volumes. "
        f"For all metrics: {_WHERE_TO_FIND_THEM}"
    )


def left_out(absent: Iterable[Absent], models: Sequence[str]) -> str:
    """The remark on a report without the models that have no segmentation, though others have."""
    return (
        f"{not_there(_files(absent))}, and {joined(list(models))} {'has' if len(models) == 1 else 'have'} none: "
        f"{'it is' if len(models) == 1 else 'they are'} not among the scores of the cross-validation. "
        f"{_WHERE_TO_FIND_THEM}"
    )


def corrected_labels(pairs: Sequence[Pair], data: DataFolders) -> list[str]:
    """A remark where labels in labelsTr are no longer those that the models were validated with."""
    references = {pair.reference: pair.case for pair in pairs if pair.set == CROSS_VALIDATION}
    corrected = sorted(
        case for path, case in references.items() if (label := data.label(path.name)) and _differ(label, path)
    )
    if not corrected:
        return []
    return [
        f"The labels of {counted(len(corrected), 'case')} in labelsTr have changed since the dataset was preprocessed: "
        f"{listed(corrected)}. Scores are against the earlier ones, in gt_segmentations, that the models were trained "
        "and validated with: preprocess, train and validate again to have the new ones."
    ]


def _differ(label: Path, reference: Path) -> bool:
    try:
        return not same_voxels(label, reference)
    except UnreadableImageError:
        return False  # said where it is scored


def _files(absent: Iterable[Absent]) -> list[str]:
    return list(dict.fromkeys(str(each.path) for each in absent))
