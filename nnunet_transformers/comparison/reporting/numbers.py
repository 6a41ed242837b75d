"""All numbers of a report, computed once: what `statistics` says about the scores that may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.definitions import METRICS, SCORINGS
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.reporting.checks import different_cases, without_doubled_cases
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.kept_tables import Tables, kept_or_computed, stamp_of
from nnunet_transformers.comparison.statistics.challenge_ranks import ChallengeRanking, rank_as_challenge
from nnunet_transformers.comparison.statistics.detection import detection_by_size
from nnunet_transformers.comparison.statistics.paired import comparisons
from nnunet_transformers.comparison.statistics.ranks import Ranking, rank_models
from nnunet_transformers.comparison.statistics.sites import Heterogeneity, site_agreement
from nnunet_transformers.comparison.statistics.strata import (
    lesion_size_cuts,
    stratum_comparisons,
    stratum_summaries,
    with_volumes,
)
from nnunet_transformers.comparison.statistics.summary import summaries
from nnunet_transformers.comparison.statistics.verdict import Verdict


@dataclass(frozen=True)
class Numbers:
    """Numbers of all sets; each table is written as a CSV file.

    Attributes:
        scores: without cases that a model has twice; the baseline's rows first, as in all tables.
        summaries, comparisons: of every metric, see `statistics.summary` and `statistics.paired`.
        stratum_summaries, stratum_comparisons: of the report's metric, with the volumes of the quarters by lesion size,
            see `statistics.strata`.
        rankings: per set, of the models that were scored on all of its cases.
        unranked: per set without a ranking, why there is none.
        challenge: per set, the same models ranked by all metrics of the scoring.
        agreement: per set and model, how its difference to the baseline varies between sites.
        detection: the share of lesions that each model finds, by their size, see `statistics.detection`.
        lesion_free: sets none of whose references holds a lesion: nothing is told of how lesions are segmented.
        lacking: per (set, model), the cases of the set another model has a value of the report's metric for and this
            one has not.
        notes: what was left out and why.
    """

    scores: pd.DataFrame
    summaries: pd.DataFrame
    comparisons: pd.DataFrame
    stratum_summaries: pd.DataFrame
    stratum_comparisons: pd.DataFrame
    rankings: Mapping[str, Ranking]
    unranked: Mapping[str, str]
    challenge: Mapping[str, ChallengeRanking]
    agreement: Mapping[str, Mapping[str, Heterogeneity]]
    detection: pd.DataFrame
    lesion_free: frozenset[str]
    lacking: Mapping[tuple[str, str], list[str]]
    notes: tuple[str, ...]

    @property
    def sets(self) -> list[str]:
        """Cross-validation first."""
        return sorted(dict.fromkeys(self.scores["set"]), key=lambda name: name != CROSS_VALIDATION)

    def of_metric(self, metric: str) -> pd.DataFrame:
        return self.scores[self.scores["metric"] == metric]


def compute(given: ReportInput, kept: Path | None = None) -> Numbers:
    """Compute all numbers.

    Args:
        kept: a file that keeps the tables for the next report of the same scores, see `kept_tables`.

    Raises:
        ComparisonError: see `statistics`; a case with two different reference volumes, for example.
    """
    scores, notes = without_doubled_cases(given.scores)
    place = {model: number for number, model in enumerate(given.models)}
    scores = scores.sort_values("model", key=lambda models: models.map(place), kind="stable", ignore_index=True)
    known = scores["metric"].isin(METRICS)
    for metric in dict.fromkeys(scores.loc[~known, "metric"]):
        notes.append(f"Metric {metric}: it has no definition here, so it is not shown.")
    scores = scores[known]
    if scores.empty:
        raise ComparisonError(
            "no score is left to report: " + " ".join(notes),
            "Delete the folds that do not belong to the present splits_final.json, train them again and evaluate. "
            "Nothing was written.",
            "NO_SCORES",
        )
    of_metric = scores[scores["metric"] == given.metric]
    lacking = different_cases(of_metric[of_metric["value"].notna()])
    not_scored = different_cases(scores)
    cuts = lesion_size_cuts(of_metric)
    stamp = stamp_of(scores, given.lesions, given.baseline, given.metric, given.options)
    tables = kept_or_computed(kept, stamp, lambda: _tables(scores, of_metric, given))
    lesion_free = _lesion_free(scores)
    rankings: dict[str, Ranking] = {}
    unranked: dict[str, str] = {}
    challenge: dict[str, ChallengeRanking] = {}
    for name, rows in of_metric.groupby("set", sort=False):
        out = [model for where, model in not_scored if where == name]
        complete = rows[~rows["model"].isin(out)]
        if name in lesion_free:
            unranked[str(name)] = "no reference holds a lesion."
        elif complete["model"].nunique() < 2:
            unranked[str(name)] = "fewer than two models were scored on all cases."
        elif METRICS[given.metric].higher_is_better is None:
            unranked[str(name)] = f"no direction of {given.metric} is better."
        elif complete.pivot(index="case", columns="model", values="value").dropna().empty:
            unranked[str(name)] = "no case has a defined value of every model."
        else:
            rankings[str(name)] = rank_models(complete, given.options)
            ranked, said = _as_challenge(
                scores[(scores["set"] == name) & scores["model"].isin(complete["model"])], given
            )
            challenge |= {str(name): ranked} if ranked else {}
            notes += [f"Ranking by {given.scoring} ({name}): {text}." for text in said]
    return Numbers(
        scores,
        tables["summaries"],
        _without_verdicts(tables["comparisons"], lesion_free),
        with_volumes(tables["stratum_summaries"], cuts),
        _without_verdicts(with_volumes(tables["stratum_comparisons"], cuts), lesion_free),
        rankings,
        unranked,
        challenge,
        {str(name): site_agreement(rows, given.baseline) for name, rows in of_metric.groupby("set", sort=False)},
        tables["detection"],
        lesion_free,
        lacking,
        (*notes, *(f"Ranking ({name}): {why}" for name, why in unranked.items())),
    )


def _tables(scores: pd.DataFrame, of_metric: pd.DataFrame, given: ReportInput) -> Tables:
    return {
        "summaries": summaries(scores, given.options),
        "comparisons": comparisons(scores, given.baseline, given.options),
        "stratum_summaries": stratum_summaries(of_metric, given.options),
        "stratum_comparisons": stratum_comparisons(of_metric, given.baseline, given.options),
        "detection": detection_by_size(_of_scored(given.lesions, scores), given.options),
    }


def _as_challenge(scores: pd.DataFrame, given: ReportInput) -> tuple[ChallengeRanking | None, list[str]]:
    """The models that have all metrics of the scoring ranked by them; and what was left out, as ends of sentences."""
    defined = scores[scores["value"].notna()]
    metrics = [name for name in SCORINGS[given.scoring] if name in set(defined["metric"])]
    absent = [METRICS[name].label for name in SCORINGS[given.scoring] if name not in metrics]
    said = [f"without {joined(absent)}, of which no model has a value"] if absent else []
    models = {name: set(defined.loc[defined["metric"] == name, "model"]) for name in metrics}
    lacking = [
        model for model in dict.fromkeys(scores["model"]) if not all(model in there for there in models.values())
    ]
    said += [f"without {joined(lacking)}, which {_lacks(lacking)} a metric"] if lacking else []
    ranked = scores[~scores["model"].isin(lacking)]
    if ranked["model"].nunique() < 2:
        return None, said
    return rank_as_challenge(ranked, metrics, given.options), said


def _lacks(models: Sequence[str]) -> str:
    return "lacks" if len(models) == 1 else "lack"


def _of_scored(lesions: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The lesions of the cases that are in the scores, models in their order."""
    order = {model: place for place, model in enumerate(dict.fromkeys(scores["model"]))}
    kept = lesions.merge(scores[["model", "set", "case"]].drop_duplicates(), on=["model", "set", "case"])
    return kept.sort_values("model", key=lambda models: models.map(order), kind="stable", ignore_index=True)


def _lesion_free(scores: pd.DataFrame) -> frozenset[str]:
    largest = scores.groupby("set", sort=False)["reference_ml"].max()
    return frozenset(map(str, largest.index[largest == 0]))


def _without_verdicts(compared: pd.DataFrame, lesion_free: frozenset[str]) -> pd.DataFrame:
    """Nothing is decided on sets without a lesion: a model that predicts nothing would be the best of all."""
    there = compared["set"].isin(lesion_free)
    if not there.any():
        return compared
    decided = compared.copy()
    decided.loc[there, "verdict"] = Verdict.UNDECIDED
    decided.loc[there, "reason"] = "no reference holds a lesion"
    return decided
