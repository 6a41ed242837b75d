"""What models are called in a report, and what their names say of how they were trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.nnunet.model_id import ModelId
from nnunet_transformers.comparison.nnunet.results import Model, Results
from nnunet_transformers.training.variant_names import Parts, parts

_RECIPE = {"loss", "augmentation", "epochs", "iterations"}


def short_names(results: Results) -> dict[str, str]:
    """A readable name per model and ensemble: what all models have in common is left out of it, see `left_out`.

    `nnUNetTrainer_5epochs_seed1` and `nnUNetTrainerSwinUNETR_5epochs_seed2` become `nnUNetTrainer · seed 1` and
    `nnUNetTrainerSwinUNETR · seed 2`; plans and configuration appear if they differ.
    """
    common = _common(results)
    same_plans = len({model.plans for model in results.models}) == 1
    same_configuration = len({model.configuration for model in results.models}) == 1

    def named(model: Model, trainer: str) -> str:
        return " · ".join(
            [trainer, *([] if same_plans else [model.plans]), *([] if same_configuration else [model.configuration])]
        )

    names = {model.identifier: named(model, _short(model.trainer, common)) for model in results.models}
    count = Counter(names.values())
    for model in results.models:
        if count[names[model.identifier]] > 1:  # of the same parts in another order
            names[model.identifier] = named(model, model.trainer)
    for ensemble in results.ensembles:
        names[ensemble.identifier] = ensemble_label([names.get(member, member) for member in ensemble.members])
    return names


def ensemble_label(members: Iterable[str]) -> str:
    """What an ensemble is called, by the names of its members."""
    return "ensemble of " + " + ".join(members)


def left_out(results: Results) -> str:
    """What all trainers' names say, and is left out of them, as a sentence; empty where there is nothing."""
    common = _common(results)
    if not common.said:
        return ""
    told = [parts(model.trainer) for model in results.models]
    if _RECIPE & common.said.keys() and len({each.recipe for each in told}) == 1:
        return (
            f"By their names all trainers have the same recipe, loss, augmentation and length, which is left out of "
            f"them: {common}."
        )
    return f"The names of all trainers say {common}, which is left out of them."


def repetitions(names: Mapping[str, str]) -> list[str]:
    """A sentence per model that was trained several times with other seeds.

    Args:
        names: what each model is called in the report, by its identifier.
    """
    alike: dict[tuple[Parts, str, str], list[str]] = {}
    seeded = set()
    for identifier, name in names.items():
        if model := ModelId.parse(identifier):
            training = (replace(model.parts, seed=None), model.plans, model.configuration)
            alike.setdefault(training, []).append(name)
            if model.parts.seed:
                seeded.add(training)
    return [
        f"{joined(those)} are repetitions of one training with other seeds: what differs between them is chance."
        for training, those in alike.items()
        if len(those) > 1 and training in seeded
    ]


def _common(results: Results) -> Parts:
    """What the names of all trainers say alike, without a base; nothing of a single one."""
    told = [parts(model.trainer).said.items() for model in results.models]
    return Parts("", **dict(set.intersection(*map(set, told)))) if len(told) > 1 else Parts("")


def _short(trainer: str, common: Parts) -> str:
    """The trainer without what is common, and what else its name says as words."""
    told = parts(trainer)
    rest = {key: value for key, value in told.said.items() if key not in common.said}
    return " · ".join([told.base, *str(Parts("", **rest)).split(", ")] if rest else [told.base])
