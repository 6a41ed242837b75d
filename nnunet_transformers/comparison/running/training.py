"""The steps that train the folds of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from nnunet_transformers.comparison.experiment.model import CASCADE, Model, Slurm
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.state import (
    FoldState,
    fold_state,
    remove_broken_checkpoints,
    write_default_splits,
)
from nnunet_transformers.comparison.running.place import Place
from nnunet_transformers.comparison.running.step import Fold, Step


def train_step(
    place: Place, model: Model, number: int, ready: dict[str, str], before: Mapping[Model, Sequence[Step]]
) -> Step:
    """The step that trains and validates a fold.

    Args:
        ready: for each plans the name of the step after which its data are there.
        before: the trainings of the models before this one, among them the first stage of a cascade.
    """
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
        partial(is_validated, place, model, number),
        lock=fold.folder / ".lock",
        needs=[ready[model.plans], *first_stage],
        fold=fold,
        gpu=True,
        array="train",
        stays_done=True,
        prepare=partial(_rest_of_training, place, fold, command),
    )


def is_validated(place: Place, model: Model, fold: int) -> bool:
    """Whether a fold is trained, and validated with all that other steps need of it."""
    return _fold_state(place, model, fold) is FoldState.VALIDATED


def _fold_state(place: Place, model: Model, fold: int) -> FoldState:
    cascade = any(other.goes_on_from(model) for other in place.experiment.models)
    return fold_state(place.fold(model, fold), CASCADE if cascade else "", probabilities=place.probabilities)


def _rest_of_training(place: Place, fold: Fold, command: Command) -> Command | None:
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
