"""What models are called in a report."""

from __future__ import annotations

from collections.abc import Iterable

from nnunet_transformers.comparison.nnunet.results import Results


def short_names(results: Results) -> dict[str, str]:
    """A readable name per model and ensemble: what all models have in common is left out of it, see `common_ending`.

    `nnUNetTrainer_5epochs` and `nnUNetTrainerSwinUNETR_5epochs` become `nnUNetTrainer` and `nnUNetTrainerSwinUNETR`;
    plans and configuration appear if they differ.
    """
    suffix = common_ending(results)
    same_plans = len({model.plans for model in results.models}) == 1
    same_configuration = len({model.configuration for model in results.models}) == 1
    names = {}
    for model in results.models:
        parts = [model.trainer.removesuffix(suffix)]
        parts += [] if same_plans else [model.plans]
        parts += [] if same_configuration else [model.configuration]
        names[model.identifier] = " · ".join(parts)
    for ensemble in results.ensembles:
        names[ensemble.identifier] = ensemble_label([names.get(member, member) for member in ensemble.members])
    return names


def ensemble_label(members: Iterable[str]) -> str:
    """What an ensemble is called, by the names of its members."""
    return "ensemble of " + " + ".join(members)


def common_ending(results: Results) -> str:
    """The `_5epochs_20iterations` that all trainers end in and that is left out of their names, or nothing."""
    trainers = [model.trainer for model in results.models]
    endings = {name[name.find("_") :] if "_" in name else "" for name in trainers}
    return endings.pop() if len(trainers) > 1 and len(endings) == 1 else ""
