"""Shorter trainings by name: `<trainer>_<N>epochs` and `<trainer>_<N>epochs_<M>iterations`, for any number and any
trainer whose name begins with nnUNetTrainer."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_NAME = re.compile(r"(?P<base>nnUNetTrainer\w*?)_(?P<epochs>[1-9]\d*)epochs?(_(?P<iterations>[1-9]\d*)iterations?)?")

# nnU-Net's own 50 validation iterations for 250 of training.
_TRAINING_PER_VALIDATION_ITERATION = 5


def short_trainer(
    name: str, find_trainer: Callable[[str], type[nnUNetTrainer] | None], module: str
) -> type[nnUNetTrainer] | None:
    """The trainer of a name such as `nnUNetTrainerSwinUNETR_20epochs_50iterations`; None for another kind of name.

    Args:
        name: the name nnU-Net was asked for.
        find_trainer: gives the trainer that is to be shortened by its name.
        module: the module where the class will be found under its name, so that it can be pickled.
    """
    match = _NAME.fullmatch(name)
    base = find_trainer(match["base"]) if match else None
    if match is None or base is None:
        return None
    epochs, iterations = int(match["epochs"]), int(match["iterations"] or 0)

    class ShortTrainer(base):  # type: ignore[misc, valid-type]
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = epochs
            if iterations:
                self.num_iterations_per_epoch = iterations
                self.num_val_iterations_per_epoch = max(1, iterations // _TRAINING_PER_VALIDATION_ITERATION)

    ShortTrainer.__name__ = ShortTrainer.__qualname__ = name
    ShortTrainer.__module__ = module
    ShortTrainer.__doc__ = f"{base.__name__} for {epochs} epochs" + (
        f" of {iterations} iterations." if iterations else "."
    )
    return ShortTrainer
