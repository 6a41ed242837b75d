"""Scores and reports of experiments and of any nnU-Net results folder: what `compare evaluate` and `report` do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nnunet_transformers.common.words import counted
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Dataset, Experiment, Folders, Model
from nnunet_transformers.comparison.metrics.evaluation import Pair, update
from nnunet_transformers.comparison.metrics.evaluation import evaluate as measure
from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.metrics.labels import Labels, read_labels
from nnunet_transformers.comparison.metrics.pairs import (
    People,
    recorded_scores,
    test_set_pairs,
    validation_pairs,
)
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION, write_scores
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.names import ensemble_label, short_names
from nnunet_transformers.comparison.nnunet.results import Model as TrainedModel
from nnunet_transformers.comparison.nnunet.results import Results, read_results
from nnunet_transformers.comparison.nnunet.state import dataset_folder, is_newer
from nnunet_transformers.comparison.reporting.inputs import ReportInput, TestSet
from nnunet_transformers.comparison.reporting.page import write_report
from nnunet_transformers.comparison.running.steps import Step, ensemble_name, predictions_folder, steps
from nnunet_transformers.comparison.statistics.options import Options

SCORES = "metrics.csv"

_WHERE_TO_FIND_THEM = (
    "Set nnUNet_raw, nnUNet_preprocessed and nnUNet_results to the folders that have them, or validate that fold again "
    "(nnUNetv2_train … --val --npz)."
)


@dataclass(frozen=True)
class _Scored:
    """One dataset's results under the names of the report, and its scores."""

    results: Results
    names: Mapping[str, str]
    data: DataFolders
    test_sets: tuple[TestSet, ...]
    scores: pd.DataFrame
    remarks: tuple[str, ...]


def evaluate(experiment: Experiment, jobs: int = 1) -> list[Path]:
    """Score what an experiment has predicted so far; only what is new is computed.

    Args:
        jobs: cases at a time.

    Returns:
        The table of scores of each dataset, in the experiment's output folder.

    Raises:
        ComparisonError: nothing is validated yet, or a segmentation is missing or cannot be compared.
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
        written.append(_write(scored, experiment.baseline, margins, title, run, _output(experiment, dataset)))
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
    test_sets: Sequence[TestSet] = (),
    lesion_labels: Sequence[int] = (),
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
        baseline: the trainer the others are compared with; default: nnU-Net's own.
        test_sets: predictions of cases no model was trained on, by the identifier of the model.
        lesion_labels: the labels that together are the lesion, where the dataset has several.
        remarks: sentences a reader has to know first.
        commands_run: how the results were made; default: nnU-Net's commands that would make them.
        jobs: cases scored at a time.

    Raises:
        ComparisonError: no such results.
    """
    folders = folders or _folders_of_environment()
    results = read_results(_dataset_folder(folders.results, dataset_id), _splits(folders, dataset_id))
    results = _shown(results, [*trainers, baseline] if trainers and baseline else trainers)
    first = _named(results, baseline) if baseline else results.baseline
    names = short_names(results)
    data = _data(folders, dataset_id)
    people = People.of(data.raw)
    pairs, missing = validation_pairs(_entries(results), names, data, people)
    sets = []
    for test in test_sets:
        predictions = {names.get(key, key): folder for key, folder in test.predictions.items()}
        sets.append(replace(test, predictions=predictions))
        if test.references:
            pairs += test_set_pairs(test.name, predictions, test.references, people, list(predictions))
    labels = read_labels(results.baseline.folder / "dataset.json", lesion_labels)
    scores = _scores(output / SCORES, pairs, missing, results, names, data, labels, jobs)
    scored = _Scored(results, names, data, tuple(sets), scores, (*remarks, *_remarks(missing, labels)))
    return _write(scored, names[first.identifier], {}, "", commands_run, output)


def _write(
    scored: _Scored, baseline: str, margins: Mapping[str, float], title: str, run: Sequence[str], output: Path
) -> Path:
    given = ReportInput(
        scores=scored.scores,
        results=scored.results,
        names=scored.names,
        baseline=baseline,
        data=scored.data,
        test_sets=scored.test_sets,
        options=Options(margins=margins) if margins else Options(),
        commands=tuple(run),
        remarks=scored.remarks,
        title=title,
    )
    return write_report(given, output)


def _scores(
    table: Path,
    pairs: Sequence[Pair],
    missing: Sequence[str],
    results: Results,
    names: Mapping[str, str],
    data: DataFolders,
    labels: Labels,
    jobs: int,
) -> pd.DataFrame:
    """All metrics where the segmentations are there; nnU-Net's own Dice of the cross-validation where some are not.

    A mixture would compare models by different definitions.
    """
    if not missing:
        return update(table, pairs, jobs, labels=labels)
    if any(entry.scores["case"].duplicated().any() for entry in _entries(results)):
        raise ComparisonError(
            f"{_not_there(missing)}; and of a dataset with several labels nnU-Net recorded no Dice of the lesion",
            f"{_WHERE_TO_FIND_THEM} Nothing was written.",
            "NO_SEGMENTATIONS",
        )
    recorded = recorded_scores(_entries(results), names, People.of(data.raw))
    of_test_sets = [pair for pair in pairs if pair.set != CROSS_VALIDATION]
    if of_test_sets:
        recorded = pd.concat([recorded, measure(of_test_sets, jobs, labels=labels)], ignore_index=True)
    write_scores(recorded, table)
    return recorded


def _not_there(missing: Sequence[str]) -> str:
    one = len(missing) == 1
    what = f"{counted(len(missing), 'segmentation')} {'is' if one else 'are'} not where nnU-Net recorded"
    return f"{what} {'it' if one else 'them'}, such as {missing[0]}"


def _remarks(missing: Sequence[str], labels: Labels) -> tuple[str, ...]:
    remarks = []
    if missing:
        remarks.append(
            f"{_not_there(missing)}: only nnU-Net's own Dice of the cross-validation is shown (1 where both masks are "
            f"empty), without lesion volumes. For all metrics: {_WHERE_TO_FIND_THEM}"
        )
    elif labels.ignore is not None:
        remarks.append("Voxels with the ignore label in the reference count nowhere.")
    return tuple(remarks)


def _output(experiment: Experiment, dataset: Dataset) -> Path:
    return experiment.output if len(experiment.datasets) == 1 else experiment.output / f"Dataset{dataset.id:03d}"


def _scored_dataset(experiment: Experiment, dataset: Dataset, folders: Folders, jobs: int) -> _Scored:
    results = read_results(_dataset_folder(folders.results, dataset.id), _splits(folders, dataset.id))
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
    names = {**of_models, **ensembles}
    data = _data(folders, dataset.id)
    people = People.of(data.raw)
    pairs, missing = validation_pairs(_entries(results), names, data, people)
    test_sets = []
    for test in dataset.test_sets:
        folder = predictions_folder(experiment, folders, dataset.id, test.name)
        of_folder = {model.identifier: model.name for model in models}
        of_folder |= {ensemble_name(each.members, experiment.folds): each.name for each in listed}
        of_folder["selected"] = "selected by nnU-Net"
        predictions = {name: path for key, name in of_folder.items() if (path := folder / key).is_dir()}
        test_sets.append(TestSet(test.name, predictions, test.references))
        if test.references:
            pairs += test_set_pairs(test.name, predictions, test.references, people, list(predictions))
    labels = read_labels(results.baseline.folder / "dataset.json", experiment.lesion_labels)
    scores = _scores(_output(experiment, dataset) / SCORES, pairs, missing, results, names, data, labels, jobs)
    if experiment.metrics:
        scores = scores[scores["metric"].isin(["dice", *experiment.metrics])]
    without = tuple(
        f"{each.name} is in the experiment and has no scores of the cross-validation: run the experiment again."
        for each in listed
        if each.name not in names.values()
    )
    return _Scored(results, names, data, tuple(test_sets), scores, (*_remarks(missing, labels), *without))


@dataclass(frozen=True)
class _Listed:
    """An ensemble that the experiment lists."""

    name: str
    members: tuple[Model, ...]


def _listed(experiment: Experiment, models: Sequence[Model]) -> list[_Listed]:
    if isinstance(experiment.ensembles, str):
        return []
    of_name = {model.name: model for model in models}
    return [
        _Listed(ensemble_label(members), tuple(of_name[member] for member in members))
        for members in experiment.ensembles
        if set(members) <= set(of_name)
    ]


def _of_experiment(results: Results, experiment: Experiment, dataset: int) -> Results:
    """The models and ensembles that the experiment is about; the folder may hold others."""
    identifiers = {model.identifier for model in experiment.models_of(dataset)}
    models = tuple(model for model in results.models if model.identifier in identifiers)
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


def _entries(results: Results) -> list:
    return [*results.models, *results.ensembles]


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
