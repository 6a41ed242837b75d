"""The steps that plan and preprocess a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

from nnunet_transformers.comparison.experiment.model import CASCADE, FULLRES, LOWRES, Model
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.references import cut_off_references, restore_references
from nnunet_transformers.comparison.nnunet.state import is_preprocessed, plans_of
from nnunet_transformers.comparison.running.place import Place
from nnunet_transformers.comparison.running.step import Step


class _PlanOptions(TypedDict):
    planner: str
    spacing: Sequence[float]
    plans: str


def preprocessing_steps(place: Place, models: Sequence[Model]) -> tuple[list[Step], dict[str, str]]:
    """Steps that plan and preprocess, one after the other, and for each plans the name of the step that is its last.

    nnU-Net's plans may share preprocessed data, and preprocessing empties its folder: so never two at a time.
    """
    by_plans: dict[str, list[Model]] = {}
    for model in models:
        by_plans.setdefault(model.plans, []).append(model)
    lock = place.preprocessed / ".lock"
    found: list[Step] = []
    ready = {}

    def add(
        name: str, command: Command, done: Callable[[], bool], prepare: Callable[[], Command | None] | None = None
    ) -> None:
        needs = [found[-1].name] if found else []
        found.append(place.step(name, command, done, lock=lock, needs=needs, stays_done=True, prepare=prepare))

    # Plans made from nothing but the data come first: they leave the fingerprint and dataset.json for the others.
    for plans, of_plans in sorted(by_plans.items(), key=lambda item: item[1][0].plans_from is not None):
        model = of_plans[0]
        configurations = _preprocessed_for(of_plans)
        planned = partial(_is_planned, place.preprocessed, plans)
        preprocessed = partial(_is_preprocessed, place, plans, configurations)
        preprocess = commands.preprocess(place.dataset.id, plans, configurations)
        if plans == "nnUNetPlans" or model.planner or model.target_spacing:
            options = _PlanOptions(
                planner=model.planner, spacing=model.target_spacing, plans=plans if plans != "nnUNetPlans" else ""
            )
            if not found:
                everything = commands.plan_and_preprocess(place.dataset.id, *configurations, **options)
                left = partial(_rest_of_preprocessing, place, plans, configurations, everything, preprocess)
                add(f"preprocess {plans}", everything, preprocessed, left)
                ready[plans] = found[-1].name
                continue
            add(f"plan {plans}", commands.plan_experiment(place.dataset.id, **options), planned)
        else:
            if not found:
                only_plans = commands.plan_and_preprocess(place.dataset.id)
                add("plan nnUNetPlans", only_plans, partial(_is_planned, place.preprocessed, "nnUNetPlans"))
            if model.plans_from is not None:
                move = commands.move_plans(model.plans_from, "nnUNetPlans", place.dataset.id, plans)
                add(f"plan {plans}", move, planned)
        left = partial(_rest_of_preprocessing, place, plans, configurations, preprocess, preprocess)
        add(f"preprocess {plans}", preprocess, preprocessed, left)
        ready[plans] = found[-1].name
    return found, ready


def _preprocessed_for(models: Sequence[Model]) -> list[str]:
    """What to preprocess: a cascade has the data of the full resolution, to whose grid the first stage's go."""
    both = {CASCADE, LOWRES}
    found = {model.configuration for model in models}
    return sorted({*(found - {CASCADE}), *([FULLRES] if found & both else [])})


def _is_preprocessed(place: Place, plans: str, configurations: Sequence[str]) -> bool:
    return is_preprocessed(place.preprocessed, plans, configurations) and not cut_off_references(
        place.raw, place.preprocessed
    )


def _rest_of_preprocessing(
    place: Place, plans: str, configurations: Sequence[str], everything: Command, preprocess: Command
) -> Command | None:
    restore_references(place.raw, place.preprocessed, place.results)
    if is_preprocessed(place.preprocessed, plans, configurations):
        return None
    # Plans that are there are kept: someone may have changed them.
    return preprocess if _is_planned(place.preprocessed, plans) else everything


def _is_planned(preprocessed: Path, plans: str) -> bool:
    return plans_of(preprocessed, plans) is not None
