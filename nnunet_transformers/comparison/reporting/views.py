"""What the sections of one set of scores share: its numbers, its models and how they are called and drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.metrics.definitions import METRICS, Metric
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.reporting.drawing import Style, model_style
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.numbers import Numbers
from nnunet_transformers.comparison.statistics.verdict import Verdict, beside_interval

_MOST_SHOWN = 4

MARKS = {Verdict.BETTER: " ▲", Verdict.WORSE: " ▼", Verdict.EQUIVALENT: " ≈", Verdict.DIFFERENT: " ≠"}
"""Of a mean beside the baseline's; nothing where it is undecided."""


@dataclass(frozen=True)
class SetView:
    """What the sections of one set are made of."""

    given: ReportInput
    numbers: Numbers
    name: str

    @property
    def metric(self) -> Metric:
        return METRICS[self.given.metric]

    @property
    def suffix(self) -> str:
        """For the names of files; nothing for cross-validation."""
        plain = "".join(character if character.isalnum() else "_" for character in self.name)
        return "" if self.name == CROSS_VALIDATION else f"_{plain}"

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[table["set"] == self.name]

    def style(self, model: str) -> Style:
        return model_style(self.given.styles[model])

    def lacks(self, model: str) -> bool:
        return (self.name, model) in self.numbers.lacking

    @property
    def drawn(self) -> str:
        """What is resampled for the intervals of the metric."""
        return "sites" if self.compared["n_sites"].gt(0).any() else "subjects"

    @cached_property
    def models(self) -> list[str]:
        """With a score of the metric, the baseline first."""
        there = set(self.of(self.numbers.of_metric(self.given.metric))["model"])
        return [model for model in self.given.models if model in there]

    @cached_property
    def ranks(self) -> dict[str, int | None]:
        """The models best first, each with its rank; those that lack cases come last and have none.

        By the mean, or by the ranks of a challenge where its scoring was asked for.
        """
        rows = self.of(self.numbers.summaries)
        means = rows[rows["metric"] == self.given.metric].set_index("model")["mean"]
        ordered = (means.loc[self.models] * self.metric.sign).sort_values(ascending=False, kind="stable")
        complete = [model for model in ordered.index if not self.lacks(model) and not math.isnan(means[model])]
        rank_of = {str(model): 1 + int((ordered[complete] > ordered[model]).sum()) for model in complete}
        if self.given.scoring != "all":
            by_challenge = self.numbers.challenge.get(self.name)
            rank_of = {model: place.rank for model, place in by_challenge.places.items()} if by_challenge else {}
        others = [str(model) for model in ordered.index if model not in rank_of]
        return rank_of | dict.fromkeys(others)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The comparisons by the metric."""
        rows = self.of(self.numbers.comparisons)
        return rows[rows["metric"] == self.given.metric]

    @cached_property
    def leading(self) -> str | None:
        """The model to compare with the baseline in detail: a better one if there is any, with the largest difference.

        Among equally placed ones, those that were scored on all cases of the set come first.
        """
        rows = self.compared[self.compared["mean_difference"].notna()]
        if rows.empty:
            return None
        order = rows.assign(
            lacks=[self.lacks(model) for model in rows["model"]],
            not_better=rows["verdict"] != Verdict.BETTER,
            gain=rows["mean_difference"] * self.metric.sign,
        ).sort_values(["not_better", "lacks", "gain", "model"], ascending=[True, True, False, True])
        return str(order["model"].iloc[0])

    @cached_property
    def shown(self) -> list[str]:
        """The models to draw where all are too many: the baseline, the leading one, and the best two others."""
        rows = self.of(self.numbers.summaries)
        rows = rows[rows["metric"] == self.given.metric]
        ordered = rows.assign(gain=rows["mean"] * self.metric.sign)
        best = ordered.sort_values(["gain", "model"], ascending=[False, True])["model"]
        there = set(rows["model"])
        first = [self.given.baseline, self.leading]
        return [model for model in dict.fromkeys([*first, *best]) if model in there][:_MOST_SHOWN]

    @cached_property
    def values(self) -> pd.DataFrame:
        """The metric by case (rows) and model, the baseline first."""
        rows = self.of(self.numbers.of_metric(self.given.metric))
        return rows.pivot(index="case", columns="model", values="value")[self.models]

    @cached_property
    def volumes(self) -> pd.Series:
        """Lesion volume in ml by case."""
        rows = self.of(self.numbers.of_metric(self.given.metric))
        return rows.drop_duplicates("case").set_index("case")["reference_ml"].astype(float)


def records(table: pd.DataFrame) -> list[Any]:
    """The rows of a table, its columns as attributes."""
    return list(table.itertuples())


def for_file(table: pd.DataFrame) -> pd.DataFrame:
    """A table of statistics as its CSV has it: with the unit of each row, without the reasons, which are sentences."""
    place = table.columns.get_loc("metric")
    assert isinstance(place, int)
    there = table.drop(columns=["reason", "reason_difference"], errors="ignore")
    there.insert(place + 1, "unit", there["metric"].map(lambda name: METRICS[name].unit))
    return there


def axis_title(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def heading(metric: Metric) -> str:
    """Of a column, with an arrow to the better side."""
    arrow = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
    return f"{axis_title(metric)}{arrow}"


def verdict_text(row: Any, *, mark: bool = False) -> str:
    """The verdict of a comparison, with why it is not what its interval suggests; or with a mark for a footnote.

    Args:
        row: of a table of comparisons, its columns as attributes.
    """
    text = row.verdict.text(row.margin)
    why = _beside_interval(row)
    return text if not why else f"{text} *" if mark else f"{text} ({why})"


def _beside_interval(row: Any) -> str:
    return beside_interval(row.verdict, row.mean_low, row.mean_high, row.margin, by_sites=row.n_sites > 0)


def footnote(comparisons: pd.DataFrame) -> str:
    """What the mark of `verdict_text` means, for a caption, where a row has it; with a space before it."""
    rows = records(comparisons)
    if not any(map(_beside_interval, rows)):
        return ""
    return " * by corrected tests, of ranks or of equivalence; the interval, of the mean alone, suggests otherwise."


def drawn_of(view: SetView) -> str:
    """A sentence for a caption where not all models are drawn."""
    every = view.models
    return f" Drawn of {len(every)} models: {joined(list(view.shown))}." if len(every) > len(view.shown) else ""
