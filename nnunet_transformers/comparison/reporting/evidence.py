"""Everything a report says is from here: what was asked of it, and what its files said when they were read, once.

Sections are pure functions of this value and of the numbers computed from it. Only the voxels of the example cases are
read later: which cases they are is for the numbers to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nnunet_transformers.comparison.nnunet.results import Model, read_splits
from nnunet_transformers.comparison.nnunet.state import configuration_of, fold_state, load_json
from nnunet_transformers.comparison.nnunet.timing import read_training
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.provenance import provenance


@dataclass(frozen=True, kw_only=True)
class Evidence(ReportInput):
    """A report's input with what was read for it; models go by their identifier.

    Attributes:
        configurations: each model's configuration in its plans with what it inherits; empty without the plans.
        splits: the folds of splits_final.json; None without the file.
        resume: per model and missing fold, the option with which nnUNetv2_train goes on from what is there.
        knows_subjects: whether a table of cases says whose they are.
        facts: where the numbers come from, as (name, value).
    """

    configurations: Mapping[str, Mapping[str, Any]]
    splits: list[dict[str, list[str]]] | None
    resume: Mapping[tuple[str, int], str]
    knows_subjects: bool
    facts: tuple[tuple[str, str], ...]


def gather(given: ReportInput) -> Evidence:
    """Read what a report needs beside its scores.

    Raises:
        ComparisonError: splits_final.json cannot be read.
    """
    models = given.results.models
    asked = {field.name: getattr(given, field.name) for field in fields(ReportInput) if field.init}
    trainings = given.trainings or {model.identifier: read_training(model) for model in models}
    path = given.data.splits
    return Evidence(
        **{**asked, "trainings": trainings},
        configurations={model.identifier: _configuration(model) for model in models},
        splits=read_splits(path) if path else None,
        resume={
            (model.identifier, fold): fold_state(model.folder / f"fold_{fold}").value or ""
            for model in models
            for fold in model.missing_folds
        },
        knows_subjects=bool(given.data.raw and (given.data.raw / "cases.tsv").is_file()),
        facts=tuple(provenance(given.results, given.data, given.name_of, trainings)),
    )


def _configuration(model: Model) -> dict[str, Any]:
    plans = load_json(model.folder / "plans.json")
    if not isinstance(plans, dict) or "configurations" not in plans:
        return {}
    return configuration_of(plans, model.configuration) or {}
