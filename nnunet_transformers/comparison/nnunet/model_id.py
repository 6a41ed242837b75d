"""How nnU-Net names the folder of a trained model: trainer__plans__configuration."""

from __future__ import annotations

from typing import NamedTuple


class ModelId(NamedTuple):
    """A trainer with its plans and configuration; as text it is the name of the model's folder."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return "__".join(self)

    @classmethod
    def parse(cls, name: str) -> ModelId | None:
        """The model a folder's name stands for; None for the name of something else."""
        parts = name.split("__")
        return cls(*parts) if len(parts) == 3 else None
