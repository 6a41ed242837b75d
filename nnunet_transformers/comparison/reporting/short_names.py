"""Short names for long reports: a model's full name stands once, in the table of models."""

from __future__ import annotations

from dataclasses import replace

from nnunet_transformers.comparison.reporting.inputs import ReportInput

FEW_MODELS = 6
_PREFIX = "nnUNetTrainer"
_ENSEMBLE = "ensemble of "


def with_short_names(given: ReportInput) -> ReportInput:
    """The input of a report of many models with names that fit a column: SwinUNETR for nnUNetTrainerSwinUNETR.

    As it is where there are few models, or where two names would become one.
    """
    names = dict.fromkeys([*given.models, *given.names.values()])
    short = {name: _short(name) for name in names}
    if (
        len(given.models) <= FEW_MODELS
        or len(set(short.values())) < len(short)
        or all(a == b for a, b in short.items())
    ):
        return given
    remark = "Names of models leave nnUNetTrainer out; the table of models has the full ones."
    return replace(
        given,
        scores=given.scores.assign(model=given.scores["model"].map(short)),
        lesions=given.lesions.assign(model=given.lesions["model"].map(short)),
        names={identifier: short[name] for identifier, name in given.names.items()},
        baseline=short.get(given.baseline, given.baseline),
        test_sets=tuple(
            replace(each, predictions={short.get(name, name): folder for name, folder in each.predictions.items()})
            for each in given.test_sets
        ),
        remarks=(*given.remarks, remark),
    )


def _short(name: str) -> str:
    members = name.removeprefix(_ENSEMBLE).split(" + ")
    return " + ".join(
        rest if (rest := member.removeprefix(_PREFIX)) and rest[0].isalnum() else member for member in members
    )
