"""How nnU-Net names the folders of a trained model, trainer__plans__configuration, and of an ensemble of two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nnunet_transformers.training.variant_names import Parts, parts


class ModelId(NamedTuple):
    """A trainer with its plans and configuration; as text it is the name of the model's folder."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return "__".join(self)

    @property
    def parts(self) -> Parts:
        """What the trainer's name says: the trainer, loss, augmentation, length and seed."""
        return parts(self.trainer)

    @classmethod
    def parse(cls, name: str) -> ModelId | None:
        """The model a folder's name stands for; None for the name of something else."""
        parts = name.split("__")
        return cls(*parts) if len(parts) == 3 else None


def ensemble_name(models: Iterable[object], folds: Iterable[int]) -> str:
    """nnU-Net's name for an ensemble of two models, and the same for more."""
    return "___".join(["ensemble", *map(str, models), "_".join(map(str, folds))])
