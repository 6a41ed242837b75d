"""The numbers of the report's score tables. Undefined Dice values are counted and named, never averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from nnunet_transformers.comparison.results import Ensemble, Model, Results


@dataclass(frozen=True)
class ScoreRow:
    """Dice of one model or ensemble for one label over its cases.

    Attributes:
        n: cases with a defined Dice: those that the mean, the median and the quartiles are taken over.
        undefined: cases where reference and prediction are both empty.
        missing: cases other models were scored on and this one was not.
        best: it has the highest mean of all that were scored on every case; nothing is best where all means are 0.
    """

    name: str
    label: str
    n: int
    mean: float
    median: float
    lower_quartile: float
    upper_quartile: float
    zeros: int
    undefined: tuple[str, ...]
    missing: tuple[str, ...]
    missing_folds: tuple[int, ...]
    best: bool


def score_rows(results: Results) -> list[ScoreRow]:
    """A row per label, and in it per model and ensemble, in the order of the results."""
    names = short_names(results)
    entries = entries_of(results)
    rows = []
    for label in labels(results):
        scored = {e.identifier: e.scores[e.scores["label"] == label] for e in entries}
        every_case = sorted({case for scores in scored.values() for case in scores["case"]})
        missing = {key: tuple(c for c in every_case if c not in set(scores["case"])) for key, scores in scored.items()}
        complete = [key for key, scores in scored.items() if not missing[key] and scores["dice"].notna().any()]
        means = {key: float(scored[key]["dice"].mean()) for key in complete}
        highest = max(means.values(), default=0.0)
        ranked = len(means) > 1 and highest > 0
        leading = [key for key, mean in means.items() if ranked and math.isclose(mean, highest, rel_tol=1e-9)]
        for entry in entries:
            key, scores = entry.identifier, scored[entry.identifier]
            dice = scores["dice"].dropna()
            lower, middle, upper = dice.quantile([0.25, 0.5, 0.75])
            rows.append(
                ScoreRow(
                    name=names[key],
                    label=label,
                    n=len(dice),
                    mean=float(dice.mean()),
                    median=float(middle),
                    lower_quartile=float(lower),
                    upper_quartile=float(upper),
                    zeros=int((dice == 0).sum()),
                    undefined=tuple(scores.loc[scores["dice"].isna(), "case"]),
                    missing=missing[key],
                    missing_folds=entry.missing_folds if isinstance(entry, Model) else (),
                    best=key in leading,
                )
            )
    return rows


def labels(results: Results) -> list[str]:
    """Labels scored by any model, in the order of first appearance."""
    return list(dict.fromkeys(label for model in results.models for label in model.scores["label"]))


def short_names(results: Results) -> dict[str, str]:
    """A readable name per model and ensemble: what all models have in common is left out of it.

    `nnUNetTrainer_5epochs` and `nnUNetTrainerSwinUNETR_5epochs` become `nnUNetTrainer` and `nnUNetTrainerSwinUNETR`;
    plans and configuration appear if they differ.
    """
    suffix = _common_ending([model.trainer for model in results.models])
    same_plans = len({model.plans for model in results.models}) == 1
    same_configuration = len({model.configuration for model in results.models}) == 1
    names = {}
    for model in results.models:
        parts = [model.trainer.removesuffix(suffix)]
        parts += [] if same_plans else [model.plans]
        parts += [] if same_configuration else [model.configuration]
        names[model.identifier] = " · ".join(parts)
    for ensemble in results.ensembles:
        names[ensemble.identifier] = "ensemble of " + " + ".join(names.get(m, m) for m in ensemble.members)
    return names


def wide_table(results: Results, label: str) -> pd.DataFrame:
    """Dice of one label, a row per case (smallest reference first), a column per short name."""
    names = short_names(results)
    columns = {}
    volumes: dict[str, int] = {}
    for entry in entries_of(results):
        scores = entry.scores[entry.scores["label"] == label].set_index("case")
        columns[names[entry.identifier]] = scores["dice"]
        volumes.update(scores["reference_voxels"])
    table = pd.DataFrame(columns)
    return table.loc[sorted(table.index, key=lambda case: (volumes[case], case))]


def entries_of(results: Results) -> list[Model | Ensemble]:
    """Models, then ensembles."""
    return [*results.models, *results.ensembles]


def _common_ending(names: Iterable[str]) -> str:
    """The `_5epochs_20iterations` that all of the names end in, or nothing."""
    endings = [name[name.find("_") :] if "_" in name else "" for name in names]
    return endings[0] if len(endings) > 1 and len(set(endings)) == 1 else ""
