"""The long tables of one set: every metric, every difference, every case."""

from __future__ import annotations

import math

import pandas as pd

from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.reporting.blocks import Estimate, Table
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_value, percent
from nnunet_transformers.comparison.reporting.views import SetView, footnote, for_file, heading, records, verdict_text


def all_metrics(view: SetView) -> Table:
    summaries = view.of(view.numbers.summaries)
    rows = []
    for row in records(_best_first(summaries, "mean")):
        unit = METRICS[row.metric].unit
        rows.append(
            [
                heading(METRICS[row.metric]),
                "–" if pd.isna(row.rank) else str(int(row.rank)),
                row.model,
                str(row.n),
                str(row.undefined),
                Estimate(number(row.mean, unit), interval(row.mean_low, row.mean_high, unit)),
                Estimate(number(row.median, unit), interval(row.median_low, row.median_high, unit)),
                f"{number(row.lower_quartile, unit)} – {number(row.upper_quartile, unit)}",
            ]
        )
    head = ["metric", "rank", "model", "n", "undefined", "mean", "median", "quartiles"]
    return Table(
        "All metrics: means, medians and quartiles over n cases, with intervals. Ranks: of models with all cases.",
        head, rows, name=f"summaries{view.suffix}", numeric=False, folded=True, data=for_file(summaries),
    )  # fmt: skip


def differences(view: SetView) -> Table | None:
    comparisons = view.of(view.numbers.comparisons)
    rows = []
    for row in records(_best_first(comparisons, "mean_difference")):
        metric = METRICS[row.metric]
        rows.append(
            [
                heading(metric),
                row.model,
                str(row.n),
                Estimate(
                    number(row.mean_difference, metric.unit, signed=True),
                    interval(row.mean_low, row.mean_high, metric.unit, signed=True),
                ),
                number(row.median_difference, metric.unit, signed=True),
                p_value(row.p_holm),
                number(row.rank_biserial, signed=True),
                "" if pd.isna(row.wins) else f"{row.wins} / {row.ties} / {row.losses}",
                "" if math.isnan(row.probability_better) else percent(row.probability_better),
                "" if math.isnan(row.p_equivalence_holm) else p_value(row.p_equivalence_holm),
                verdict_text(row, mark=True),
            ]
        )
    if not rows:
        return None
    head = [
        "metric", "model", "n", "mean difference", "median difference", "p (Holm)", "effect size",
        "better / equal / worse", "P(better)", "p of equivalence (Holm)", "verdict",
    ]  # fmt: skip
    return Table(
        f"All metrics: differences to the baseline {view.given.baseline} on the cases that both were scored on. "
        "Effect size: matched-pairs rank-biserial correlation, positive where the model's values are higher."
        f"{footnote(comparisons)}",
        head, rows, name=f"comparisons{view.suffix}", numeric=False, folded=True, data=for_file(comparisons),
    )  # fmt: skip


def _best_first(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """The rows of each metric by its better direction, with a `rank` of those that have as many cases as any."""
    gain = table[value] * table["metric"].map(lambda name: METRICS[name].sign)
    directed = table["metric"].map(lambda name: METRICS[name].higher_is_better is not None)
    complete = table["n"] == table.groupby("metric", sort=False)["n"].transform("max")
    place = table["metric"].map({name: place for place, name in enumerate(dict.fromkeys(table["metric"]))})
    rank = gain.where(complete & directed).groupby(table["metric"]).rank(method="min", ascending=False)
    ordered = table.assign(rank=rank, place=place, gain=gain.where(directed, 0.0))
    return ordered.sort_values(["place", "gain"], ascending=[True, False], kind="stable")


def every_case(view: SetView) -> Table:
    values = view.values
    volumes = view.volumes
    without = [set(view.numbers.lacking.get((view.name, model), ())) for model in view.models]
    order = sorted(values.index, key=lambda case: (math.isnan(volumes[case]), volumes[case], case))
    rows = [
        [
            case,
            "unknown" if math.isnan(volumes[case]) else number(volumes[case], "ml"),
            *("not scored" if not scored else number(value, view.metric.unit) for value, scored in cells),
        ]
        for case in order
        for cells in [zip(values.loc[case], (case not in lacking for lacking in without), strict=True)]
    ]
    data = for_file(view.of(view.numbers.scores))
    return Table(
        f"Every case by {view.metric.label}, smallest lesion first. All metrics: tables/cases{view.suffix}.csv.",
        ["case", "reference (ml)", *view.models], rows, name=f"cases{view.suffix}", folded=True, data=data,
    )  # fmt: skip
