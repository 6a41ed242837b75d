"""Each model against a baseline, on the cases that both were scored on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.statistics.bootstrap import (
    bootstrap_means,
    bootstrap_quantiles,
    interval,
    resample_counts,
    resample_weights,
    tail_probability,
)
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.pair_tests import (
    holm,
    signed_rank_test,
    t_equivalence,
    wilson_interval,
)
from nnunet_transformers.comparison.statistics.scores import checked, metric_definition
from nnunet_transformers.comparison.statistics.sites import SiteLevel, site_level
from nnunet_transformers.comparison.statistics.summary import in_order_of
from nnunet_transformers.comparison.statistics.verdict import verdict

# Digits after the point that differences are rounded to: 0.9 - 0.8 and 0.4 - 0.3 are a tie.
DECIMALS = 10


@dataclass(frozen=True)
class PairedComparison:
    """Model minus baseline over cases; what cannot be computed is not a number (NaN), counts are 0.

    Attributes:
        n, n_subjects: cases with a defined value of both, and their subjects.
        n_sites: that were resampled, see `sites.RULE`; 0 where subjects were.
        undefined: cases scored by both with an undefined value of either, left out.
        mean_difference, median_difference: over cases, with intervals that resample sites or subjects.
        p: two-sided; of the mean difference where sites were resampled, else `p_subjects`.
        mean_low_subjects, mean_high_subjects: interval of the mean difference that resamples subjects.
        p_subjects: two-sided, Wilcoxon's signed-rank test on one mean difference per subject.
        rank_biserial: of the same; positive if the model's values are higher.
        wins, ties, losses: cases on which the model is better, equal, worse; missing for a metric without a better
            direction.
        probability_better: that the model is better than the baseline on a case: (wins + ties / 2) / n. Wilson interval
            at the effective number of cases if all cases of a subject agreed (Kish 1965).
        margin: of equivalence.
        p_equivalence: two one-sided tests on the mean difference, by the bootstrap or by t tests over sites.
        p_equivalence_t: the same by t tests on one mean difference per subject, for reference.
    """

    n: int
    n_subjects: int
    n_sites: int
    undefined: int
    mean_difference: float
    mean_low: float
    mean_high: float
    median_difference: float
    median_low: float
    median_high: float
    mean_low_subjects: float
    mean_high_subjects: float
    p: float
    p_subjects: float
    rank_biserial: float
    wins: int | None
    ties: int | None
    losses: int | None
    probability_better: float
    probability_low: float
    probability_high: float
    margin: float
    p_equivalence: float
    p_equivalence_t: float


def compare_pairs(
    model: np.ndarray,
    baseline: np.ndarray,
    subjects: np.ndarray,
    sites: np.ndarray | None = None,
    *,
    higher_is_better: bool | None,
    margin: float | None,
    options: Options,
) -> PairedComparison:
    """Compare two models on the same cases.

    Args:
        model, baseline: (n,), values of the same cases in the same order, NaN where undefined.
        subjects: (n,), a name or number per case.
        sites: (n,), the name of a site per case, "" where it is not known.
        higher_is_better: None for a metric without a better direction.
        margin: of equivalence, in the metric's unit; None: not tested.
    """
    differences = np.round(model - baseline, DECIMALS)
    defined = ~np.isnan(differences)
    differences = differences[defined]
    names, codes = np.unique(subjects[defined], return_inverse=True)
    n, n_subjects = len(differences), len(names)
    mean = median = p_equivalence = p_equivalence_t = math.nan
    mean_interval = median_interval = of_subjects = (math.nan, math.nan)
    per_subject = np.round(_subject_means(differences, codes), DECIMALS)
    level = site_level(differences, None if sites is None else sites[defined])
    ranks = signed_rank_test(per_subject)
    p = ranks.p
    if n:
        mean, median = float(differences.mean()), float(np.median(differences))
        means = bootstrap_means(differences, codes, resample_weights(n_subjects, options.resamples, options.seed))
        mean_interval = of_subjects = interval(means, n_subjects, options.confidence)
        if level:
            mean_interval, p = level.interval(options.confidence), level.p
        median_interval = _median_interval(differences, codes, level, options)
        if margin is not None:
            p_equivalence = max(
                tail_probability(means, -margin, n_subjects), tail_probability(-means, -margin, n_subjects)
            )
            p_equivalence = level.p_equivalence(margin) if level else p_equivalence
            p_equivalence_t = t_equivalence(per_subject, margin)
    wins, ties, losses = _wins(differences, higher_is_better)
    probability = math.nan if wins is None or ties is None or not n else (wins + ties / 2) / n
    return PairedComparison(
        n,
        n_subjects,
        level.n_sites if level else 0,
        int((~defined).sum()),
        mean,
        *mean_interval,
        median,
        *median_interval,
        *of_subjects,
        p,
        ranks.p,
        ranks.rank_biserial,
        wins,
        ties,
        losses,
        probability,
        *wilson_interval(probability, _effective_cases(codes), options.confidence),
        math.nan if margin is None else margin,
        p_equivalence,
        p_equivalence_t,
    )


def _median_interval(
    differences: np.ndarray, codes: np.ndarray, level: SiteLevel | None, options: Options
) -> tuple[float, float]:
    drawn, number = (level.codes, level.n_sites) if level else (codes, int(codes.max()) + 1)
    counts = resample_counts(number, options.resamples, options.seed)
    (medians,) = bootstrap_quantiles(differences, drawn, counts, (0.5,))
    if level is None:
        return interval(medians, number, options.confidence)
    means = bootstrap_means(differences, drawn, resample_weights(number, options.resamples, options.seed))
    return level.interval_of(float(np.median(differences)), medians, means, options.confidence)


def comparisons(scores: pd.DataFrame, baseline: str, options: Options) -> pd.DataFrame:
    """Every other model against the baseline: a row per set, metric and model.

    Returns:
        Columns set, metric, model, baseline; only_model, only_baseline (cases scored by one of the two, left out);
        the fields of `PairedComparison`; p_holm and p_equivalence_holm, corrected over the models of one set and
        metric; verdict (a `Verdict`) and reason, see `verdict.RULES`.

    Raises:
        ComparisonError: see `scores.checked`; or the baseline has no scores at all.
    """
    return comparisons_by(checked(scores), [], baseline, scores, options)


def comparisons_by(
    table: pd.DataFrame, by: Sequence[str], baseline: str, order: pd.DataFrame, options: Options
) -> pd.DataFrame:
    """`comparisons` of a checked table within the groups of more columns; one family per set, metric and by[0]."""
    models = list(order["model"].dropna().unique())
    if baseline not in models:
        raise ComparisonError(
            f"the baseline has no scores: {baseline}; scored are {', '.join(models) or 'none'}",
            "Name one of these as baseline, or train and evaluate it. Nothing was written.",
            "BASELINE_WITHOUT_SCORES",
        )
    keys = ["set", "metric", *by]
    rows = []
    for key, group in table.groupby(keys, sort=False, observed=True):
        where: dict[str, Any] = dict(zip(keys, key, strict=True))
        definition = metric_definition(where["metric"])
        values = {name: one.set_index("case") for name, one in group.groupby("model", sort=False)}
        reference = values.pop(baseline, group.iloc[:0].set_index("case"))
        for name, one in values.items():
            both = one.index.intersection(reference.index, sort=False)
            result = compare_pairs(
                one.loc[both, "value"].to_numpy(),
                reference.loc[both, "value"].to_numpy(),
                one.loc[both, "subject"].to_numpy(),
                one.loc[both, "site"].to_numpy() if "site" in one else None,
                higher_is_better=definition.higher_is_better,
                margin=options.margins.get(where["metric"]),
                options=options,
            )
            rows.append(
                {
                    **where,
                    "model": name,
                    "baseline": baseline,
                    "only_model": len(one) - len(both),
                    "only_baseline": len(reference) - len(both),
                    **asdict(result),
                }
            )
    leading = [*keys, "model", "baseline", "only_model", "only_baseline"]
    frame = pd.DataFrame(rows, columns=[*leading, *PairedComparison.__dataclass_fields__])
    frame = frame.astype({"wins": "Int64", "ties": "Int64", "losses": "Int64"})
    frame = in_order_of(frame, [*keys, "model"], order)
    return _with_verdicts(frame, ["set", "metric", *by[:1]], options)


def _with_verdicts(frame: pd.DataFrame, family: list[str], options: Options) -> pd.DataFrame:
    for column in ("p", "p_equivalence"):
        frame[f"{column}_holm"] = frame.groupby(family, observed=True)[column].transform(lambda p: holm(p.to_numpy()))
    verdicts = [
        verdict(
            n_subjects=row["n_subjects"],
            by_sites=row["n_sites"] > 0,
            mean_difference=row["mean_difference"],
            rank_biserial=row["rank_biserial"],
            p=row["p_holm"],
            p_equivalence=row["p_equivalence_holm"],
            margin=row["margin"],
            higher_is_better=metric_definition(row["metric"]).higher_is_better,
            alpha=options.alpha,
        )
        for row in frame.to_dict("records")
    ]
    words = pd.Series([word for word, _ in verdicts], index=frame.index, dtype=object)
    return frame.assign(verdict=words, reason=[reason for _, reason in verdicts])


def _subject_means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n_cases,) -> (n_subjects,)."""
    return np.bincount(codes, weights=values) / np.bincount(codes)


def _effective_cases(codes: np.ndarray) -> float:
    """Kish's effective sample size with full correlation within subjects; the number of cases if each has one."""
    cases = np.bincount(codes).astype(float)
    return float(cases.sum() ** 2 / (cases**2).sum()) if len(cases) else 0.0


def _wins(differences: np.ndarray, higher_is_better: bool | None) -> tuple[int, int, int] | tuple[None, None, None]:
    if higher_is_better is None:
        return None, None, None
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    equal = len(differences) - higher - lower
    return (higher, equal, lower) if higher_is_better else (lower, equal, higher)
