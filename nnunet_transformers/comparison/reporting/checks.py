"""What a reader has to know before trusting an average: what is missing, undefined, doubled, or differs between models.

Every function returns sentences; nothing is mended silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nnunet_transformers.common.words import counted, joined, listed
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS, CROSS_VALIDATION
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.results import Ensemble, Model
from nnunet_transformers.comparison.reporting.evidence import Evidence
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.notes import one_line_each
from nnunet_transformers.comparison.statistics.options import FEW_SUBJECTS


def refuse_unusable(given: ReportInput) -> None:
    """Raise a ComparisonError for scores that cannot be reported."""
    missing = [column for column in COLUMNS if column not in given.scores]
    if missing:
        raise ComparisonError(
            f"the table of scores has no column {joined(missing)}",
            "Evaluate again: nnunet-transformers compare evaluate. Nothing was written.",
            "BAD_SCORES",
        )
    there = list(dict.fromkeys(given.scores["model"]))
    if given.baseline not in there:
        raise ComparisonError(
            f"the baseline {given.baseline} has no scores; models with scores: {joined(there) or 'none'}",
            "Name one of these as the baseline, or evaluate the baseline first. Nothing was written.",
            "NO_BASELINE",
        )
    metrics = list(dict.fromkeys(given.scores["metric"]))
    if given.metric not in metrics:
        raise ComparisonError(
            f"there are no scores of the metric {given.metric}; there are some of {joined(metrics)}",
            "Choose one of these, or evaluate again with this metric. Nothing was written.",
            "NO_METRIC",
        )


def without_doubled_cases(scores: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Scores without the cases that a model has twice in a set, and a sentence for each of these."""
    key = ["model", "set", "case", "metric"]
    doubled = scores[scores.duplicated(key, keep=False)]
    notes = []
    for (model, where, case), rows in doubled.groupby(["model", "set", "case"], sort=True):
        folds = sorted({int(fold) for fold in rows["fold"].dropna()})
        places = f"folds {joined([str(fold) for fold in folds])}" if len(folds) > 1 else "two rows of the scores"
        notes.append(
            f"{case} is in {places} of {model} ({where}): it was scored twice, so it is left out for all models. "
            "The folds were trained with different splits."
        )
    out = set(doubled[["set", "case"]].itertuples(index=False, name=None))
    keep = [pair not in out for pair in scores[["set", "case"]].itertuples(index=False, name=None)]
    return scores[keep], notes


def missing_folds(given: Evidence) -> list[str]:
    """Folds without a validation, with the commands that add them."""
    notes = []
    for model in given.results.models:
        name = given.name_of(model.identifier)
        if model.missing_folds:
            folds = ", ".join(map(str, model.missing_folds))
            lines = "; ".join(
                commands.as_text(
                    commands.train(
                        given.results.dataset_id,
                        model.configuration,
                        fold,
                        model.trainer,
                        model.plans,
                        resume=given.resume[model.identifier, fold],
                    )
                )
                for fold in model.missing_folds
            )
            notes.append(
                f"{name}: fold {folds} has no validation, its cases are in no number of this model. To add it: {lines}"
            )
    why = "no fold but fold_all, if any, is validated; it is in no number."
    return [*notes, *one_line_each((given.name_of(name), why) for name in given.results.not_validated)]


def models_without_scores(given: ReportInput) -> list[str]:
    """Models and ensembles of the results folder that the scores do not have, and the other way round."""
    entries: list[Model | Ensemble] = [*given.results.models, *given.results.ensembles]
    known = {given.name_of(entry.identifier) for entry in entries}
    notes = [f"{name}: in the results folder, but not among the scores." for name in known - set(given.models)]
    return sorted(notes)


def different_cases(scores: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Per (set, model), the cases that other models of the set were scored on and this one was not, if any."""
    found = {}
    for where, rows in scores.groupby("set", sort=False):
        every = set(rows["case"])
        for model, own in rows.groupby("model", sort=False):
            lacking = sorted(every - set(own["case"]))
            if lacking:
                found[str(where), str(model)] = lacking
    return found


def undefined_values(scores: pd.DataFrame) -> list[str]:
    """Values that are NaN: in no mean, test or figure."""
    reasons: dict[str, list[tuple[str, str]]] = {}
    undefined = scores[scores["value"].isna()]
    for (where, model), rows in undefined.groupby(["set", "model"], sort=True):
        parts = [f"{metric} of {listed(sorted(own['case']))}" for metric, own in rows.groupby("metric", sort=False)]
        why = f"undefined and in no mean, test or figure: {'; '.join(parts)}."
        reasons.setdefault(str(where), []).append((str(model), why))
    return [
        f"{joined([model for model, other in of_set if other == why])} ({where}): {why}"
        for where, of_set in reasons.items()
        for why in dict.fromkeys(why for _, why in of_set)
    ]


def empty_references(scores: pd.DataFrame) -> list[str]:
    """Cases without a lesion, and cases whose lesion has no known volume."""
    cases = scores.drop_duplicates(["set", "case"])
    notes = []
    for where, rows in cases.groupby("set", sort=False):
        empty = sorted(rows.loc[rows["reference_ml"] == 0, "case"])
        if empty:
            notes.append(
                f"{counted(len(empty), 'case')} of {where} without a lesion in the reference ({listed(empty)}): "
                "scored by the rules in the definitions of the metrics, not in the figures by volume."
            )
        unknown = sorted(rows.loc[rows["reference_ml"].isna(), "case"])
        if unknown:
            notes.append(
                f"{counted(len(unknown), 'case')} of {where} with a lesion of unknown volume ({listed(unknown)}): not "
                "in the figures and tables by volume."
            )
    return notes


def disagreeing_rows(scores: pd.DataFrame) -> list[str]:
    """Cases whose fold, subject or site is not the same for all models."""
    notes = []
    for column in ("fold", "subject", "site"):
        values = scores.dropna(subset=[column]).groupby(["set", "case"])[column].nunique()
        spread = values > 1
        cases = sorted({str(case) for _, case in spread.index[spread]})
        if cases:
            notes.append(
                f"The {column} of {listed(cases)} differs between models: they were not all evaluated on the same "
                "data or with the same splits."
            )
    return notes


def recorded_dice(given: ReportInput) -> list[str]:
    """Models whose segmentations do not give the Dice that nnU-Net recorded when it made them."""
    dice = given.scores[(given.scores["metric"] == "dice") & (given.scores["set"] == CROSS_VALIDATION)]
    notes = []
    entries: list[Model | Ensemble] = [*given.results.models, *given.results.ensembles]
    for entry in entries:
        name = given.name_of(entry.identifier)
        if entry.scores["case"].duplicated().any():  # of several labels there is no one Dice
            continue
        both = entry.scores.merge(dice[dice["model"] == name], on="case")
        empty = (both["reference_voxels"] == 0) & (both["predicted_voxels"] == 0)
        agree = ((both["dice"] - both["value"]).abs() < 1e-4) | (empty & both["dice"].isna())
        if cases := sorted(both.loc[~agree, "case"]):
            notes.append(
                f"{name}: the segmentations of {listed(cases)} do not give the Dice that is in nnU-Net's summary.json. "
                "They or the references have changed since the validation: validate again (nnUNetv2_train … --val "
                "--npz)."
            )
    return notes


def differing_plans(given: Evidence) -> list[str]:
    """Models whose plans and configuration have one name and different content."""
    first: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
    notes = []
    for model in given.results.models:
        name, own = given.name_of(model.identifier), given.configurations[model.identifier]
        if not own:  # no plans in its folder
            continue
        other, plan = first.setdefault((model.plans, model.configuration), (name, own))
        if differing := sorted(key for key in {*own, *plan} if own.get(key) != plan.get(key)):
            notes.append(
                f"{name} and {other} have plans of one name, {model.plans}, but not the same: {joined(differing)} of "
                f"{model.configuration} differ. They were not trained on equally prepared data."
            )
    return notes


def splits(given: Evidence) -> list[str]:
    """Where the folds do not follow splits_final.json, and where that file itself is not a cross-validation."""
    if given.splits is None:
        return ["splits_final.json was not found: whether the folds follow it was not checked."]
    return [*_inside_splits(given.splits, given.scores), *_against_splits(given.splits, given)]


def _inside_splits(folds: list[dict[str, list[str]]], scores: pd.DataFrame) -> list[str]:
    notes = []
    places: dict[str, list[int]] = {}
    subjects: dict[str, str] = {
        str(case): str(subject)
        for case, subject in scores[["case", "subject"]].drop_duplicates().itertuples(index=False)
        if isinstance(subject, str) and subject
    }
    for place, fold in enumerate(folds):
        for case in fold["val"]:
            places.setdefault(case, []).append(place)
        trained_on = sorted(set(fold["train"]) & set(fold["val"]))
        if trained_on:
            notes.append(
                f"splits_final.json, fold {place}: {listed(trained_on)} in training and in validation. "
                "The scores of these cases are too high."
            )
        own = {subjects[case] for case in fold["train"] if case in subjects}
        others = sorted({subjects[case] for case in fold["val"] if case in subjects} & own)
        if others and not trained_on:
            notes.append(
                f"splits_final.json, fold {place}: other sessions of {listed(others)} were trained on. "
                "Scores of cases of these subjects may be too high."
            )
    doubled = {case: at for case, at in places.items() if len(at) > 1}
    if doubled:
        what = listed([f"{case} (folds {', '.join(map(str, at))})" for case, at in sorted(doubled.items())])
        notes.append(f"splits_final.json: in the validation of more than one fold: {what}.")
    return notes


def _against_splits(folds: list[dict[str, list[str]]], given: ReportInput) -> list[str]:
    expected: Mapping[str, Any] = {case: place for place, fold in enumerate(folds) for case in fold["val"]}
    notes = []
    doubled = {case for model in given.results.models for case in model.doubled}
    for model in given.results.models:
        rows = model.scores.dropna(subset=["fold"]).drop_duplicates("case")
        foreign, elsewhere = [], []
        for case, fold in zip(rows["case"], rows["fold"], strict=True):
            if case not in expected:
                foreign.append(case)
            elif case not in folds[int(fold)]["val"] if int(fold) < len(folds) else True:
                elsewhere.append(f"{case} (validated in fold {int(fold)}, split: fold {expected[case]})")
        present = set(rows["case"])
        lacking = sorted(
            case
            for case, place in expected.items()
            if case not in present | doubled and place in given.results.folds and place not in model.missing_folds
        )
        parts = [f"{listed(elsewhere)} in another fold"] if elsewhere else []
        parts += [f"{listed(foreign)} in no fold of it"] if foreign else []
        if len(rows):
            parts += [f"{listed(lacking)} expected but not validated"] if lacking else []
        if parts:
            name = given.name_of(model.identifier)
            notes.append(
                f"{name} was not trained with the present splits_final.json: {'; '.join(parts)}. Its folds "
                "are not those of models that were."
            )
    return notes


def short_trainings(lengths: Mapping[str, tuple[int, int | None]]) -> list[str]:
    """A remark about trainings of less than a tenth of nnU-Net's 1000 epochs of 250 iterations.

    Args:
        lengths: epochs of each short training, and iterations if they are known.
    """
    if not lengths:
        return []
    texts = sorted(
        {
            counted(epochs, "epoch") + (f" of {counted(iterations, 'iteration')}" if iterations else "")
            for epochs, iterations in lengths.values()
        }
    )
    return [
        f"{counted(len(lengths), 'model was', 'models were')} trained only briefly ({joined(texts)}; nnU-Net takes "
        "1000 epochs of 250): such scores show that the pipeline works, not which architecture is better."
    ]


def unequal_lengths(epochs: Mapping[str, int]) -> list[str]:
    """A remark if models were trained for different numbers of epochs."""
    if len(set(epochs.values())) < 2:
        return []
    texts = [f"{name} {count}" for name, count in epochs.items()]
    return [f"Trainings differ in length: epochs of {', '.join(texts)}."]


def count_subjects(scores: pd.DataFrame) -> int:
    """Subjects of these scores; a case without one is its own."""
    return scores["subject"].where(scores["subject"].astype(str) != "", scores["case"]).nunique()


def few_subjects(scores: pd.DataFrame) -> list[str]:
    """A remark where intervals rest on fewer subjects than a bootstrap needs."""
    counts = {str(name): count_subjects(rows) for name, rows in scores.groupby("set", sort=False)}
    return [
        f"{name[0].upper()}{name[1:]} has {counted(count, 'subject')}: intervals over fewer than {FEW_SUBJECTS} are "
        "too narrow and not to be relied on."
        for name, count in counts.items()
        if count < FEW_SUBJECTS
    ]
