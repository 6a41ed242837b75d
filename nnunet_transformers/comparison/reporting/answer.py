"""The answer in plain sentences: which model is better than the baseline, by how much, how sure, on which lesions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from nnunet_transformers.common.words import counted, joined
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.reporting.blocks import Block, Bullets, Paragraph
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_equals, percent, with_unit
from nnunet_transformers.comparison.reporting.lesion_free import predictions_without_a_lesion
from nnunet_transformers.comparison.reporting.views import SetView, verdict_text
from nnunet_transformers.comparison.statistics.pair_tests import smallest_p
from nnunet_transformers.comparison.statistics.strata import LESION_SIZE, volume_range
from nnunet_transformers.comparison.statistics.verdict import Verdict, beside_interval

_DECIDED = (Verdict.BETTER, Verdict.WORSE, Verdict.DIFFERENT)

# A mean Dice below this is not a segmentation to compare.
_FINDS_NOTHING = 0.05


def answer(views: Sequence[SetView]) -> list[Block]:
    """What a reader wants to know first, about the first set; the other sets in a sentence each."""
    first, *others = views
    return [*_about_set(first), *(Paragraph(_other_set(view, first)) for view in others)]


def _about_set(view: SetView) -> list[Block]:
    metric = view.metric
    means = _means(view)
    rows = view.compared
    if means["mean"].notna().sum() == 0:
        return [Paragraph(f"It cannot be told: {metric.label} is undefined on every case.", "answer")]
    if view.name in view.numbers.lesion_free:
        return [Paragraph(_without_a_lesion(view), "answer")]
    if view.given.metric == "dice" and means["mean"].max() < _FINDS_NOTHING:
        best = means.sort_values("mean").iloc[-1]
        text = (
            f"No model finds the lesions: the highest mean Dice, of {best['model']}, is {number(best['mean'])}. "
            "Differences between such models say nothing."
        )
        return [Paragraph(text, "answer"), *_all_models(view, rows)]
    leader = view.leading
    if leader is None:
        only = means.iloc[0]
        text = (
            f"{only['model']}: mean {metric.label} {with_unit(only['mean'], metric.unit)} (95 % interval "
            f"{interval(only['mean_low'], only['mean_high'], metric.unit)}) over {counted(only['n'], 'case')} of "
            f"{counted(only['n_subjects'], 'subject')}. There is no second model to compare with on the same cases."
        )
        return [Paragraph(text.replace("95 %", _confidence(view)), "answer")]
    row = next(rows[rows["model"] == leader].itertuples())
    headline = _headline(view, rows, leader)
    lesions = _on_which_lesions(view, leader)
    metrics = _other_metrics(view, leader)
    return [
        Paragraph(f"{headline} {_how_much(view, leader, row)}", "answer"),
        *(Paragraph(text) for text in (lesions, metrics) if text),
        *_all_models(view, rows),
    ]


def _without_a_lesion(view: SetView) -> str:
    return (
        f"It cannot be told which model segments lesions better: no reference of {view.name} holds a lesion. "
        f"{predictions_without_a_lesion(view)}"
    )


def _headline(view: SetView, rows: pd.DataFrame, leader: str) -> str:
    label = view.metric.label
    better = list(rows.loc[rows["verdict"] == Verdict.BETTER, "model"])
    if leader in better:
        yes = "Yes, on the cases both have" if _lacks(view, leader) else "Yes"
        if len(better) == 1:
            return f"{yes}: {leader} segments better than the baseline {view.given.baseline}, by {label}."
        rest = [model for model in better if model != leader]
        return (
            f"{yes}: {len(better)} models segment better than the baseline {view.given.baseline}, by {label}: "
            f"{leader} by the most, also {joined(rest)}. Which of these is best is another question: see the ranks."
        )
    verdicts = set(rows["verdict"])
    if verdicts == {Verdict.WORSE}:
        what = "the other model segments" if len(rows) == 1 else "all other models segment"
        return f"No: {what} worse than the baseline {view.given.baseline}, by {label}."
    if verdicts == {Verdict.EQUIVALENT}:
        unit = view.metric.unit
        margin = f"{view.given.options.margins[view.given.metric]:g}{f' {unit}' if unit else ''}"
        what = "the other model is" if len(rows) == 1 else "all other models are"
        return f"No: {what} equivalent to the baseline {view.given.baseline}, by mean {label} within {margin}."
    if verdicts == {Verdict.UNDECIDED}:
        what = f"{leader} segments" if len(rows) == 1 else "any model segments"
        return f"It cannot be told whether {what} better than the baseline {view.given.baseline}, by {label}."
    return f"No model is shown to segment better than the baseline {view.given.baseline}, by {label}."


def _how_much(view: SetView, leader: str, row: Any) -> str:
    metric = view.metric
    means = _means(view).set_index("model")["mean"]
    difference = with_unit(row.mean_difference, metric.unit, signed=True)
    lacking = _lacks(view, leader)
    on = f"{counted(row.n, 'case')} of {counted(row.n_subjects, 'subject')}"
    on += f" at {counted(row.n_sites, 'site')}" if row.n_sites else ""
    on += " that both were scored on" if lacking else ""
    text = (
        f"{leader} against {view.given.baseline}: {difference} in mean {metric.label} ({_confidence(view)} interval "
        f"{interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {_p(row)}) on {on}"
    )
    text += (
        "."
        if lacking
        else f"; {number(means[leader], metric.unit)} against {number(means[view.given.baseline], metric.unit)}."
    )
    if pd.notna(row.probability_better):
        text += (
            f" On a case, {leader} is better with a probability of {percent(row.probability_better)} "
            f"({percent(row.probability_low)} to {percent(row.probability_high)})."
        )
    text += _between_sites(view, leader, row)
    why = beside_interval(row.verdict, row.mean_low, row.mean_high, row.margin, by_sites=row.n_sites > 0)
    if row.verdict is Verdict.UNDECIDED:
        text += f" Undecided: {row.reason}{f' ({why})' if why else ''}."
    elif why:
        text += f" {str(row.verdict).capitalize()} {why}."
    return text


def _between_sites(view: SetView, leader: str, row: Any) -> str:
    """On how many sites the difference has its sign, and what resampling subjects alone would give."""
    if not row.n_sites:
        return ""
    of_sites = view.numbers.agreement[view.name][leader]
    unit = view.metric.unit
    return (
        f" The difference has this sign at {of_sites.agreeing} of {counted(of_sites.n_sites, 'site')}; its standard "
        f"deviation between sites is {number(of_sites.between_sd, unit)} ({p_equals(of_sites.p)} of none). "
        "Intervals and tests are of sites like these; with subjects resampled alone the interval would be "
        f"{interval(row.mean_low_subjects, row.mean_high_subjects, unit, signed=True)}."
    )


def _on_which_lesions(view: SetView, leader: str) -> str:
    metric = view.metric
    sizes = view.of(view.numbers.stratum_comparisons)
    sizes = sizes[sizes["by"] == LESION_SIZE]
    rows = sizes[(sizes["model"] == leader) & (sizes["n"] > 0) & sizes["high_ml"].notna()]
    if rows.empty:
        return ""
    parts = [
        f"{volume_range(row.low_ml, row.high_ml)} {number(row.mean_difference, metric.unit, signed=True)} "
        f"({interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {verdict_text(row)})"
        for row in rows.itertuples()
    ]
    decided = rows[rows["verdict"].isin([Verdict.BETTER, Verdict.WORSE])]
    tests = int(sizes["p"].notna().sum())
    if (tests * smallest_p(rows["n_subjects"].to_numpy()) >= view.given.options.alpha).all():
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


def _other_metrics(view: SetView, leader: str) -> str:
    rows = view.of(view.numbers.comparisons)
    rows = rows[(rows["model"] == leader) & (rows["metric"] != view.given.metric)]
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


def _all_models(view: SetView, rows: pd.DataFrame) -> list[Block]:
    """A line per model, where there is more than the one the answer is about."""
    if len(rows) < 2:
        return []
    metric = view.metric
    lines = []
    ordered = rows.sort_values("mean_difference", key=lambda values: -metric.sign * values, kind="stable")
    for row in ordered.itertuples():
        lacking = view.numbers.lacking.get((view.name, row.model), [])
        lacks = f"; not scored on {counted(len(lacking), 'case')} of the others" if lacking else ""
        lines.append(
            f"{row.model}: {verdict_text(row)}, {number(row.mean_difference, metric.unit, signed=True)} "
            f"({interval(row.mean_low, row.mean_high, metric.unit, signed=True)}; {_p(row)}; n = {row.n}{lacks})"
        )
    return [Paragraph(f"All models against {view.given.baseline}, mean difference in {metric.label}:"), Bullets(lines)]


def _other_set(view: SetView, first_set: SetView) -> str:
    metric = view.metric
    if view.name in view.numbers.lesion_free:
        return _without_a_lesion(view)
    rows = view.compared
    first = first_set.leading
    leader = first if first in set(rows["model"]) else view.leading
    if leader is None:
        texts = [
            f"{row['model']} {number(row['mean'], metric.unit)} (n = {row['n']})"
            for row in _means(view).to_dict("records")
        ]
        return f"On {view.name}: no two models to compare; mean {metric.label}: {', '.join(texts) or 'no score'}."
    row = next(rows[rows["model"] == leader].itertuples())
    bounds = interval(row.mean_low, row.mean_high, metric.unit, signed=True)
    return (
        f"On {view.name}: {leader} against {view.given.baseline} "
        f"{number(row.mean_difference, metric.unit, signed=True)} in mean {metric.label} "
        f"({bounds}; {_p(row)}; n = {row.n}): {verdict_text(row)}."
    )


def _means(view: SetView) -> pd.DataFrame:
    rows = view.of(view.numbers.summaries)
    return rows[rows["metric"] == view.given.metric].reset_index(drop=True)


def _lacks(view: SetView, model: str) -> bool:
    """Whether the model or the baseline was not scored on all cases of the set."""
    return view.lacks(model) or view.lacks(view.given.baseline)


def _p(row: Any) -> str:
    if pd.isna(row.p_holm):
        return "untested"
    of = " of a difference" if row.verdict is Verdict.EQUIVALENT else ""
    return f"Holm-corrected {p_equals(row.p_holm)}{of}"


def _confidence(view: SetView) -> str:
    return f"{100 * view.given.options.confidence:g} %"
