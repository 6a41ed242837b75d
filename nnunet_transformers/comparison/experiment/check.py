"""Look up what an experiment names: trainers and planners in nnU-Net, folds in the split, files on the disk."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_transformers.common.words import counted, listed, nearest
from nnunet_transformers.common.yaml_fields import Problems, Value
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.file import parse
from nnunet_transformers.comparison.experiment.model import CASCADE, LOWRES, Experiment, Folders, Model, TestSet
from nnunet_transformers.comparison.metrics.labels import dataset_labels
from nnunet_transformers.comparison.metrics.pairs import People
from nnunet_transformers.comparison.nnunet.state import cases_in, dataset_folder, load_json
from nnunet_transformers.training.variant_names import Parts, parts

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_PLANNERS = {f"nnUNetResEncUNet{size}Plans": f"nnUNetPlannerResEnc{size}" for size in ("M", "L", "XL")}
_DEFAULT_FOLDS = 5  # of nnU-Net, where there is no splits_final.json


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file and look up what it names: trainers, planners, metrics, folds, files.

    Raises:
        ComparisonError: with the line and the field of everything that is wrong.
    """
    experiment, fields, entries, problems = parse(path)
    check_experiment(experiment, fields, entries, problems)
    return experiment


def check_experiment(
    experiment: Experiment, fields: Mapping[str, Value], entries: Sequence[tuple[Value, Model]], problems: Problems
) -> None:
    """Look up everything an experiment names.

    Args:
        fields: the file's.
        entries: each model with the item of `trainers` it comes from.
        problems: those found while the file was read.

    Raises:
        ComparisonError: with the line of these and of everything that is not there; or nnU-Net's folders are not known.
    """
    found = []
    for value, model in entries:
        if trainer := _check_trainer(value, model):
            found.append((value, model, trainer))
        if model.planner and _find_planner(model.planner) is None:
            value.problem(f"nnU-Net finds no planner {model.planner}", "UNKNOWN_PLANNER")
        if model.pretrained_weights and not model.pretrained_weights.is_file():
            value.problem(f"there is no file with these pretrained_weights: {model.pretrained_weights}", "NO_FILE")
    if experiment.same_recipe:
        _check_recipe(found)
    try:
        folders = experiment.nnunet_folders()
    except ComparisonError:
        problems.raise_if_any()
        raise
    if "raw" in experiment.folders and not folders.raw.is_dir():
        fields["folders"].problem(f"raw: there is no folder {folders.raw}", "NO_FILE")
    _check_datasets(experiment, fields, folders)
    for value, model in entries:
        if model.dataset:
            _check_plans(value, model, folders)
    problems.raise_if_any()


def find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """The trainer nnU-Net finds by this name, silently.

    Raises:
        VariantError: there is the trainer, but not with this loss, augmentation, length or seed.
    """
    from nnunet_transformers.plugin import autostart

    autostart.activate()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        from nnunet_transformers.training.variants import VariantError

        try:
            return recursive_find_trainer_class_by_name(name)
        except VariantError:
            raise
        except (RuntimeError, AssertionError):
            return None


def _find_planner(name: str) -> type | None:
    with contextlib.redirect_stdout(io.StringIO()):
        import nnunetv2
        from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

        folder = os.path.join(nnunetv2.__path__[0], "experiment_planning")
        return recursive_find_python_class(folder, name, current_module="nnunetv2.experiment_planning")


def _check_datasets(experiment: Experiment, fields: Mapping[str, Value], folders: Folders) -> None:
    for dataset in experiment.datasets:
        if not dataset.id:
            continue
        field = fields.get("dataset") or fields["datasets"]
        raw = dataset_folder(folders.raw, dataset.id)
        preprocessed = dataset_folder(folders.preprocessed, dataset.id)
        if raw is None and preprocessed is None:
            field.problem(
                f"no folder Dataset{dataset.id:03d}_… in {folders.raw} or {folders.preprocessed}: convert the data "
                "first (nnunet-transformers convert)",
                "NO_DATASET",
            )
        _check_folds(experiment, fields, dataset.id, preprocessed, raw)
        _check_labels(experiment, fields.get("lesion_labels") or field, dataset.id, [raw, preprocessed])
        for test in dataset.test_sets:
            _check_test_set(fields.get("test_sets") or field, test)


def _check_labels(experiment: Experiment, field: Value, dataset: int, places: Sequence[Path | None]) -> None:
    descriptions = (load_json(path / "dataset.json") for path in places if path)
    description = next((found for found in descriptions if isinstance(found, dict) and "labels" in found), None)
    if description is None:
        return
    try:
        dataset_labels(description, experiment.lesion_labels)
    except ValueError as error:
        field.problem(f"dataset {dataset}: {error}", "LESION_LABELS")


def _check_test_set(field: Value, test: TestSet) -> None:
    if not test.images.is_dir():
        field.problem(f"no folder with images of {test.name}: {test.images}", "NO_FILE")
    elif not cases_in(test.images):
        field.problem(f"no image of {test.name} is named CASE_0000, as nnU-Net needs it: {test.images}", "NO_FILE")
    if test.references and not test.references.is_dir():
        field.problem(f"no folder with references of {test.name}: {test.references}", "NO_FILE")


def _check_folds(
    experiment: Experiment, fields: Mapping[str, Value], dataset: int, preprocessed: Path | None, raw: Path | None
) -> None:
    split_files = [path / "splits_final.json" for path in (preprocessed, raw) if path]
    splits = next((s for path in split_files if isinstance(s := load_json(path), list)), None)
    number = len(splits) if splits else _DEFAULT_FOLDS
    cascades = [m.name for m in experiment.models_of(dataset) if m.configuration == CASCADE]
    if cascades and experiment.folds and set(experiment.folds) != set(range(number)):
        field = fields.get("folds") or next(iter(fields.values()))
        field.problem(
            f"{cascades[0]} is a cascade: it trains on the predictions of all {number} folds of {LOWRES}, so all are "
            "needed",
            "CASCADE_FOLDS",
        )
    if experiment.by_site:
        _check_sites(fields["folds"], dataset, splits, raw)
    if outside := [fold for fold in experiment.folds if fold >= number]:
        field = fields.get("folds") or next(iter(fields.values()))
        field.problem(
            f"fold {', '.join(map(str, outside))}: dataset {dataset} has the folds 0 to {number - 1}"
            f"{' in its splits_final.json' if splits else ''}. nnU-Net would train on a random split instead",
            "UNKNOWN_FOLD",
        )


def _check_sites(field: Value, dataset: int, splits: list | None, raw: Path | None) -> None:
    """That no site is on both sides of a fold."""
    people = People.of(raw)
    again = "convert the data with --group-by site"
    if splits is None:
        random = f"dataset {dataset} has no splits_final.json, so nnU-Net cuts folds at random"
        field.problem(f"{random}: {again}", "NO_SPLITS")
        return
    cases = {case for split in splits for part in ("train", "val") for case in split[part]}
    if unknown := sorted(case for case in cases if not people.site(case)):
        where = f"{raw / 'cases.tsv'}" if raw else "the raw dataset's cases.tsv"
        lacking = f"the site of {counted(len(unknown), 'case')} is not in {where}"
        field.problem(f"{lacking}: {listed(unknown, 3)}", "NO_SITES")
        return
    for fold, split in enumerate(splits):
        both = {people.site(case) for case in split["train"]} & {people.site(case) for case in split["val"]}
        if both:
            field.problem(
                f"fold {fold} of dataset {dataset} trains and validates on the same "
                f"{'site' if len(both) == 1 else 'sites'}, {listed(sorted(both), 3)}: {again}",
                "SITE_LEAKAGE",
            )
            return


def _check_trainer(value: Value, model: Model) -> type[nnUNetTrainer] | None:
    from nnunet_transformers.training.variants import VariantError

    try:
        if found := find_trainer(model.trainer):
            return found
    except VariantError as error:
        value.problem(error.problem, error.code)
        return None
    known, base = [*_trainer_names(), "nnUNetTrainer"], parts(model.trainer).base
    value.problem(
        f"nnU-Net finds no trainer {base}{nearest(base, known)}; nnunet-transformers list shows those of this package",
        "UNKNOWN_TRAINER",
    )
    return None


def _check_recipe(found: Sequence[tuple[Value, Model, type[nnUNetTrainer]]]) -> None:
    """Each trainer whose loss, augmentation or length is not the first one's is a problem."""
    from nnunet_transformers.training.variants import recipe_of

    first: dict[str, str] = {}
    for value, model, trainer in found:
        named = parts(model.trainer)
        length = str(Parts("", epochs=named.epochs, iterations=named.iterations)) or "of the trainer's own"
        recipe = dict(zip(("loss", "augmentation", "length"), (*recipe_of(trainer), length), strict=True))
        first = first or recipe
        if others := [f"{what} {told}, not {first[what]}" for what, told in recipe.items() if told != first[what]]:
            value.problem(f"has not the recipe of {found[0][1].name}: {'; '.join(others)}", "OTHER_RECIPE")


def _trainer_names() -> list[str]:
    from nnunet_transformers.training.registry import PEERS, registry

    return [*(entry.trainer for entry in registry()), *(peer.trainer for peer in PEERS)]


def _check_plans(value: Value, model: Model, folders: Folders) -> None:
    preprocessed = dataset_folder(folders.preprocessed, model.dataset)
    plans = load_json(preprocessed / f"{model.plans}.json") if preprocessed else None
    if isinstance(plans, dict):
        if model.configuration not in plans["configurations"]:
            value.problem(
                f"{model.plans}.json of dataset {model.dataset} has no configuration {model.configuration}; it has "
                f"{', '.join(plans['configurations'])}",
                "UNKNOWN_CONFIGURATION",
            )
        return
    made = model.plans == "nnUNetPlans" or model.planner or model.target_spacing or model.plans_from is not None
    if not made:
        planner = f": add planner: {_PLANNERS[model.plans]}" if model.plans in _PLANNERS else ""
        value.problem(
            f"no file {model.plans}.json in dataset {model.dataset}'s preprocessed folder, and no planner that "
            f"makes it{planner}",
            "NO_PLANS",
        )
