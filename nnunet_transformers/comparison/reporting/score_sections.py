"""Sections about the scores of one set: main table, differences to the baseline, cases and ranks."""

from __future__ import annotations

import math
from itertools import combinations

import pandas as pd

from nnunet_transformers.common.words import counted, joined, listed
from nnunet_transformers.comparison.metrics.definitions import METRICS, SCORINGS
from nnunet_transformers.comparison.reporting import charts
from nnunet_transformers.comparison.reporting.blocks import Block, Cell, Chart, Estimate, Paragraph, Section, Table
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_equals, p_value, percent
from nnunet_transformers.comparison.reporting.full_tables import all_metrics, differences, every_case
from nnunet_transformers.comparison.reporting.views import (
    MARKS,
    SetView,
    axis_title,
    drawn_of,
    footnote,
    for_file,
    heading,
    records,
    verdict_text,
)
from nnunet_transformers.comparison.statistics.ranks import Ranking
from nnunet_transformers.comparison.statistics.verdict import Verdict

_MOST_PANELS = 7


def score_section(view: SetView) -> Section:
    """Main table, forest plot, scatter, and the folded table of all metrics."""
    blocks: list[Block | None] = [main_table(view), *_differing_cases(view)]
    rows = view.of(view.numbers.comparisons)
    rows = rows[(rows["metric"] == view.given.metric) & (rows["n"] > 0)]
    if len(rows):
        blocks += [_forest(view, rows), *_scatter(view)]
    else:
        blocks.append(Paragraph("Differences are not shown: there are no two models with scores of the same cases."))
    blocks += [all_metrics(view), differences(view), every_case(view)]
    return Section(f"Scores: {view.name}", f"scores{view.suffix}", [block for block in blocks if block is not None])


def rank_section(view: SetView) -> Section:
    """Critical-difference diagram, or why there is none."""
    ranking = view.numbers.rankings.get(view.name)
    if ranking is None:
        why = view.numbers.unranked.get(view.name)
        reason = [Paragraph(f"Ranking ({view.name}): {why}")] if why else []
        return Section(f"Ranks: {view.name}", f"ranks{view.suffix}", reason)
    ranks = ranking.average_ranks
    drawing = charts.critical_difference(
        ranks,
        ranking.wilcoxon_groups,
        difference=ranking.critical_difference if math.isfinite(ranking.critical_difference) else None,
        styles={model: view.style(model) for model in ranks},
    )
    left_out = [model for model in view.models if model not in ranks]
    without = f" Left out, as not scored on all cases: {joined(left_out)}." if left_out else ""
    caption = (
        f"Average ranks by {view.metric.label} over {counted(ranking.n_subjects, 'subject')} "
        f"({counted(ranking.n_cases, 'case')}); 1 is "
        "best. Thick bars join models that no pairwise signed-rank test (Holm-corrected) tells apart; dots mark the "
        "members of a bar. The scale above is Nemenyi's critical difference, for comparison. "
        f"Friedman's test of equal ranks: {p_equals(ranking.friedman.p)}; in Iman and Davenport's F version "
        f"{p_equals(ranking.friedman.p_f)}.{without}"
    )
    data = pd.DataFrame({"model": list(ranks), "average_rank": list(ranks.values())})
    rows = [[model, f"{rank:.2f}"] for model, rank in ranks.items()]
    return Section(
        f"Ranks: {view.name}",
        f"ranks{view.suffix}",
        [
            Chart(f"critical_difference{view.suffix}", drawing, caption),
            Table("Average ranks.", ["", "average rank"], rows, name=f"ranks{view.suffix}", folded=True, data=data),
            _rank_tests(view, ranking),
            *_challenge_tables(view),
        ],
    )


def _challenge_tables(view: SetView) -> list[Block]:
    """The models ranked by several metrics together, and how often one is ahead of another when subjects are drawn."""
    ranking = view.numbers.challenge.get(view.name)
    if ranking is None:
        return []
    order = list(ranking.places)
    level = f"{100 * view.given.options.confidence:g} %"
    drawn = "sites" if ranking.n_sites else "subjects"
    rows: list[list[Cell]] = []
    for model, below in zip(order, [*order[1:], None], strict=True):
        place = ranking.places[model]
        rows.append(
            [
                model,
                Estimate(str(place.rank), f"{place.rank_low:.0f} to {place.rank_high:.0f}"),
                Estimate(f"{place.mean_rank:.2f}", f"{place.mean_rank_low:.2f} to {place.mean_rank_high:.2f}"),
                percent(ranking.ahead[model][below]) if below else "",
            ]
        )
    of_what = joined([METRICS[name].label for name in ranking.metrics])
    without = (
        f" {counted(ranking.n_left_out, 'case')} without a value of every model left out." if ranking.n_left_out else ""
    )
    caption = (
        f"Ranked on each case by each of {of_what}, then averaged [{level} intervals over {drawn}], over "
        f"{counted(ranking.n_cases, 'case')} of {counted(ranking.n_subjects, 'subject')}.{without} Last column: in how "
        f"many resamples of the {drawn} a model stays ahead of the next one."
    )
    data = pd.DataFrame([{"model": model, **vars(place)} for model, place in ranking.places.items()])
    head = ["", "rank", "mean rank", "ahead of the next"]
    ahead = ranking.ahead
    matrix = [[model, *(percent(ahead[model][other]) if other != model else "" for other in order)] for model in order]
    long = [(model, other, ahead[model][other]) for model in order for other in order if other != model]
    return [
        Table(caption, head, rows, name=f"challenge_ranks{view.suffix}", data=data),
        Table(
            f"In how many resamples of the {drawn} the model of the row is ahead of that of the column.",
            ["", *order],
            matrix,
            name=f"challenge_order{view.suffix}",
            folded=True,
            data=pd.DataFrame(long, columns=["model", "other_model", "ahead"]),
        ),
    ]


def _rank_tests(view: SetView, ranking: Ranking) -> Table:
    friedman, p_of = ranking.friedman, ranking.pairwise_p.to_dict()
    tests: list[tuple[str, float, float]] = [
        ("Friedman, chi-squared", friedman.chi_squared, friedman.p),
        ("Friedman, F version", friedman.f, friedman.p_f),
        ("Nemenyi's critical difference", ranking.critical_difference, math.nan),
        *((f"{a} against {b}", math.nan, float(p_of[a][b])) for a, b in combinations(ranking.average_ranks, 2)),
    ]
    rows = [
        [test, "" if math.isnan(value) else f"{value:.3f}", "" if math.isnan(p) else p_value(p)]
        for test, value, p in tests
    ]
    caption = "Tests of the ranks. Pairs of models: signed-rank tests, corrected by Holm over all pairs."
    name = f"rank_tests{view.suffix}"
    models = [("", "")] * 3 + list(combinations(ranking.average_ranks, 2))
    data = pd.DataFrame(
        [
            ("signed ranks" if model else test, model, other, value, p)
            for (test, value, p), (model, other) in zip(tests, models, strict=True)
        ],
        columns=["test", "model", "other_model", "statistic", "p"],
    )
    return Table(caption, ["test", "statistic", "p"], rows, name=name, folded=True, data=data)


def main_table(view: SetView) -> Table:
    """Mean, interval and mark of each model by the main metrics, best first."""
    summaries = view.of(view.numbers.summaries)
    there = list(dict.fromkeys(summaries["metric"]))
    shown = dict.fromkeys([view.given.metric, *SCORINGS[view.given.scoring]])
    metrics = [METRICS[name] for name in shown if name in there]
    verdicts = view.of(view.numbers.comparisons).set_index(["metric", "model"])["verdict"].to_dict()
    by_model = summaries.set_index(["model", "metric"]).to_dict("index")
    ranks = view.ranks
    rows = []
    for model in ranks:
        n = by_model[model, view.given.metric]["n"]
        cells: list[Cell] = []
        for metric in metrics:
            entry = by_model.get((model, metric.name))
            if entry is None:
                cells.append("not scored")
                continue
            mark = MARKS.get(verdicts.get((metric.name, model), Verdict.UNDECIDED), "")
            other_n = f" (n = {entry['n']})" if entry["n"] != n else ""
            bounds = interval(entry["mean_low"], entry["mean_high"], metric.unit)
            cells.append(Estimate(f"{number(entry['mean'], metric.unit)}{mark}", bounds, other_n))
        name = f"{model} (baseline)" if model == view.given.baseline else model
        rank = ranks[model]
        rows.append([f"{name} †" if view.lacks(model) else name, "–" if rank is None else str(rank), str(n), *cells])
    level = f"{100 * view.given.options.confidence:g} %"
    margins = {metric: margin for metric, margin in view.given.options.margins.items() if metric in there}
    equivalence = ", ".join(
        f"{METRICS[metric].label} within {margin:g} {METRICS[metric].unit}".rstrip()
        for metric, margin in margins.items()
    )
    by_challenge = view.given.scoring != "all"
    first = f"best by the ranks of {view.given.scoring}" if by_challenge else f"best {view.metric.label}"
    caption = (
        f"Mean [{level} interval] over n cases, {first} first. Against the baseline, Holm-corrected: "
        f"▲ better, ▼ worse, ≈ equivalent ({equivalence or 'no margin stated'}), no mark: undecided. † lacks cases: "
        "its mean is not comparable."
    )
    columns = ["metric", "model", "n", "mean", "mean_low", "mean_high"]
    data = summaries.loc[summaries["metric"].isin([metric.name for metric in metrics]), columns]
    data = data.assign(
        rank=[ranks.get(model) for model in data["model"]],
        is_baseline=data["model"] == view.given.baseline,
        verdict=[verdicts.get((row.metric, row.model), "") for row in records(data)],
    ).astype({"rank": "Int64"})
    head = ["", "rank", "n", *(heading(metric) for metric in metrics)]
    return Table(caption, head, rows, name=f"main{view.suffix}", data=for_file(data))


def _forest(view: SetView, rows: pd.DataFrame) -> Chart:
    metric = view.metric
    ordered = rows.assign(gain=rows["mean_difference"] * metric.sign).sort_values(
        "gain", ascending=False, kind="stable"
    )
    drawn = [
        charts.ForestRow(
            f"{row.model} †" if view.lacks(row.model) else row.model,
            view.style(row.model),
            charts.Interval(row.mean_difference, row.mean_low, row.mean_high),
            f"{number(row.mean_difference, metric.unit, signed=True)} "
            f"({interval(row.mean_low, row.mean_high, metric.unit, signed=True)}), n = {row.n}, "
            f"{verdict_text(row, mark=True)}",
        )
        for row in records(ordered)
    ]
    favours = ("model better", "baseline better") if metric.sign < 0 else ("baseline better", "model better")
    if metric.higher_is_better is None:
        favours = ("model lower", "model higher")
    margin = view.given.options.margins.get(metric.name)
    quantity = f"mean difference in {axis_title(metric)}, model minus baseline ({view.given.baseline})"
    band = f" Grey band: the margin of equivalence, ±{margin:g}." if margin else ""
    caption = (
        f"Difference to the baseline on the same cases, with {100 * view.given.options.confidence:g} % intervals over "
        f"{view.drawn}; verdicts by Holm-corrected tests.{band}{footnote(rows)}"
    )
    drawing = charts.forest(drawn, quantity=quantity, margin=margin, favours=favours)
    return Chart(f"forest{view.suffix}", drawing, caption)


def _scatter(view: SetView) -> list[Block]:
    values, baseline, unit = view.values, view.given.baseline, view.metric.unit
    if baseline not in values:
        return []
    panels = []
    for model in values.columns.drop(baseline) if len(values.columns) <= _MOST_PANELS else view.shown[1:]:
        both = values[[baseline, model]].dropna()
        hints = [
            f"{case}: {baseline} {number(a, unit)}, {model} {number(b, unit)}"
            for case, a, b in both.itertuples(name=None)
        ]
        if len(both):
            x, y = both[baseline].tolist(), both[model].tolist()
            panels.append(charts.Points(model, view.style(model), x, y, hints))
    if not panels:
        return []
    side = "below" if view.metric.higher_is_better is False else "above"
    what = "higher" if view.metric.higher_is_better is None else "better"
    caption = (
        f"{view.metric.label} of each case: the model against the baseline. The model is {what} on "
        f"cases {'above' if what == 'higher' else side} the dashed line. Rest the pointer on a point for "
        f"the name of its case.{drawn_of(view) if len(values.columns) > _MOST_PANELS else ''}"
    )
    drawing = charts.scatter(panels, baseline=baseline, quantity=axis_title(view.metric))
    return [Chart(f"scatter{view.suffix}", drawing, caption)]


def _differing_cases(view: SetView) -> list[Block]:
    return [
        Paragraph(
            f"{model} has no {view.metric.label} on {counted(len(cases), 'case')} that another model has one on: "
            f"{listed(cases)}.",
            "remark",
        )
        for model in view.models
        if (cases := view.numbers.lacking.get((view.name, model)))
    ]
