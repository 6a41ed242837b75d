"""How nnU-Net names the folders of a trained model, trainer__plans__configuration, and of an ensemble of two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_LENGTH = re.compile(r"_(\d+)epochs?(?:_(\d+)iterations?)?(?=_|$)")


class ModelId(NamedTuple):
    """A trainer with its plans and configuration; as text it is the name of the model's folder."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return "__".join(self)

    @property
    def length(self) -> tuple[int | None, int | None]:
        """Epochs and iterations per epoch as far as the trainer's name says: _5epochs, _5epochs_100iterations."""
        said = _LENGTH.search(self.trainer)
        return (int(said[1]), int(said[2]) if said[2] else None) if said else (None, None)

    @classmethod
    def parse(cls, name: str) -> ModelId | None:
        """The model a folder's name stands for; None for the name of something else."""
        parts = name.split("__")
        return cls(*parts) if len(parts) == 3 else None


def ensemble_name(models: Iterable[object], folds: Iterable[int]) -> str:
    """nnU-Net's name for an ensemble of two models, and the same for more."""
    return "___".join(["ensemble", *map(str, models), "_".join(map(str, folds))])
