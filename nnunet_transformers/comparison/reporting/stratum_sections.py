"""Sections about groups of the cases of one set: lesion sizes, sites and folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.metrics.definitions import Metric
from nnunet_transformers.comparison.reporting import charts
from nnunet_transformers.comparison.reporting.blocks import Block, Cell, Chart, Estimate, Paragraph, Section, Table
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_equals, p_value, percent
from nnunet_transformers.comparison.reporting.lesion_free import predictions_without_a_lesion
from nnunet_transformers.comparison.reporting.views import (
    MARKS,
    SetView,
    axis_title,
    drawn_of,
    footnote,
    for_file,
    records,
    verdict_text,
)
from nnunet_transformers.comparison.statistics.options import FEW_SUBJECTS
from nnunet_transformers.comparison.statistics.strata import FOLD, LESION_SIZE, NO_LESION, SITE, lesion_size_cuts

_MOST_WITH_POINTS = 3
_MOST_ROWS = 60  # of a table that has a row per group and model
_CASES_PER_BIN = 10
_FEWEST_BINS, _MOST_BINS = 3, 12


_Entries = dict[tuple[str, str], dict[str, Any]]
_Content = tuple[list[str], list[list[Cell]], str]


def lesion_section(view: SetView) -> Section:
    """The metric by lesion volume, and differences to the baseline by quarter."""
    scored = view.values.notna().any(axis=1)
    volumes = view.volumes[(view.volumes > 0) & scored]
    blocks: list[Block] = []
    if volumes.empty:
        blocks.append(Paragraph("Not shown: no case with a score and a lesion of known volume."))
    else:
        cuts = lesion_size_cuts(view.of(view.numbers.of_metric(view.given.metric)))[view.name]
        models = view.models if len(view.models) <= 2 * _MOST_WITH_POINTS else view.shown
        points = []
        for model in models:
            own = view.values[model].dropna()
            own = own[own.index.isin(volumes.index)]
            hints = [
                f"{case}, {volumes[case]:.2f} ml, {model}: {number(v, view.metric.unit)}"
                for case, v in zip(own.index, own, strict=True)
            ]
            line = running_median(volumes[own.index].to_numpy(), own.to_numpy())
            x = volumes[own.index].tolist()
            points.append(charts.Points(model, view.style(model), x, own.tolist(), hints, line))
        with_points = len(points) <= _MOST_WITH_POINTS
        drawing = charts.by_volume(points, quantity=axis_title(view.metric), cuts=cuts, show_points=with_points)
        what = "Each point is a case. " if with_points else ""
        caption = (
            f"{view.metric.label} by the volume of the reference lesion. {what}Lines: medians of "
            f"{_CASES_PER_BIN} or more cases of neighbouring volume. Dotted: limits of the quarters."
        )
        blocks.append(Chart(f"by_volume{view.suffix}", drawing, caption))
    if free := predictions_without_a_lesion(view):
        blocks.append(Paragraph(free))
    blocks += _strata_blocks(view, LESION_SIZE, "by_lesion_size")
    return Section(f"By lesion size: {view.name}", f"lesions{view.suffix}", blocks)


def site_section(view: SetView) -> Section:
    """The metric by site, with a forest plot of the leading model's differences, and by fold in cross-validation."""
    blocks = [*_site_forest(view), *_strata_blocks(view, SITE, "by_site")]
    blocks += _strata_blocks(view, FOLD, "by_fold")
    return Section(f"By site and fold: {view.name}", f"sites{view.suffix}", blocks)


def _site_forest(view: SetView) -> list[Block]:
    agreement = view.numbers.agreement.get(view.name, {})
    leader = view.leading
    if leader is None or leader not in agreement:
        return []
    differences = view.of(view.numbers.stratum_comparisons)
    own = differences[(differences["by"] == SITE) & (differences["model"] == leader) & (differences["n"] > 0)]
    unit = view.metric.unit
    rows = [
        charts.ForestRow(
            f"{row.stratum} (n = {row.n})",
            view.style(leader),
            charts.Interval(row.mean_difference, row.mean_low, row.mean_high),
            number(row.mean_difference, unit, signed=True),
        )
        for row in records(own.sort_values("n", ascending=False, kind="stable"))
    ]
    (total,) = view.compared[view.compared["model"] == leader].to_dict("records")
    level = "sites" if total["n_sites"] else "subjects"
    together = charts.Interval(total["mean_difference"], total["mean_low"], total["mean_high"])
    bounds = interval(total["mean_low"], total["mean_high"], unit, signed=True)
    note = f"{number(total['mean_difference'], unit, signed=True)} ({bounds})"
    rows.append(charts.ForestRow(f"all (n = {total['n']})", view.style(leader), together, note))
    of_sites = agreement[leader]
    caption = (
        f"Difference of {leader} to the baseline by site, largest site first; the interval of all resamples {level}. "
        f"The sign of the whole holds at {of_sites.agreeing} of {of_sites.n_sites} sites. Standard deviation between "
        f"sites: {number(of_sites.between_sd, unit)} ({p_equals(of_sites.p)} of none, Cochran's Q), "
        f"I² {percent(of_sites.i_squared)}."
    )
    quantity = f"mean difference in {axis_title(view.metric)}, model minus baseline ({view.given.baseline})"
    favours = ("model better", "baseline better") if view.metric.sign < 0 else ("baseline better", "model better")
    drawing = charts.forest(rows, quantity=quantity, margin=None, favours=favours)
    data = pd.DataFrame([{"model": model, **vars(each)} for model, each in agreement.items()])
    table = [
        [
            model,
            f"{each.agreeing} of {each.n_sites}",
            number(each.between_sd, unit),
            percent(each.i_squared),
            p_value(each.p),
        ]
        for model, each in agreement.items()
    ]
    return [
        Chart(f"forest_by_site{view.suffix}", drawing, caption),
        Table(
            "How the difference to the baseline varies between sites. I²: share of the variation that is not chance.",
            ["", "sites with the sign of the whole", "standard deviation between sites", "I²", "p of no variation"],
            table,
            name=f"between_sites{view.suffix}",
            folded=True,
            data=data,
        ),
    ]


def running_median(volumes: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
    """Medians of volume and value in bins of equally many cases, in the order of volume; none for fewer than 30 cases.

    Args:
        volumes, values: (n,), finite.
    """
    bins = min(_MOST_BINS, len(volumes) // _CASES_PER_BIN)
    if bins < _FEWEST_BINS:
        return []
    order = np.argsort(volumes, kind="stable")
    return [(float(np.median(volumes[part])), float(np.median(values[part]))) for part in np.array_split(order, bins)]


def _strata_blocks(view: SetView, kind: str, name: str) -> list[Block]:
    metric = view.metric
    summaries = view.of(view.numbers.stratum_summaries)
    summaries = summaries[(summaries["by"] == kind) & (summaries["n"] > 0)]
    differences = view.of(view.numbers.stratum_comparisons)
    differences = differences[(differences["by"] == kind) & (differences["n"] > 0)]
    groups = list(dict.fromkeys(summaries["stratum"]))
    if len(groups) < 2:
        only = f" ({groups[0]})" if groups else ""
        return [Paragraph(f"By {kind}: not shown, there is only one group of cases{only}.", "soft")] if groups else []
    means = summaries.set_index(["stratum", "model"]).to_dict("index")
    gains = differences.set_index(["stratum", "model"]).to_dict("index")
    blocks: list[Block] = []
    counts = {group: max(means[key]["n"] for key in means if key[0] == group) for group in groups}
    drawn = [group for group in groups if group != NO_LESION]  # its values are 0 or 1 and would stretch the axis
    labels = [f"{group} (n = {counts[group]})" for group in drawn]
    shown = [model for model in view.shown if any((group, model) in means for group in groups)]
    if kind != FOLD and drawn:
        absolute = {model: (view.style(model), _intervals(means, drawn, model, "mean")) for model in shown}
        drawing = charts.strata(labels, absolute, quantity=f"mean {axis_title(metric)}", zero=False)
        blocks.append(
            Chart(f"{name}{view.suffix}", drawing, f"Mean {metric.label} by {kind}, with intervals.{drawn_of(view)}")
        )
    others = [model for model in shown if model != view.given.baseline]
    if others and gains and drawn and kind == LESION_SIZE:
        relative = {model: (view.style(model), _intervals(gains, drawn, model, "mean_difference")) for model in others}
        quantity = f"mean difference in {axis_title(metric)}, model minus baseline"
        drawing = charts.strata(labels, relative, quantity=quantity, zero=True)
        caption = f"Differences to the baseline by {kind}, with intervals.{drawn_of(view)}"
        blocks.append(Chart(f"difference_{name}{view.suffix}", drawing, caption))
    table = _matrix if len(groups) * len(view.models) > _MOST_ROWS else _rows
    head, rows, caption = table(view, kind, groups, means, gains)
    data = summaries.merge(
        differences.drop(columns=["low_ml", "high_ml", "few"]),
        on=["set", "metric", "by", "stratum", "model"],
        how="left",
        suffixes=("", "_difference"),
    )
    data = for_file(data)
    folded = kind != LESION_SIZE or len(rows) > 8
    caption += footnote(differences) if table is _rows else ""
    blocks.append(Table(caption, head, rows, name=f"{name}{view.suffix}", numeric=False, folded=folded, data=data))
    return blocks


def _rows(view: SetView, kind: str, groups: Sequence[str], means: _Entries, gains: _Entries) -> _Content:
    """A row per group and model."""
    metric = view.metric
    rows: list[list[Cell]] = []
    for group in groups:
        for model in [model for model in view.ranks if (group, model) in means]:
            entry, gain = means[group, model], gains.get((group, model))
            rows.append(
                [
                    f"{group}{' ‡' if entry['few'] else ''}",
                    model,
                    str(entry["n"]),
                    Estimate(
                        number(entry["mean"], metric.unit), interval(entry["mean_low"], entry["mean_high"], metric.unit)
                    ),
                    number(entry["median"], metric.unit),
                    _difference(gain, metric),
                    p_value(gain["p_holm"]) if gain else "",
                    verdict_text(SimpleNamespace(**gain), mark=True) if gain else "",
                ]
            )
    head = [kind, "model", "n", f"mean {metric.label}", "median", "difference to the baseline", "p (Holm)", "verdict"]
    caption = (
        f"{metric.label} by {kind}. ‡ fewer than {FEW_SUBJECTS} subjects: the interval is not to be relied on. Holm's "
        f"correction is over all models and groups of this table."
    )
    return head, rows, caption


def _matrix(view: SetView, kind: str, groups: Sequence[str], means: _Entries, gains: _Entries) -> _Content:
    """A row per group and a column per model, best first."""
    models = list(view.ranks)
    rows: list[list[Cell]] = []
    for group in groups:
        entries = [means.get((group, model)) for model in models]
        known = [entry for entry in entries if entry]
        cells: list[Cell] = [
            number(entry["mean"], view.metric.unit) + _mark(gains.get((group, model))) if entry else ""
            for model, entry in zip(models, entries, strict=True)
        ]
        few = any(entry["few"] for entry in known)
        rows.append([f"{group}{' ‡' if few else ''}", str(max(entry["n"] for entry in known)), *cells])
    caption = (
        f"Mean {view.metric.label} by {kind}; marks as in the main table. ‡ fewer than {FEW_SUBJECTS} subjects. With "
        f"intervals: tables/by_{kind.replace(' ', '_')}{view.suffix}.csv."
    )
    return [kind, "n", *models], rows, caption


def _mark(gain: dict[str, Any] | None) -> str:
    return MARKS.get(gain["verdict"], "") if gain else ""


def _difference(gain: dict | None, metric: Metric) -> Cell:
    if gain is None:
        return ""
    bounds = interval(gain["mean_low"], gain["mean_high"], metric.unit, signed=True)
    return Estimate(number(gain["mean_difference"], metric.unit, signed=True), bounds)


def _intervals(entries: dict, groups: Sequence[str], model: str, value: str) -> list[charts.Interval]:
    nothing = {value: math.nan, "mean_low": math.nan, "mean_high": math.nan}
    found = [entries.get((group, model), nothing) for group in groups]
    return [charts.Interval(entry[value], entry["mean_low"], entry["mean_high"]) for entry in found]
