"""Scores and reports of experiments and of any nnU-Net results folder: what `compare evaluate` and `report` do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nnunet_transformers.comparison import commands
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment import Dataset, Experiment, Folders
from nnunet_transformers.comparison.images import DataFolders
from nnunet_transformers.comparison.metrics.evaluation import Pair, update
from nnunet_transformers.comparison.metrics.evaluation import evaluate as measure
from nnunet_transformers.comparison.metrics.scores_table import write_scores
from nnunet_transformers.comparison.names import short_names
from nnunet_transformers.comparison.pairs import (
    CROSS_VALIDATION,
    People,
    recorded_scores,
    test_set_pairs,
    validation_pairs,
)
from nnunet_transformers.comparison.reporting.inputs import ReportInput, TestSet
from nnunet_transformers.comparison.reporting.page import write_report
from nnunet_transformers.comparison.results import Results, read_results
from nnunet_transformers.comparison.state import dataset_folder, is_newer
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.steps import Step, ensemble_name, predictions_folder, steps

SCORES = "metrics.csv"


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
    page = experiment.output / "report.html"
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
        remarks: sentences a reader has to know first.
        commands_run: how the results were made; default: nnU-Net's commands that would make them.
        jobs: cases scored at a time.

    Raises:
        ComparisonError: no such results.
    """
    folders = folders or _folders_of_environment()
    results = read_results(_dataset_folder(folders.results, dataset_id), _splits(folders, dataset_id))
    results = _shown(results, trainers)
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
    scores = _scores(output / SCORES, pairs, missing, results, names, data, jobs)
    scored = _Scored(results, names, data, tuple(sets), scores, (*remarks, *_remarks(missing)))
    first = _shown(results, [baseline]).models[0] if baseline else results.baseline
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
    jobs: int,
) -> pd.DataFrame:
    """All metrics where the segmentations are there; nnU-Net's own Dice of the cross-validation where some are not.

    A mixture would compare models by different definitions.
    """
    if not missing:
        return update(table, pairs, jobs)
    recorded = recorded_scores(_entries(results), names, People.of(data.raw))
    of_test_sets = [pair for pair in pairs if pair.set != CROSS_VALIDATION]
    if of_test_sets:
        recorded = pd.concat([recorded, measure(of_test_sets, jobs)], ignore_index=True)
    write_scores(recorded, table)
    return recorded


def _remarks(missing: Sequence[str]) -> tuple[str, ...]:
    if not missing:
        return ()
    return (
        f"{len(missing)} segmentations are not where nnU-Net recorded them, such as {Path(missing[0]).name}: only "
        "nnU-Net's own Dice of the cross-validation is shown, without lesion volumes. Set nnUNet_raw, "
        "nnUNet_preprocessed and nnUNet_results to the folders that have them for all metrics.",
    )


def _output(experiment: Experiment, dataset: Dataset) -> Path:
    return experiment.output if len(experiment.datasets) == 1 else experiment.output / f"Dataset{dataset.id:03d}"


def _scored_dataset(experiment: Experiment, dataset: Dataset, folders: Folders, jobs: int) -> _Scored:
    results = read_results(_dataset_folder(folders.results, dataset.id), _splits(folders, dataset.id))
    models = experiment.models_of(dataset.id)
    of_models = {model.identifier: model.name for model in models}
    results = _of_experiment(results, set(of_models), experiment)
    ensembles = {
        ensemble.identifier: "ensemble of " + " + ".join(of_models[member] for member in ensemble.members)
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
        of_folder |= {ensemble_name(each.members, experiment.folds): each.name for each in _listed(experiment, models)}
        of_folder["selected"] = "selected by nnU-Net"
        predictions = {name: path for key, name in of_folder.items() if (path := folder / key).is_dir()}
        test_sets.append(TestSet(test.name, predictions, test.references))
        if test.references:
            pairs += test_set_pairs(test.name, predictions, test.references, people, list(predictions))
    scores = _scores(_output(experiment, dataset) / SCORES, pairs, missing, results, names, data, jobs)
    if experiment.metrics:
        scores = scores[scores["metric"].isin(["dice", *experiment.metrics])]
    return _Scored(results, names, data, tuple(test_sets), scores, _remarks(missing))


@dataclass(frozen=True)
class _Listed:
    """An ensemble that the experiment lists."""

    name: str
    members: tuple


def _listed(experiment: Experiment, models: Sequence) -> list[_Listed]:
    if isinstance(experiment.ensembles, str):
        return []
    of_name = {model.name: model for model in models}
    return [
        _Listed("ensemble of " + " + ".join(members), tuple(of_name[member] for member in members))
        for members in experiment.ensembles
        if set(members) <= set(of_name)
    ]


def _of_experiment(results: Results, identifiers: set[str], experiment: Experiment) -> Results:
    """The models and ensembles that the experiment is about; the folder may hold others."""
    models = tuple(model for model in results.models if model.identifier in identifiers)
    ensembles = tuple(
        each
        for each in results.ensembles
        if set(each.members) <= identifiers and set(each.folds) == set(experiment.folds)
    )
    if not models:
        raise ComparisonError(
            f"no model of the experiment has a validated fold in {results.folder}",
            "Run it first: nnunet-transformers compare run. Nothing was written.",
            "NOTHING_VALIDATED",
        )
    return replace(results, models=models, ensembles=ensembles if experiment.ensembles != "none" else ())


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
    asked = {m.identifier: m for name in trainers for m in results.models if name in (m.trainer, m.identifier)}
    models, kept = tuple(asked.values()), set(asked)
    ensembles = tuple(each for each in results.ensembles if set(each.members) <= kept)
    return replace(results, models=models, ensembles=ensembles)


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
