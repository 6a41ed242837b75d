"""The steps that compare what was cross-validated: nnU-Net's selection, and the listed ensembles."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Model
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.model_id import ensemble_name
from nnunet_transformers.comparison.nnunet.state import is_newer, is_selected, load_json, summaries
from nnunet_transformers.comparison.running.place import Place, identifiers, listed_ensembles
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.training import is_validated


def selection_steps(place: Place, models: Sequence[Model], trainings: dict[Model, list[Step]]) -> list[Step]:
    """Selection of the best model or pair, and the listed ensembles of the validated folds."""
    folds = place.experiment.folds
    found = [
        place.step(
            "select",
            _select_command(place, models),
            partial(_is_selected, place, models),
            after=[step.name for of_model in trainings.values() for step in of_model],
            lock=place.results / ".lock",
            prepare=partial(_rest_of_selection, place, models),
        )
    ]
    for members in listed_ensembles(place.experiment, models):
        folder = place.results / "ensembles" / ensemble_name(identifiers(members), folds)
        command = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.cross_validation", "ensemble"]
        command += _selection_arguments(place, members)
        scores = summaries(place.results, identifiers(members), folds)
        found.append(
            place.step(
                f"ensemble {' + '.join(member.name for member in members)}",
                command,
                partial(_is_summarised, folder / "summary.json", scores),
                needs=[step.name for member in members for step in trainings[member]],
                lock=folder / ".lock",
            )
        )
    return found


def _select_command(place: Place, models: Sequence[Model]) -> Command:
    """nnU-Net's command where the models are all combinations of their parts, else its Python function."""
    pairs = place.experiment.ensembles == "pairs"
    parts = [list(dict.fromkeys(x)) for x in zip(*((m.configuration, m.trainer, m.plans) for m in models), strict=True)]
    if len(list(product(*parts))) == len(models):
        folds = place.experiment.folds
        return commands.find_best_configuration(place.dataset.id, *parts, folds=folds, ensembles=pairs)
    command = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.cross_validation", "select"]
    return command + _selection_arguments(place, models) + ([] if pairs else ["--no-ensembles"])


def _is_selected(place: Place, models: Sequence[Model]) -> bool:
    complete = identifiers(_complete(place, models))
    experiment = place.experiment
    return is_selected(place.results, complete, experiment.folds, ensembles=experiment.ensembles == "pairs")


def _rest_of_selection(place: Place, models: Sequence[Model]) -> Command:
    """nnU-Net selects among models that have all folds; a training that failed does not keep it from the others."""
    complete = _complete(place, models)
    if not complete:
        raise ComparisonError(
            "no model has all of its folds", "See the logs of the trainings. Nothing was selected.", "NO_MODEL"
        )
    for model in models:
        if model not in complete:
            print(f"{model.name} is left out of the selection: it does not have all of its folds", flush=True)
    return _select_command(place, complete)


def _complete(place: Place, models: Sequence[Model]) -> list[Model]:
    """The models that are validated on all folds."""
    return [model for model in models if all(is_validated(place, model, fold) for fold in place.experiment.folds)]


def _selection_arguments(place: Place, models: Sequence[Model]) -> list[str]:
    return [place.name, *identifiers(models), "--folds", *map(str, place.experiment.folds)]


def _is_summarised(summary: Path, scores: Sequence[Path]) -> bool:
    return load_json(summary) is not None and is_newer(summary, scores)
