"""Scores and reports of experiments and of any nnU-Net results folder: what `compare evaluate` and `report` do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Dataset, Experiment, Folders, Model
from nnunet_transformers.comparison.metrics.definitions import SCORINGS
from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.metrics.labels import read_labels
from nnunet_transformers.comparison.metrics.lesions_table import read_lesions
from nnunet_transformers.comparison.metrics.pairs import People, test_set_pairs, validation_pairs
from nnunet_transformers.comparison.metrics.scoring import (
    corrected_labels,
    left_out,
    only_recorded,
    recorded_dice,
    scores_of,
)
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.baseline import choose_baseline
from nnunet_transformers.comparison.nnunet.model_id import ensemble_name
from nnunet_transformers.comparison.nnunet.names import ensemble_label, repetitions, short_names
from nnunet_transformers.comparison.nnunet.names import left_out as left_out_of_names
from nnunet_transformers.comparison.nnunet.results import Ensemble, Results, read_results
from nnunet_transformers.comparison.nnunet.results import Model as TrainedModel
from nnunet_transformers.comparison.nnunet.state import dataset_folder, is_newer
from nnunet_transformers.comparison.nnunet.timing import read_training
from nnunet_transformers.comparison.reporting.inputs import PredictedSet, ReportInput
from nnunet_transformers.comparison.reporting.notes import one_line_each
from nnunet_transformers.comparison.reporting.page import write_report
from nnunet_transformers.comparison.running.place import listed_ensembles, predictions_folder
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.steps import steps
from nnunet_transformers.comparison.statistics.options import Options

SCORES = "metrics.csv"


@dataclass(frozen=True)
class _Scored:
    """One dataset's results under the names of the report, and its scores.

    Attributes:
        remarks: what a reader has to know first, as sentences.
        notes: what is not scored and why.
    """

    results: Results
    names: Mapping[str, str]
    data: DataFolders
    test_sets: tuple[PredictedSet, ...]
    scores: pd.DataFrame
    lesions: pd.DataFrame
    remarks: tuple[str, ...]
    notes: tuple[str, ...]

    def to_report(self, baseline: str, commands_run: Sequence[str]) -> ReportInput:
        """What a report is made of; `baseline` as it is called in the scores."""
        return ReportInput(
            scores=self.scores,
            results=self.results,
            names=self.names,
            baseline=baseline,
            data=self.data,
            test_sets=self.test_sets,
            commands=tuple(commands_run),
            remarks=self.remarks,
            notes=self.notes,
            lesions=self.lesions,
        )


def evaluate(experiment: Experiment, jobs: int = 1) -> list[Path]:
    """Score what an experiment has predicted so far; only what is new is computed.

    Args:
        jobs: cases at a time.

    Returns:
        The table of scores of each dataset, in the experiment's output folder.

    Raises:
        ComparisonError: nothing is validated yet, or no segmentation can be compared with its reference.
    """
    folders = experiment.nnunet_folders()
    for dataset in experiment.datasets:
        _scored_dataset(experiment, dataset, folders, jobs)
    return [_output(experiment, dataset) / SCORES for dataset in experiment.datasets]


def report(experiment: Experiment, jobs: int = 1) -> list[Path]:
    """Write the report of each dataset of an experiment, after bringing its scores up to date.

    Raises:
        ComparisonError: as `evaluate`, or the baseline has no scores yet.
    """
    folders = experiment.nnunet_folders()
    run = [commands.as_text(step.command) for step in steps(experiment, folders)]
    written = []
    for dataset in experiment.datasets:
        scored = _scored_dataset(experiment, dataset, folders, jobs)
        title = f"{experiment.name}: {scored.results.dataset}"
        margins = experiment.equivalence_margin
        options = Options(margins=margins) if margins else Options()
        given = replace(
            scored.to_report(experiment.baseline, run), title=title, options=options, scoring=experiment.scoring
        )
        written.append(write_report(given, _output(experiment, dataset)))
    return written


def report_step(experiment: Experiment, others: Sequence[Step]) -> Step:
    """The report as the last step of an experiment, for a cluster to run when all others are done."""
    others, page = tuple(others), experiment.output / "report.html"
    command = ("compare", "report", str(experiment.path))
    return Step(
        name="report",
        command=("nnunet-transformers", *command),
        after=tuple(step.name for step in others),
        log=experiment.output / "logs" / "report.log",
        is_done=lambda: (
            all(step.is_done() for step in others)
            and is_newer(page, [step.log for step in others if step.log.is_file()])
        ),
        process=(sys.executable, "-m", "nnunet_transformers.cli", *command),
    )


def report_of_results(
    dataset_id: int,
    output: Path,
    *,
    folders: Folders | None = None,
    trainers: Sequence[str] = (),
    baseline: str = "",
    test_sets: Sequence[PredictedSet] = (),
    lesion_labels: Sequence[int] = (),
    scoring: str = "all",
    remarks: Sequence[str] = (),
    commands_run: Sequence[str] = (),
    jobs: int = 1,
) -> Path:
    """Write the report of results that were made without an experiment file.

    Args:
        dataset_id: of the results.
        output: a folder for report.html and its tables.
        folders: nnU-Net's; default: those its environment variables name.
        trainers: those to show, with plans and configuration where one was trained with several
            (``trainer__plans__configuration``); default: all.
        baseline: the trainer the others are compared with; default: see `baseline.choose_baseline`.
        test_sets: predictions of cases no model was trained on, by the identifier of the model.
        lesion_labels: the labels that together are the lesion, where the dataset has several.
        scoring: the metrics that rank models together, of `definitions.SCORINGS`.
        remarks: sentences a reader has to know first.
        commands_run: how the results were made; default: nnU-Net's commands that would make them.
        jobs: cases scored at a time.

    Raises:
        ComparisonError: no such results.
    """
    folders = folders or _folders_of_environment()
    results = read_results(_dataset_folder(folders.results, dataset_id), _splits(folders, dataset_id))
    results = _shown(results, [*trainers, baseline] if trainers and baseline else trainers)
    trainings = {model.identifier: read_training(model) for model in results.models}
    first, why = (_named(results, baseline), "") if baseline else choose_baseline(results, trainings)
    names = short_names(results)
    sets = [
        replace(test, predictions={names.get(key, key): folder for key, folder in test.predictions.items()})
        for test in test_sets
    ]
    shown_as = names[first.identifier]
    scored = _score(results, names, shown_as, sets, _data(folders, dataset_id), lesion_labels, output, jobs)
    of_names = [*filter(None, [left_out_of_names(results)]), *repetitions(names)]
    scored = replace(scored, remarks=(*remarks, *of_names, *scored.remarks))
    given = scored.to_report(shown_as, commands_run)
    return write_report(replace(given, trainings=trainings, why_baseline=why, scoring=scoring), output)


def _score(
    results: Results,
    names: Mapping[str, str],
    baseline: str,
    test_sets: Sequence[PredictedSet],
    data: DataFolders,
    lesion_labels: Sequence[int],
    output: Path,
    jobs: int,
) -> _Scored:
    """Score what the cross-validation and the test sets have; the table is written to `output`.

    A model without any segmentation is left out of the cross-validation. Without the baseline nothing could be
    compared: then all go by the Dice that nnU-Net recorded.
    """
    people = People.of(data.raw)
    entries: list[TrainedModel | Ensemble] = [*results.models, *results.ensembles]
    pairs, absent = validation_pairs(entries, names, data, people)
    labels = read_labels(_description(results, data), lesion_labels)
    remarks = [*corrected_labels(pairs, data)]
    if labels.ignore is not None:
        remarks.append("Voxels with the ignore label in the reference count nowhere.")
    recorded = None
    scored = {pair.model for pair in pairs}
    without = [name for model in results.models if (name := names[model.identifier]) not in scored]
    if baseline in without:
        recorded = recorded_dice(entries, names, people, absent)
        remarks = [only_recorded(absent, without)]
        pairs, absent = [], []
    elif without:
        remarks.append(left_out([each for each in absent if each.model in without], without))
        absent = [each for each in absent if each.model not in without]
    for test in test_sets:
        if test.references:
            of_set, not_there = test_set_pairs(test.name, test.predictions, test.references, people)
            pairs, absent = [*pairs, *of_set], [*absent, *not_there]
    scores, notes = scores_of(pairs, absent, output / SCORES, jobs, labels, recorded)
    lesions = read_lesions(output / SCORES)
    return _Scored(results, names, data, tuple(test_sets), scores, lesions, tuple(remarks), notes)


def _description(results: Results, data: DataFolders) -> Path:
    """The dataset.json that a model was trained with, or else the dataset's own."""
    folders = [*(model.folder for model in results.models), data.preprocessed, data.raw]
    found = [path for folder in folders if folder and (path := folder / "dataset.json").is_file()]
    return found[0] if found else results.first.folder / "dataset.json"


def _output(experiment: Experiment, dataset: Dataset) -> Path:
    return experiment.output if len(experiment.datasets) == 1 else experiment.output / f"Dataset{dataset.id:03d}"


def _scored_dataset(experiment: Experiment, dataset: Dataset, folders: Folders, jobs: int) -> _Scored:
    found = _dataset_folder(folders.results, dataset.id)
    results = read_results(found, _splits(folders, dataset.id), experiment.folds)
    models = experiment.models_of(dataset.id)
    of_models = {model.identifier: model.name for model in models}
    results = _of_experiment(results, experiment, dataset.id)
    listed = _listed(experiment, models)
    of_members = {frozenset(member.identifier for member in each.members): each.name for each in listed}
    ensembles = {
        ensemble.identifier: of_members.get(frozenset(ensemble.members), "")
        or ensemble_label([of_models[member] for member in ensemble.members])
        for ensemble in results.ensembles
    }
    shown = {model.identifier: of_models[model.identifier] for model in results.models} | ensembles
    test_sets, reasons = [], []
    for test in dataset.test_sets:
        folder = predictions_folder(experiment, folders, dataset.id, test.name)
        of_folder = {model.identifier: model.name for model in models}
        of_folder |= {
            ensemble_name((member.identifier for member in each.members), experiment.folds): each.name
            for each in listed
        }
        of_folder["selected"] = "selected by nnU-Net"
        predictions = {name: path for key, name in of_folder.items() if (path := folder / key).is_dir()}
        reasons += [
            (model.name, f"no predictions of {test.name}.") for model in models if model.name not in predictions
        ]
        test_sets.append(PredictedSet(test.name, predictions, test.references))
    data, output = _data(folders, dataset.id), _output(experiment, dataset)
    scored = _score(results, shown, experiment.baseline, test_sets, data, experiment.lesion_labels, output, jobs)
    scores = scored.scores
    if experiment.metrics:
        of_scoring = SCORINGS[experiment.scoring] if experiment.scoring != "all" else ()
        scores = scores[scores["metric"].isin(["dice", *experiment.metrics, *of_scoring])]
    without = (
        f"{each.name} is in the experiment and has no scores of the cross-validation: run the experiment again."
        for each in listed
        if each.name not in shown.values()
    )
    names = {**of_models, **ensembles}
    notes = (*scored.notes, *one_line_each(reasons, models=len(models)))
    remarks = (*experiment.remarks, *repetitions(of_models), *scored.remarks, *without)
    return replace(scored, names=names, scores=scores, remarks=remarks, notes=notes)


@dataclass(frozen=True)
class _Listed:
    """An ensemble that the experiment lists."""

    name: str
    members: tuple[Model, ...]


def _listed(experiment: Experiment, models: Sequence[Model]) -> list[_Listed]:
    return [
        _Listed(ensemble_label([member.name for member in members]), tuple(members))
        for members in listed_ensembles(experiment, models)
    ]


def _of_experiment(results: Results, experiment: Experiment, dataset: int) -> Results:
    """The models and ensembles that the experiment is about; the folder may hold others."""
    identifiers = {model.identifier for model in experiment.models_of(dataset)}
    models = tuple(
        replace(model, scores=_of_folds(model.scores, experiment.folds))
        for model in results.models
        if model.identifier in identifiers
    )
    listed = [{m.identifier for m in each.members} for each in _listed(experiment, experiment.models_of(dataset))]
    ensembles = tuple(
        each
        for each in results.ensembles
        if set(each.folds) == set(experiment.folds)
        and (set(each.members) in listed or (experiment.ensembles == "pairs" and set(each.members) <= identifiers))
    )
    if not models:
        raise ComparisonError(
            f"no model of the experiment has a validated fold in {results.folder}",
            "Run it first: nnunet-transformers compare run. Nothing was written.",
            "NOTHING_VALIDATED",
        )
    without = tuple(sorted(identifiers - {model.identifier for model in models}))
    return replace(results, models=models, ensembles=ensembles, not_validated=without)


def _of_folds(scores: pd.DataFrame, folds: Sequence[int]) -> pd.DataFrame:
    """Other experiments may have trained more folds; where only merged scores are there, theirs are not known."""
    return scores[scores["fold"].isin(folds) | scores["fold"].isna()].reset_index(drop=True)


def _named(results: Results, name: str) -> TrainedModel:
    """The one model of this trainer or this identifier."""
    models = _shown(results, [name]).models
    if len(models) > 1:
        raise ComparisonError(
            f"{name} names {len(models)} models of {results.folder}: {', '.join(m.identifier for m in models)}",
            "Give one of these as the baseline. Nothing was written.",
            "AMBIGUOUS_BASELINE",
        )
    return models[0]


def _shown(results: Results, trainers: Sequence[str]) -> Results:
    if not trainers:
        return results
    unknown = [name for name in trainers if not any(name in (m.trainer, m.identifier) for m in results.models)]
    if unknown:
        raise ComparisonError(
            f"no results of {', '.join(unknown)} in {results.folder}",
            f"There are: {', '.join(model.identifier for model in results.models)}. Nothing was written.",
            "UNKNOWN_TRAINER",
        )
    models = tuple(model for model in results.models if {model.trainer, model.identifier} & set(trainers))
    kept = {model.identifier for model in models}
    ensembles = tuple(each for each in results.ensembles if set(each.members) <= kept)
    without = tuple(name for name in results.not_validated if {name, name.partition("__")[0]} & set(trainers))
    return replace(results, models=models, ensembles=ensembles, not_validated=without)


def _dataset_folder(folder: Path, dataset_id: int) -> Path:
    found = dataset_folder(folder, dataset_id)
    if found is None:
        raise ComparisonError(
            f"no results of dataset {dataset_id} in {folder}",
            "Train first, or set nnUNet_results to the folder that has them. Nothing was written.",
            "NO_RESULTS_FOLDER",
        )
    return found


def _data(folders: Folders, dataset_id: int) -> DataFolders:
    return DataFolders(dataset_folder(folders.raw, dataset_id), dataset_folder(folders.preprocessed, dataset_id))


def _splits(folders: Folders, dataset_id: int) -> Path | None:
    return _data(folders, dataset_id).splits


def _folders_of_environment() -> Folders:
    missing = [name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results") if not os.environ.get(name)]
    if missing:
        raise ComparisonError(
            f"{', '.join(missing)} not set", "export them as for nnU-Net's own commands.", "FOLDER_NOT_SET"
        )
    return Folders(*(Path(os.environ[name]) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")))
