"""Read what nnU-Net left in a dataset's results folder: scores of models and ensembles, and the selected one.

    nnUNet_results/Dataset201_ATLAS/
      nnUNetTrainer__nnUNetPlans__3d_fullres/     a model
        fold_0/validation/summary.json            scores of one fold's validation cases
        crossval_results_folds_0_1_2_3_4/         the same of all folds, by nnUNetv2_find_best_configuration
      ensembles/ensemble___A___B___0_1_2_3_4/     scores of a pair of models
      inference_information.json                  which of these nnU-Net selected

Nothing is averaged here. Dice is nnU-Net's: not a number (NaN) where reference and prediction are both empty.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.model_id import ModelId

RECORDED_COLUMNS = ("case", "fold", "label", "dice", "reference_voxels", "predicted_voxels", "reference", "prediction")
"""What nnU-Net recorded of a validated case: its own Dice, sizes of both masks, and where they were."""

_FOLDS = tuple(range(5))  # nnU-Net's cross-validation, where no splits_final.json says otherwise


@dataclass(frozen=True)
class Model:
    """One trainer with its plans and configuration.

    Attributes:
        folder: named trainer__plans__configuration.
        scores: one row per case and label, see RECORDED_COLUMNS; `fold` is missing where only merged scores are there.
        missing_folds: folds without a validation.
        notes: what a reader has to know about these scores, as sentences.
        doubled: cases that were validated in two folds.
        newer_folds: those validated after the scores were last merged, which ensembles and a selection were made from.
    """

    folder: Path
    scores: pd.DataFrame
    missing_folds: tuple[int, ...]
    notes: tuple[str, ...]
    doubled: tuple[str, ...] = ()
    newer_folds: tuple[int, ...] = ()

    @property
    def identifier(self) -> str:
        return self.folder.name

    @property
    def id(self) -> ModelId:
        """Of a folder that is a model's, as `read_results` takes no other."""
        return ModelId(*self.folder.name.split("__"))

    @property
    def trainer(self) -> str:
        return self.id.trainer

    @property
    def is_stock(self) -> bool:
        """Whether the trainer is nnU-Net's U-Net, or a variant of it by name."""
        return bool(re.fullmatch(r"nnUNetTrainer(_\w+)?", self.trainer))

    @property
    def plans(self) -> str:
        return self.id.plans

    @property
    def configuration(self) -> str:
        return self.id.configuration


@dataclass(frozen=True)
class Ensemble:
    """The averaged probabilities of two models, scored by nnUNetv2_find_best_configuration."""

    folder: Path
    members: tuple[str, ...]
    folds: tuple[int, ...]
    scores: pd.DataFrame

    @property
    def identifier(self) -> str:
        return self.folder.name


@dataclass(frozen=True)
class Selection:
    """What nnUNetv2_find_best_configuration selected.

    Attributes:
        models: identifiers of one model, or of the two of an ensemble.
        dice, postprocessed_dice: its mean foreground Dice before and after postprocessing.
        postprocessing: the file nnUNetv2_apply_postprocessing needs.
        postprocessing_steps: names of the steps that helped; none if the prediction stays as it is.
        considered: identifiers of the models it selected among; empty if the file does not say.
    """

    models: tuple[str, ...]
    folds: tuple[int, ...]
    dice: float
    postprocessed_dice: float
    postprocessing: Path
    postprocessing_steps: tuple[str, ...]
    considered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """The results folder of one dataset.

    Attributes:
        models: the stock U-Net first.
        notes: what a reader has to know about the ensembles and the selection, as sentences.
        not_validated: identifiers of models that no numbered fold of is validated.
        folds: those that were to be trained.
    """

    folder: Path
    models: tuple[Model, ...]
    ensembles: tuple[Ensemble, ...]
    selection: Selection | None
    notes: tuple[str, ...] = ()
    not_validated: tuple[str, ...] = ()
    folds: tuple[int, ...] = _FOLDS

    @property
    def dataset(self) -> str:
        return self.folder.name

    @property
    def dataset_id(self) -> int:
        return int(self.dataset[len("Dataset") : len("Dataset") + 3])

    @property
    def first(self) -> Model:
        return self.models[0]


def read_results(folder: Path, splits: Path | None = None, folds: Iterable[int] | None = None) -> Results:
    """Read a dataset's results folder.

    Args:
        folder: nnUNet_results/DatasetNNN_Name.
        splits: the dataset's splits_final.json, for the number of folds; five without it.
        folds: those that were to be trained; default: all.

    Raises:
        ComparisonError: there is no scored model, or a file cannot be read.
    """
    folder = Path(folder)
    if not re.fullmatch(r"Dataset\d{3}_.+", folder.name) or not folder.is_dir():
        raise ComparisonError(
            f"not a results folder of a dataset: {folder}",
            "Give the folder DatasetNNN_Name inside nnUNet_results. Nothing was written.",
            "NO_RESULTS_FOLDER",
        )
    every = range(len(read_splits(splits))) if splits and splits.is_file() else _FOLDS
    expected = tuple(every if folds is None else folds)
    candidates = sorted(path for path in folder.iterdir() if path.is_dir() and ModelId.parse(path.name))
    models = [model for path in candidates if (model := _read_model(path, expected))]
    if not models:
        there_are = f"; without a validation: {', '.join(p.name for p in candidates)}" if candidates else ""
        raise ComparisonError(
            f"no validated model in {folder}{there_are}",
            f"Train and validate first: nnUNetv2_train {folder.name[7:10]} 3d_fullres FOLD -tr TRAINER --npz, "
            f"for FOLD in {' '.join(map(str, expected))}. Nothing was written.",
            "NO_RESULTS",
        )
    models.sort(key=_place)
    ensembles = [e for path in sorted(folder.glob("ensembles/ensemble___*")) if (e := _read_ensemble(path))]
    models, ensembles = _without_doubled(models, ensembles)
    selection = _read_selection(folder)
    ensembles, notes = _without_outdated(models, ensembles, selection)
    without = sorted({path.name for path in candidates} - {model.identifier for model in models})
    return Results(folder, tuple(models), tuple(ensembles), selection, tuple(notes), tuple(without), expected)


def _place(model: Model) -> tuple[bool, bool, str]:
    """The stock U-Net first, and of those at several configurations the one at full resolution."""
    return not model.is_stock, model.configuration != "3d_fullres", model.identifier


def read_scores(summary: Path, label_names: dict[str, str], fold: int | None = None) -> pd.DataFrame:
    """The cases of one of nnU-Net's summary.json files, RECORDED_COLUMNS.

    Paths in it are absolute and of the machine that wrote it; a prediction that is not there is looked for beside the
    file.
    """
    rows: list[dict[str, Any]] = []
    content = read_json(summary)
    try:
        for case in content["metric_per_case"]:
            recorded = Path(case["prediction_file"])
            beside = summary.parent / recorded.name
            for key, metrics in case["metrics"].items():
                if key != "0":
                    rows.append(
                        {
                            "case": case_name(recorded.name),
                            "fold": fold,
                            "label": label_names.get(key, f"label {key}"),
                            "dice": math.nan if metrics["Dice"] is None else float(metrics["Dice"]),
                            "reference_voxels": int(metrics["n_ref"]),
                            "predicted_voxels": int(metrics["n_pred"]),
                            "reference": Path(case["reference_file"]),
                            "prediction": beside if beside.is_file() else recorded,
                        }
                    )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ComparisonError(
            f"not a summary.json as nnU-Net 2 writes it ({type(error).__name__}: {error}): {summary}",
            "Validate again: nnUNetv2_train … --val --npz. Nothing was written.",
            "BAD_SUMMARY",
        ) from error
    return pd.DataFrame(rows, columns=list(RECORDED_COLUMNS))


def read_label_names(dataset_json: Path) -> dict[str, str]:
    """Name of each label or region by its key in summary.json, "1" or "(1, 2)"; empty where the file has none."""
    if not dataset_json.is_file():
        return {}
    labels = read_json(dataset_json).get("labels", {})
    return {str(tuple(value) if isinstance(value, list) else value): name for name, value in labels.items()}


def case_name(file_name: str) -> str:
    """A case's identifier from the name of its segmentation, which may have a double ending such as .nii.gz."""
    return re.sub(r"(\.nii)?\.[A-Za-z0-9]+$", "", file_name)


def read_json(path: Path) -> Any:
    """A JSON file, or a ComparisonError that names it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ComparisonError(
            f"cannot be read: {path} ({error})",
            "It is missing or was cut off by an interruption: repeat the nnU-Net command that writes it. "
            "Nothing was written.",
            "UNREADABLE_RESULT",
        ) from error


def read_splits(path: Path) -> list[dict[str, list[str]]]:
    """The folds of a splits_final.json.

    Raises:
        ComparisonError: it cannot be read, or is not as nnU-Net writes it.
    """
    folds = read_json(path)
    if not isinstance(folds, list) or not all(
        isinstance(fold, dict) and all(isinstance(fold.get(part), list) for part in ("train", "val")) for fold in folds
    ):
        raise ComparisonError(
            f"not a list of folds with train and val, as nnU-Net writes it: {path}",
            "Restore the file the folds were trained with. Nothing was written.",
            "BAD_SPLITS",
        )
    return folds


def _read_model(folder: Path, expected: Iterable[int]) -> Model | None:
    labels = read_label_names(folder / "dataset.json")
    notes = []
    per_fold = {
        int(number): read_scores(path, labels, int(number))
        for path in sorted(folder.glob("fold_*/validation/summary.json"))
        if (number := path.parts[-3].removeprefix("fold_")).isdigit()
    }
    doubled = _cases_in_two_folds(per_fold)
    notes += [
        f"{case} was validated in folds {' and '.join(map(str, folds))}: it is left out for all models. The folds were "
        "trained with different splits: delete those that do not belong to the present splits_final.json, train again."
        for case, folds in doubled.items()
    ]
    if (folder / "fold_all" / "validation" / "summary.json").is_file():
        notes.append("fold_all is not shown: its validation cases were trained on.")

    merged_folder = _merged_folder(folder)
    newer: list[int] = []
    if merged_folder:
        scores = read_scores(merged_folder / "summary.json", labels)
        folds = _folds_in_name(merged_folder.name)
        newer = [fold for fold, other in per_fold.items() if fold not in folds or _differ(scores, other)]
        if newer:
            notes.append(
                f"The merged scores in {merged_folder.name} do not agree with those of fold "
                f"{', '.join(map(str, newer))}, which are newer or from another split; the folds' own are shown. "
                "Run nnUNetv2_find_best_configuration again."
            )
            merged_folder = None
        else:
            fold_of = {case: fold for fold, one in per_fold.items() for case in one["case"]}
            scores["fold"] = scores["case"].map(fold_of)
    if not merged_folder:
        if not per_fold:
            return None
        scores, folds = pd.concat(per_fold.values(), ignore_index=True), tuple(per_fold)
    missing = tuple(fold for fold in expected if fold not in folds)
    return Model(folder, scores, missing, tuple(notes), tuple(doubled), tuple(newer))


def _merged_folder(folder: Path) -> Path | None:
    """The merged cross-validation with most folds."""
    paths = [path.parent for path in folder.glob("crossval_results_folds_*/summary.json")]
    return max(paths, key=lambda path: len(_folds_in_name(path.name)), default=None)


def _folds_in_name(name: str) -> tuple[int, ...]:
    digits = re.search(r"_((?:\d+_)*\d+)$", name)
    return tuple(int(fold) for fold in digits[1].split("_")) if digits else ()


def _differ(merged: pd.DataFrame, fold: pd.DataFrame) -> bool:
    both = fold.merge(merged, on=["case", "label"], how="left", suffixes=("", "_merged"))
    same = (both["dice"] - both["dice_merged"]).abs() < 1e-6
    undefined = both["dice"].isna() & both["dice_merged"].isna() & both["reference_voxels_merged"].notna()
    return not bool((same | undefined).all())


def _cases_in_two_folds(per_fold: dict[int, pd.DataFrame]) -> dict[str, list[int]]:
    folds_of: dict[str, list[int]] = defaultdict(list)
    for fold, scores in per_fold.items():
        for case in scores["case"].unique():
            folds_of[case].append(fold)
    return {case: folds for case, folds in folds_of.items() if len(folds) > 1}


def _without_doubled(models: Sequence[Model], ensembles: Sequence[Ensemble]) -> tuple[list[Model], list[Ensemble]]:
    """A case that one model has twice can be compared with none."""
    doubled = {case for model in models for case in model.doubled}

    def left(scores: pd.DataFrame) -> pd.DataFrame:
        return scores[~scores["case"].isin(doubled)].reset_index(drop=True)

    return (
        [replace(model, scores=left(model.scores)) for model in models],
        [replace(ensemble, scores=left(ensemble.scores)) for ensemble in ensembles],
    )


def _without_outdated(
    models: Sequence[Model], ensembles: Sequence[Ensemble], selection: Selection | None
) -> tuple[list[Ensemble], list[str]]:
    """Without ensembles of predictions that folds have no more; and notes on them and the selection."""
    again = "Run nnUNetv2_find_best_configuration again."
    newer = {
        model.identifier: [model.folder / f"fold_{fold}" / "validation" / "summary.json" for fold in model.newer_folds]
        for model in models
        if model.newer_folds
    }
    current, notes = [], []
    for ensemble in ensembles:
        made = (ensemble.folder / "summary.json").stat().st_mtime
        outdated = [
            member
            for member in ensemble.members
            if any(summary.stat().st_mtime > made for summary in newer.get(member, []))
        ]
        if outdated:
            notes.append(
                f"The ensemble of {' and '.join(ensemble.members)} is not shown: it was made before the present "
                f"validation of {' and '.join(outdated)}. {again}"
            )
        else:
            current.append(ensemble)
    if selection and (outdated := [name for name in selection.considered or selection.models if name in newer]):
        notes.append(
            f"nnU-Net's own selection is older than the present validation of {' and '.join(outdated)}. {again}"
        )
    return current, notes


def _read_ensemble(folder: Path) -> Ensemble | None:
    if not (folder / "summary.json").is_file():
        return None
    _, *members, _ = folder.name.split("___")
    scores = read_scores(folder / "summary.json", read_label_names(folder / "dataset.json"))
    return Ensemble(folder, tuple(members), _folds_in_name("_" + folder.name.split("___")[-1]), scores)


def _read_selection(folder: Path) -> Selection | None:
    path = folder / "inference_information.json"
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        best = content["best_model_or_ensemble"]
        models = [
            str(ModelId(m["trainer"], m["plans_identifier"], m["configuration"]))
            for m in best["selected_model_or_models"]
        ]
        considered = tuple(
            str(ModelId(m["trainer"], m["plans"], m["configuration"])) for m in content.get("considered_models", [])
        )
        folds = tuple(int(fold) for fold in content["folds"])
        recorded = Path(best["postprocessing_file"])
        dice, postprocessed = best["result_on_crossval_pre_pp"], best["result_on_crossval_post_pp"]
    except (KeyError, TypeError, ValueError) as error:
        raise ComparisonError(
            f"not an inference_information.json as nnU-Net 2 writes it ({type(error).__name__}: {error}): {path}",
            "Run nnUNetv2_find_best_configuration again. Nothing was written.",
            "BAD_SELECTION",
        ) from error
    # The path is of the machine that wrote it; inside the dataset's folder it stays the same when that is moved.
    depth = len(recorded.parts) - recorded.parts.index(folder.name) - 1 if folder.name in recorded.parts else 0
    moved = folder.joinpath(*recorded.parts[-depth:]) if depth else recorded
    postprocessing = recorded if recorded.is_file() else moved
    described = postprocessing.with_suffix(".json")
    steps = read_json(described).get("postprocessing_fns", []) if described.is_file() else []
    return Selection(tuple(models), folds, float(dice), float(postprocessed), postprocessing, tuple(steps), considered)
