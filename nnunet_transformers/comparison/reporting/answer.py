"""The answer in plain sentences: which model is better than the baseline, by how much, how sure, on which lesions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nnunet_transformers.common.words import counted, joined
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.reporting.blocks import Block, Bullets, Paragraph
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_equals, percent, with_unit
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.lesion_free import predictions_without_a_lesion
from nnunet_transformers.comparison.reporting.numbers import Numbers
from nnunet_transformers.comparison.reporting.views import verdict_text
from nnunet_transformers.comparison.statistics.pair_tests import smallest_p
from nnunet_transformers.comparison.statistics.strata import LESION_SIZE, volume_range
from nnunet_transformers.comparison.statistics.verdict import Verdict, beside_interval

_DECIDED = (Verdict.BETTER, Verdict.WORSE, Verdict.DIFFERENT)

# A mean Dice below this is not a segmentation to compare.
_FINDS_NOTHING = 0.05


def answer(given: ReportInput, numbers: Numbers) -> list[Block]:
    """What a reader wants to know first, about the first set; the other sets in a sentence each."""
    first, *others = numbers.sets
    blocks: list[Block] = [*_about_set(given, numbers, first)]
    for name in others:
        blocks.append(Paragraph(_other_set(given, numbers, name)))
    return blocks


def leading_model(given: ReportInput, numbers: Numbers, name: str) -> str | None:
    """The model to compare with the baseline in detail: a better one if there is any, that with the largest difference.

    Among equally placed ones, those that were scored on all cases of the set come first.
    """
    rows = _verdicts(given, numbers, name)
    rows = rows[rows["mean_difference"].notna()]
    if rows.empty:
        return None
    order = rows.assign(
        lacks=[(name, model) in numbers.lacking for model in rows["model"]],
        not_better=rows["verdict"] != Verdict.BETTER,
        gain=rows["mean_difference"] * METRICS[given.metric].sign,
    ).sort_values(["not_better", "lacks", "gain", "model"], ascending=[True, True, False, True])
    return str(order["model"].iloc[0])


def _about_set(given: ReportInput, numbers: Numbers, name: str) -> list[Block]:
    metric = METRICS[given.metric]
    means = _means(given, numbers, name)
    rows = _verdicts(given, numbers, name)
    if means["mean"].notna().sum() == 0:
        return [Paragraph(f"It cannot be told: {metric.label} is undefined on every case.", "answer")]
    if name in numbers.lesion_free:
        return [Paragraph(_without_a_lesion(given, numbers, name), "answer")]
    if given.metric == "dice" and means["mean"].max() < _FINDS_NOTHING:
        best = means.sort_values("mean").iloc[-1]
        text = (
            f"No model finds the lesions: the highest mean Dice, of {best['model']}, is {number(best['mean'])}. "
            "Differences between such models say nothing."
        )
        return [Paragraph(text, "answer"), *_all_models(given, numbers, name, rows)]
    leader = leading_model(given, numbers, name)
    if leader is None:
        only = means.iloc[0]
        text = (
            f"{only['model']}: mean {metric.label} {with_unit(only['mean'], metric.unit)} (95 % interval "
            f"{interval(only['mean_low'], only['mean_high'], metric.unit)}) over {counted(only['n'], 'case')} of "
            f"{counted(only['n_subjects'], 'subject')}. There is no second model to compare with on the same cases."
        )
        return [Paragraph(text.replace("95 %", _confidence(given)), "answer")]
    row = next(rows[rows["model"] == leader].itertuples())
    headline = _headline(given, numbers, name, rows, leader)
    lesions = _on_which_lesions(given, numbers, name, leader)
    metrics = _other_metrics(given, numbers, name, leader)
    return [
        Paragraph(f"{headline} {_how_much(given, numbers, name, leader, row)}", "answer"),
        *(Paragraph(text) for text in (lesions, metrics) if text),
        *_all_models(given, numbers, name, rows),
    ]


def _without_a_lesion(given: ReportInput, numbers: Numbers, name: str) -> str:
    return (
        f"It cannot be told which model segments lesions better: no reference of {name} holds a lesion. "
        f"{predictions_without_a_lesion(given, numbers, name)}"
    )


def _headline(given: ReportInput, numbers: Numbers, name: str, rows: pd.DataFrame, leader: str) -> str:
    label = METRICS[given.metric].label
    better = list(rows.loc[rows["verdict"] == Verdict.BETTER, "model"])
    if leader in better:
        yes = "Yes, on the cases both have" if _lacks(given, numbers, name, leader) else "Yes"
        if len(better) == 1:
            return f"{yes}: {leader} segments better than the baseline {given.baseline}, by {label}."
        rest = [model for model in better if model != leader]
        return (
            f"{yes}: {len(better)} models segment better than the baseline {given.baseline}, by {label}: {leader} by "
            f"the most, also {joined(rest)}. Which of these is best is another question: see the ranks."
        )
    verdicts = set(rows["verdict"])
    if verdicts == {Verdict.WORSE}:
        what = "the other model segments" if len(rows) == 1 else "all other models segment"
        return f"No: {what} worse than the baseline {given.baseline}, by {label}."
    if verdicts == {Verdict.EQUIVALENT}:
        unit = METRICS[given.metric].unit
        margin = f"{given.options.margins[given.metric]:g}{f' {unit}' if unit else ''}"
        what = "the other model is" if len(rows) == 1 else "all other models are"
        return f"No: {what} equivalent to the baseline {given.baseline}, by mean {label} within {margin}."
    if verdicts == {Verdict.UNDECIDED}:
        what = f"{leader} segments" if len(rows) == 1 else "any model segments"
        return f"It cannot be told whether {what} better than the baseline {given.baseline}, by {label}."
    return f"No model is shown to segment better than the baseline {given.baseline}, by {label}."


def _how_much(given: ReportInput, numbers: Numbers, name: str, leader: str, row: Any) -> str:
    metric = METRICS[given.metric]
    means = _means(given, numbers, name).set_index("model")["mean"]
    difference = with_unit(row.mean_difference, metric.unit, signed=True)
    lacking = _lacks(given, numbers, name, leader)
    on = f"{counted(row.n, 'case')} of {counted(row.n_subjects, 'subject')}" + (
        " that both were scored on" if lacking else ""
    )
    text = (
        f"{leader} against {given.baseline}: {difference} in mean {metric.label} ({_confidence(given)} interval "
        f"{interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {_p(row)}) on {on}"
    )
    text += (
        "."
        if lacking
        else f"; {number(means[leader], metric.unit)} against {number(means[given.baseline], metric.unit)}."
    )
    if pd.notna(row.probability_better):
        text += (
            f" On a case, {leader} is better with a probability of {percent(row.probability_better)} "
            f"({percent(row.probability_low)} to {percent(row.probability_high)})."
        )
    why = beside_interval(row.verdict, row.mean_low, row.mean_high, row.margin)
    if row.verdict is Verdict.UNDECIDED:
        text += f" Undecided: {row.reason}{f' ({why})' if why else ''}."
    elif why:
        text += f" {str(row.verdict).capitalize()} {why}."
    return text


def _on_which_lesions(given: ReportInput, numbers: Numbers, name: str, leader: str) -> str:
    metric = METRICS[given.metric]
    table = numbers.stratum_comparisons
    rows = table[(table["set"] == name) & (table["by"] == LESION_SIZE) & (table["model"] == leader) & (table["n"] > 0)]
    rows = rows[rows["high_ml"].notna()]
    if rows.empty:
        return ""
    parts = [
        f"{volume_range(row.low_ml, row.high_ml)} {number(row.mean_difference, metric.unit, signed=True)} "
        f"({interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {verdict_text(row)})"
        for row in rows.itertuples()
    ]
    decided = rows[rows["verdict"].isin([Verdict.BETTER, Verdict.WORSE])]
    tests = int(table.loc[(table["set"] == name) & (table["by"] == LESION_SIZE), "p"].notna().sum())
    if (tests * smallest_p(rows["n_subjects"].to_numpy()) >= given.options.alpha).all():
        start = "On which lesions: there are too few subjects in the quarters by lesion size for a test."
    elif decided.empty:
        start = f"On which lesions: in no quarter by lesion size is a difference of {leader} shown."
    else:
        words = [
            f"{word} on lesions of {joined([volume_range(row.low_ml, row.high_ml) for row in own.itertuples()])}"
            for word, own in decided.groupby("verdict")
        ]
        start = f"On which lesions: {leader} is {joined(words)}."
    return f"{start} Mean difference by volume of the lesion: {'; '.join(parts)}."


def _other_metrics(given: ReportInput, numbers: Numbers, name: str, leader: str) -> str:
    table = numbers.comparisons
    rows = table[(table["set"] == name) & (table["model"] == leader) & (table["metric"] != given.metric)]
    if rows.empty:
        return ""
    parts = []
    for word in _DECIDED:
        labels = [METRICS[metric].label for metric in rows.loc[rows["verdict"] == word, "metric"]]
        if labels:
            parts.append(f"{word} by {joined(labels)}")
    open_ = int((~rows["verdict"].isin(_DECIDED)).sum())
    if open_:
        parts.append(f"undecided or equivalent by {counted(open_, 'metric')}")
    return f"By the other metrics {leader} is {'; '.join(parts)}. Each metric is a family of tests of its own."


def _all_models(given: ReportInput, numbers: Numbers, name: str, rows: pd.DataFrame) -> list[Block]:
    """A line per model, where there is more than the one the answer is about."""
    if len(rows) < 2:
        return []
    metric = METRICS[given.metric]
    lines = []
    ordered = rows.sort_values("mean_difference", key=lambda values: -metric.sign * values, kind="stable")
    for row in ordered.itertuples():
        lacking = numbers.lacking.get((name, row.model), [])
        lacks = f"; not scored on {counted(len(lacking), 'case')} of the others" if lacking else ""
        lines.append(
            f"{row.model}: {verdict_text(row)}, {number(row.mean_difference, metric.unit, signed=True)} "
            f"({interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {_p(row)}; n = {row.n}{lacks})"
        )
    return [Paragraph(f"All models against {given.baseline}, mean difference in {metric.label}:"), Bullets(lines)]


def _other_set(given: ReportInput, numbers: Numbers, name: str) -> str:
    metric = METRICS[given.metric]
    if name in numbers.lesion_free:
        return _without_a_lesion(given, numbers, name)
    rows = _verdicts(given, numbers, name)
    first = leading_model(given, numbers, numbers.sets[0])
    leader = first if first in set(rows["model"]) else leading_model(given, numbers, name)
    if leader is None:
        texts = [
            f"{row['model']} {number(row['mean'], metric.unit)} (n = {row['n']})"
            for row in _means(given, numbers, name).to_dict("records")
        ]
        return f"On {name}: no two models to compare; mean {metric.label}: {', '.join(texts) or 'no score'}."
    row = next(rows[rows["model"] == leader].itertuples())
    bounds = interval(row.mean_low, row.mean_high, metric.unit, signed=True)
    return (
        f"On {name}: {leader} against {given.baseline} {number(row.mean_difference, metric.unit, signed=True)} in mean "
        f"{metric.label} ({bounds}; {_p(row)}; n = {row.n}): {verdict_text(row)}."
    )


def _means(given: ReportInput, numbers: Numbers, name: str) -> pd.DataFrame:
    table = numbers.summaries
    return table[(table["set"] == name) & (table["metric"] == given.metric)].reset_index(drop=True)


def _verdicts(given: ReportInput, numbers: Numbers, name: str) -> pd.DataFrame:
    table = numbers.comparisons
    return table[(table["set"] == name) & (table["metric"] == given.metric)]


def _lacks(given: ReportInput, numbers: Numbers, name: str, model: str) -> bool:
    """Whether the model or the baseline was not scored on all cases of the set."""
    return (name, model) in numbers.lacking or (name, given.baseline) in numbers.lacking


def _p(row: Any) -> str:
    if pd.isna(row.p_holm):
        return "untested"
    of = " of a difference" if row.verdict is Verdict.EQUIVALENT else ""
    return f"Holm-corrected {p_equals(row.p_holm)}{of}"


def _confidence(given: ReportInput) -> str:
    return f"{100 * given.options.confidence:g} %"
