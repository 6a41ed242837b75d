"""The steps that predict the test sets: each model, the listed ensembles, and what was selected."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Model, TestSet
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.model_id import ensemble_name
from nnunet_transformers.comparison.nnunet.state import cases_in, load_json, unfinished_predictions
from nnunet_transformers.comparison.running.place import Place, identifiers, listed_ensembles, on, predictions_folder
from nnunet_transformers.comparison.running.step import Step


def prediction_steps(
    place: Place, test: TestSet, models: Sequence[Model], trainings: dict[Model, list[Step]]
) -> list[Step]:
    """Predictions of a test set by each model, by the listed ensembles, and by what was selected."""
    experiment = place.experiment
    parent = predictions_folder(experiment, place.folders, place.dataset.id, test.name)
    found: list[Step] = []
    names: dict[Model, str] = {}
    for model in models:
        folder = parent / model.identifier
        first = next((other for other in models if model.goes_on_from(other)), None)
        previous_stage = parent / first.identifier if first else None
        command = commands.predict(
            place.dataset.id, model.configuration, model.trainer, model.plans, test.images, folder,
            folds=experiment.folds, previous_stage=previous_stage or "", probabilities=place.probabilities,
            device=place.device, resume=True,
        )  # fmt: skip
        weights = [place.fold(model, k) / "checkpoint_final.pth" for k in experiment.folds]
        unfinished = partial(_unfinished, place, test, folder, weights, place.probabilities, previous_stage)
        step = place.step(
            f"predict {test.name} with {model.name}",
            command,
            partial(_none, unfinished),
            needs=[*(step.name for step in trainings[model]), *([names[first]] if first else [])],
            gpu=True,
            array=f"predict {test.name}",
            lock=folder / ".lock",
            prepare=partial(_rest_of_prediction, unfinished, folder, command),
        )
        names[model] = step.name
        found.append(step)
    for members in listed_ensembles(experiment, models):
        folder = parent / ensemble_name(identifiers(members), experiment.folds)
        sources = [parent / member.identifier for member in members]
        found.append(
            place.step(
                f"ensemble {' + '.join(member.name for member in members)} of {test.name}",
                commands.ensemble(sources, folder),
                partial(_is_averaged, place, test, folder, sources),
                needs=[names[member] for member in members],
                lock=folder / ".lock",
            )
        )
    command = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.selected", str(place.results), str(parent)]
    found.append(
        place.step(
            f"predict {test.name} with what was selected",
            command,
            partial(_is_applied, place, test, parent / "selected"),
            needs=["select" + on(experiment, place.dataset.id)],
            after=list(names.values()),
            lock=parent / ".lock",
        )
    )
    return found


def _unfinished(
    place: Place,
    test: TestSet,
    folder: Path,
    newer_than: Sequence[Path],
    probabilities: bool,
    previous_stage: Path | None = None,
) -> list[str]:
    ending, cases = _file_ending(place), _cases(test)
    if previous_stage:
        newer_than = [*newer_than, *(previous_stage / f"{case}{ending}" for case in cases)]
    return unfinished_predictions(folder, cases, ending, probabilities=probabilities, newer_than=newer_than)


def _cases(test: TestSet) -> list[str]:
    cases = cases_in(test.images) if test.images.is_dir() else []
    if not cases:
        raise ComparisonError(
            f"no image of the test set {test.name} in {test.images}",
            "Name them CASE_0000.nii.gz, as nnU-Net needs them, or mend the experiment file. Nothing was run.",
            "NO_FILE",
        )
    return cases


def _file_ending(place: Place) -> str:
    for folder in (place.preprocessed, place.raw):
        content = load_json(folder / "dataset.json")
        if isinstance(content, dict):
            return str(content["file_ending"])
    raise ComparisonError(f"no dataset.json in {place.raw}", "Convert the data again. Nothing was run.", "NO_DATASET")


def _none(found: Callable[[], Sequence[str]]) -> bool:
    return not found()


def _rest_of_prediction(unfinished: Callable[[], Sequence[str]], folder: Path, command: Command) -> Command | None:
    """nnU-Net keeps the predictions that are there; so those that do not count have to go."""
    cases = unfinished()
    for case in cases:
        for path in folder.glob(f"{glob.escape(case)}.*"):
            path.unlink()
    return command if cases else None


def _is_averaged(place: Place, test: TestSet, folder: Path, sources: Sequence[Path]) -> bool:
    cases, ending = _cases(test), _file_ending(place)
    return all(
        not unfinished_predictions(
            folder, [case], ending, probabilities=False, newer_than=[source / f"{case}.npz" for source in sources]
        )
        for case in cases
    )


def _is_applied(place: Place, test: TestSet, folder: Path) -> bool:
    return not _unfinished(place, test, folder, [place.results / "inference_information.json"], False)
