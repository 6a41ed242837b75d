"""The fields of the experiment file that become parts of a trainer's name: loss, augmentation, epochs and runs."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_transformers.common.yaml_fields import Value
from nnunet_transformers.training.variant_names import AUGMENTATIONS, LOSSES, Parts, parts

FIELDS = ("loss", "augmentation", "epochs", "runs")


def variant_names(trainer: str, fields: Mapping[str, Value]) -> list[str]:
    """The trainer with the parts that the fields give it; one name, or one per run.

    Args:
        trainer: as the file names it.
        fields: those of `FIELDS` that it has, of its own or of all trainers.
    """
    loss, augmentation = (
        fields[name].one_of(choices) if name in fields else ""
        for name, choices in (("loss", LOSSES), ("augmentation", AUGMENTATIONS))
    )
    epochs, runs = (fields[name].integer(1) if name in fields else None for name in ("epochs", "runs"))
    given = Parts(trainer, loss, augmentation, epochs, None, runs)
    for name in parts(trainer).said.keys() & given.said.keys():
        field = "runs" if name == "seed" else name
        fields[field].problem(f"{trainer} says it in its name already: leave one out", "TWO_VARIANTS")
    ending = [loss, augmentation, f"{epochs}epochs" if epochs else ""]
    name = "_".join([trainer, *filter(None, ending)])
    return [f"{name}_seed{run}" for run in range(1, runs + 1)] if runs else [name]
