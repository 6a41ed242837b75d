"""Which model the others are compared with, where nobody says."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_transformers.comparison.nnunet.results import Model, Results
from nnunet_transformers.comparison.nnunet.timing import Training


def choose_baseline(results: Results, trainings: Mapping[str, Training]) -> tuple[Model, str]:
    """The model to compare with: complete, trained longest, and then nnU-Net's own.

    A trial of a few epochs comes after every real training, whatever folds it has; of two alike, one at full resolution
    comes first, then the first by name.

    Args:
        trainings: by the identifier of the model.

    Returns:
        The model, and why it is the one, as the end of a sentence.
    """

    def place(model: Model) -> tuple[bool, int, int, bool, bool, str]:
        training = trainings[model.identifier]
        return (
            training.is_short,
            len(model.missing_folds),
            -training.updates,
            not model.is_stock,
            model.configuration != "3d_fullres",
            model.identifier,
        )

    chosen = min(results.models, key=place)
    alike = [model for model in results.models if place(model)[:3] == place(chosen)[:3]]
    if len(results.models) == 1:
        return chosen, "it is the only model"
    folds = "all folds" if not chosen.missing_folds else "the most folds"
    among = f"of the models with {folds} and the longest training"
    if len(alike) == 1:
        return chosen, f"{among} it is the only one"
    which = "it is nnU-Net's own" if chosen.is_stock else "none is nnU-Net's own and it is the first by name"
    return chosen, f"{among} ({trainings[chosen.identifier].length}) {which}"
