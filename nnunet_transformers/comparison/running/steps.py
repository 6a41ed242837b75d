"""The steps of an experiment, in nnU-Net's own commands, and how each is seen to be done from the files it leaves.

    plan, preprocess ─► train each model and fold ─► select, ensembles ─► predict the test sets ─► their ensembles

Nothing is stored but nnU-Net's files and logs: what is left is found anew whenever it is asked for.
"""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypedDict

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import (
    CASCADE,
    FULLRES,
    LOWRES,
    Dataset,
    Experiment,
    Folders,
    HeldOutSet,
    Model,
    Slurm,
)
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.model_id import ensemble_name
from nnunet_transformers.comparison.nnunet.references import cut_off_references, restore_references
from nnunet_transformers.comparison.nnunet.state import (
    FoldState,
    cases_in,
    dataset_folder,
    fold_state,
    is_newer,
    is_preprocessed,
    is_selected,
    load_json,
    plans_of,
    remove_broken_checkpoints,
    summaries,
    unfinished_predictions,
    write_default_splits,
)
from nnunet_transformers.comparison.running.step import Fold, Step


def steps(experiment: Experiment, folders: Folders) -> list[Step]:
    """All steps of an experiment, each after those it needs.

    Raises:
        ComparisonError: a dataset has no folder, or two.
    """
    found: list[Step] = []
    for dataset in experiment.datasets:
        # Cascades come after their first stages.
        if models := sorted(experiment.models_of(dataset.id), key=lambda model: model.configuration == CASCADE):
            place = _Place(experiment, dataset, folders, _dataset_name(dataset.id, folders))
            preprocessing, ready = _preprocessing(place, models)
            trainings: dict[Model, list[Step]] = {}
            for model in models:
                trainings[model] = [_train(place, model, fold, ready, trainings) for fold in experiment.folds]
            together = [step for of_model in trainings.values() for step in of_model]
            found += [*preprocessing, *together, *_cross_validation(place, models, trainings)]
            for test in dataset.test_sets:
                found += _prediction(place, test, models, trainings)
    return found


def predictions_folder(experiment: Experiment, folders: Folders, dataset: int, test_set: str) -> Path:
    """Where the predictions of a test set go: a folder per model, named by its identifier, and per ensemble.

    A listed ensemble is named as nnU-Net names those of the cross-validation; `selected` is what
    nnUNetv2_find_best_configuration selected.
    """
    return experiment.output / "predictions" / _dataset_name(dataset, folders) / test_set


_STEP_PROCESS = "nnunet_transformers.comparison.running.step_process"


class _PlanOptions(TypedDict):
    planner: str
    spacing: Sequence[float]
    plans: str


@dataclass(frozen=True)
class _Place:
    """A dataset of an experiment, and where its files lie."""

    experiment: Experiment
    dataset: Dataset
    folders: Folders
    name: str

    @property
    def raw(self) -> Path:
        return self.folders.raw / self.name

    @property
    def preprocessed(self) -> Path:
        return self.folders.preprocessed / self.name

    @property
    def results(self) -> Path:
        return self.folders.results / self.name

    @property
    def device(self) -> str:
        """nnU-Net's own choice, a GPU, when empty."""
        device = self.experiment.where.device
        return "" if device == "cuda" else device

    @property
    def probabilities(self) -> bool:
        """Whether ensembles are made of the validations and predictions, which takes their probabilities."""
        return self.experiment.ensembles != "none"

    def fold(self, model: Model, number: int) -> Path:
        return self.results / model.identifier / f"fold_{number}"

    def step(
        self,
        name: str,
        command: Command,
        is_done: Callable[[], bool],
        *,
        lock: Path,
        needs: Sequence[str] = (),
        after: Sequence[str] = (),
        fold: Fold | None = None,
        gpu: bool = False,
        array: str = "",
        stays_done: bool = False,
        prepare: Callable[[], Sequence[str] | None] | None = None,
    ) -> Step:
        name += _on(self.experiment, self.dataset.id)
        where = self.experiment.where
        process = (sys.executable, "-m", _STEP_PROCESS, str(self.experiment.path), name)
        return Step(
            name=name,
            command=tuple(command),
            needs=tuple(dict.fromkeys(needs)),
            after=tuple(dict.fromkeys(after)),
            fold=fold,
            gpu=gpu and self.device != "cpu",
            log=self.experiment.output / "logs" / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.log",
            is_done=is_done,
            stays_done=stays_done,
            array=array and array + _on(self.experiment, self.dataset.id),
            hours=where.hours if gpu and isinstance(where, Slurm) else None,
            lock=lock,
            prepare=prepare,
            process=process,
        )


def _on(experiment: Experiment, dataset: int) -> str:
    return f" on {dataset}" if len(experiment.datasets) > 1 else ""


def _dataset_name(dataset_id: int, folders: Folders) -> str:
    for parent in (folders.raw, folders.preprocessed, folders.results):
        if folder := dataset_folder(parent, dataset_id):
            return folder.name
    raise ComparisonError(
        f"there is not one folder Dataset{dataset_id:03d}_… in {folders.raw} or {folders.preprocessed}",
        "Convert the data first (nnunet-transformers convert). Nothing was run.",
        "NO_DATASET",
    )


def _preprocessing(place: _Place, models: Sequence[Model]) -> tuple[list[Step], dict[str, str]]:
    """Steps that plan and preprocess, one after the other, and for each plans the name of the step that is its last.

    nnU-Net's plans may share preprocessed data, and preprocessing empties its folder: so never two at a time.
    """
    by_plans: dict[str, list[Model]] = {}
    for model in models:
        by_plans.setdefault(model.plans, []).append(model)
    lock = place.preprocessed / ".lock"
    found: list[Step] = []
    ready = {}

    def add(
        name: str, command: Command, done: Callable[[], bool], prepare: Callable[[], Command | None] | None = None
    ) -> None:
        needs = [found[-1].name] if found else []
        found.append(place.step(name, command, done, lock=lock, needs=needs, stays_done=True, prepare=prepare))

    # Plans made from nothing but the data come first: they leave the fingerprint and dataset.json for the others.
    for plans, of_plans in sorted(by_plans.items(), key=lambda item: item[1][0].plans_from is not None):
        model = of_plans[0]
        configurations = _preprocessed_for(of_plans)
        planned = partial(_is_planned, place.preprocessed, plans)
        preprocessed = partial(_is_preprocessed, place, plans, configurations)
        preprocess = commands.preprocess(place.dataset.id, plans, configurations)
        if plans == "nnUNetPlans" or model.planner or model.target_spacing:
            options = _PlanOptions(
                planner=model.planner, spacing=model.target_spacing, plans=plans if plans != "nnUNetPlans" else ""
            )
            if not found:
                everything = commands.plan_and_preprocess(place.dataset.id, *configurations, **options)
                left = partial(_rest_of_preprocessing, place, plans, configurations, everything, preprocess)
                add(f"preprocess {plans}", everything, preprocessed, left)
                ready[plans] = found[-1].name
                continue
            add(f"plan {plans}", commands.plan_experiment(place.dataset.id, **options), planned)
        else:
            if not found:
                only_plans = commands.plan_and_preprocess(place.dataset.id)
                add("plan nnUNetPlans", only_plans, partial(_is_planned, place.preprocessed, "nnUNetPlans"))
            if model.plans_from is not None:
                move = commands.move_plans(model.plans_from, "nnUNetPlans", place.dataset.id, plans)
                add(f"plan {plans}", move, planned)
        left = partial(_rest_of_preprocessing, place, plans, configurations, preprocess, preprocess)
        add(f"preprocess {plans}", preprocess, preprocessed, left)
        ready[plans] = found[-1].name
    return found, ready


def _preprocessed_for(models: Sequence[Model]) -> list[str]:
    """What to preprocess: a cascade has the data of the full resolution, to whose grid the first stage's go."""
    both = {CASCADE, LOWRES}
    found = {model.configuration for model in models}
    return sorted({*(found - {CASCADE}), *([FULLRES] if found & both else [])})


def _is_preprocessed(place: _Place, plans: str, configurations: Sequence[str]) -> bool:
    return is_preprocessed(place.preprocessed, plans, configurations) and not cut_off_references(
        place.raw, place.preprocessed
    )


def _rest_of_preprocessing(
    place: _Place, plans: str, configurations: Sequence[str], everything: Command, preprocess: Command
) -> Command | None:
    restore_references(place.raw, place.preprocessed, place.results)
    if is_preprocessed(place.preprocessed, plans, configurations):
        return None
    # Plans that are there are kept: someone may have changed them.
    return preprocess if _is_planned(place.preprocessed, plans) else everything


def _is_planned(preprocessed: Path, plans: str) -> bool:
    return plans_of(preprocessed, plans) is not None


def _train(
    place: _Place, model: Model, number: int, ready: dict[str, str], before: Mapping[Model, Sequence[Step]]
) -> Step:
    where = place.experiment.where
    command = commands.train(
        place.dataset.id, model.configuration, number, model.trainer, model.plans,
        probabilities=place.probabilities, device=place.device, pretrained_weights=model.pretrained_weights or "",
        gpus=where.gpus_per_task if isinstance(where, Slurm) else 1,
    )  # fmt: skip
    fold = Fold(model, number, place.fold(model, number))
    first_stage = [step.name for other, steps in before.items() if model.goes_on_from(other) for step in steps]
    return place.step(
        f"train {model.name} fold {number}",
        command,
        partial(_is_validated, place, model, number),
        lock=fold.folder / ".lock",
        needs=[ready[model.plans], *first_stage],
        fold=fold,
        gpu=True,
        array="train",
        stays_done=True,
        prepare=partial(_rest_of_training, place, fold, command),
    )


def _is_validated(place: _Place, model: Model, fold: int) -> bool:
    return _fold_state(place, model, fold) is FoldState.VALIDATED


def _fold_state(place: _Place, model: Model, fold: int) -> FoldState:
    cascade = any(other.goes_on_from(model) for other in place.experiment.models)
    return fold_state(place.fold(model, fold), CASCADE if cascade else "", probabilities=place.probabilities)


def _rest_of_training(place: _Place, fold: Fold, command: Command) -> Command | None:
    for path in remove_broken_checkpoints(fold.folder):
        print(f"removed a checkpoint that was cut off: {path}", flush=True)
    # Trainings that start together would each write the split while others read it.
    write_default_splits(place.preprocessed, fold.model.plans, fold.model.configuration)
    option = _fold_state(place, fold.model, fold.number).value
    if option is None:
        return None
    if option and "-pretrained_weights" in command:
        at = command.index("-pretrained_weights")
        command = command[:at] + command[at + 2 :]
    return command + ([option] if option else [])


def _cross_validation(place: _Place, models: Sequence[Model], trainings: dict[Model, list[Step]]) -> list[Step]:
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
    for members in _listed_ensembles(place.experiment, models):
        folder = place.results / "ensembles" / ensemble_name(_identifiers(members), folds)
        command = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.cross_validation", "ensemble"]
        command += _selection_arguments(place, members)
        scores = summaries(place.results, _identifiers(members), folds)
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


def _select_command(place: _Place, models: Sequence[Model]) -> Command:
    """nnU-Net's command where the models are all combinations of their parts, else its Python function."""
    pairs = place.experiment.ensembles == "pairs"
    parts = [list(dict.fromkeys(x)) for x in zip(*((m.configuration, m.trainer, m.plans) for m in models), strict=True)]
    if len(list(product(*parts))) == len(models):
        folds = place.experiment.folds
        return commands.find_best_configuration(place.dataset.id, *parts, folds=folds, ensembles=pairs)
    command = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.cross_validation", "select"]
    return command + _selection_arguments(place, models) + ([] if pairs else ["--no-ensembles"])


def _is_selected(place: _Place, models: Sequence[Model]) -> bool:
    identifiers = _identifiers(_complete(place, models))
    experiment = place.experiment
    return is_selected(place.results, identifiers, experiment.folds, ensembles=experiment.ensembles == "pairs")


def _rest_of_selection(place: _Place, models: Sequence[Model]) -> Command:
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


def _complete(place: _Place, models: Sequence[Model]) -> list[Model]:
    """The models that are validated on all folds."""
    return [model for model in models if all(_is_validated(place, model, fold) for fold in place.experiment.folds)]


def _selection_arguments(place: _Place, models: Sequence[Model]) -> list[str]:
    return [place.name, *_identifiers(models), "--folds", *map(str, place.experiment.folds)]


def _identifiers(models: Sequence[Model]) -> list[str]:
    return [model.identifier for model in models]


def _is_summarised(summary: Path, scores: Sequence[Path]) -> bool:
    return load_json(summary) is not None and is_newer(summary, scores)


def _listed_ensembles(experiment: Experiment, models: Sequence[Model]) -> list[list[Model]]:
    """The listed ensembles that have all of their members on the dataset of these models."""
    if isinstance(experiment.ensembles, str):
        return []
    by_name = {model.name: model for model in models}
    return [[by_name[n] for n in names] for names in experiment.ensembles if all(n in by_name for n in names)]


def _prediction(
    place: _Place, test: HeldOutSet, models: Sequence[Model], trainings: dict[Model, list[Step]]
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
    for members in _listed_ensembles(experiment, models):
        folder = parent / ensemble_name(_identifiers(members), experiment.folds)
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
            needs=["select" + _on(experiment, place.dataset.id)],
            after=list(names.values()),
            lock=parent / ".lock",
        )
    )
    return found


def _unfinished(
    place: _Place,
    test: HeldOutSet,
    folder: Path,
    newer_than: Sequence[Path],
    probabilities: bool,
    previous_stage: Path | None = None,
) -> list[str]:
    ending, cases = _file_ending(place), _cases(test)
    if previous_stage:
        newer_than = [*newer_than, *(previous_stage / f"{case}{ending}" for case in cases)]
    return unfinished_predictions(folder, cases, ending, probabilities=probabilities, newer_than=newer_than)


def _cases(test: HeldOutSet) -> list[str]:
    cases = cases_in(test.images) if test.images.is_dir() else []
    if not cases:
        raise ComparisonError(
            f"no image of the test set {test.name} in {test.images}",
            "Name them CASE_0000.nii.gz, as nnU-Net needs them, or mend the experiment file. Nothing was run.",
            "NO_FILE",
        )
    return cases


def _file_ending(place: _Place) -> str:
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


def _is_averaged(place: _Place, test: HeldOutSet, folder: Path, sources: Sequence[Path]) -> bool:
    cases, ending = _cases(test), _file_ending(place)
    return all(
        not unfinished_predictions(
            folder, [case], ending, probabilities=False, newer_than=[source / f"{case}.npz" for source in sources]
        )
        for case in cases
    )


def _is_applied(place: _Place, test: HeldOutSet, folder: Path) -> bool:
    return not _unfinished(place, test, folder, [place.results / "inference_information.json"], False)
