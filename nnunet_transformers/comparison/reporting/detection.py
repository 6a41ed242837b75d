"""The section about which lesions are found, by their size, and about those that are not there."""

from __future__ import annotations

import math

import pandas as pd

from nnunet_transformers.common.words import counted
from nnunet_transformers.comparison.metrics.lesions import PARTNERS_IOU
from nnunet_transformers.comparison.reporting import charts
from nnunet_transformers.comparison.reporting.blocks import Block, Cell, Chart, Estimate, Section, Table
from nnunet_transformers.comparison.reporting.formatting import number, percent
from nnunet_transformers.comparison.reporting.views import SetView, drawn_of, records
from nnunet_transformers.comparison.statistics.strata import volume_range

_FALSE = "false_lesions_isles26"


def detection_section(view: SetView) -> Section:
    """Sensitivity by the volume of a lesion, and false lesions per case; no block where lesions are not known."""
    found = view.of(view.numbers.detection)
    blocks: list[Block] = []
    if len(found):
        blocks = [_chart(view, found), _table(view, found)]
    return Section(f"Lesions found: {view.name}", f"detection{view.suffix}", blocks)


def _is_class(found: pd.DataFrame) -> pd.Series:
    return ~((found["low_ml"] == 0) & (found["high_ml"] == math.inf))


def _chart(view: SetView, found: pd.DataFrame) -> Chart:
    classes = found[_is_class(found)]
    bounds = sorted({(row.low_ml, row.high_ml) for row in records(classes)})
    by_key = {(row.model, row.low_ml): row for row in records(classes)}
    groups = [
        f"{volume_range(low, high)} ({max(row.lesions for row in by_key.values() if row.low_ml == low)} lesions)"
        for low, high in bounds
    ]
    nothing = charts.Interval(math.nan, math.nan, math.nan)
    models = {
        model: (
            view.style(model),
            [
                charts.Interval(row.sensitivity, row.sensitivity_low, row.sensitivity_high)
                if (row := by_key.get((model, low)))
                else nothing
                for low, _ in bounds
            ],
        )
        for model in view.shown
        if model in set(classes["model"])
    }
    drawing = charts.strata(groups, models, quantity="share of lesions found", zero=False)
    caption = (
        "Share of the reference's lesions (26-connected) that have a partner in the prediction, one to one, with "
        f"{PARTNERS_IOU:g} of their union in common, by the volume of the lesion.{drawn_of(view)}"
    )
    return Chart(f"detection{view.suffix}", drawing, caption)


def _table(view: SetView, found: pd.DataFrame) -> Table:
    by_key = {(row.model, row.low_ml, row.high_ml): row for row in records(found)}
    bounds = [(0.0, math.inf), *sorted({(row.low_ml, row.high_ml) for row in records(found[_is_class(found)])})]
    head = ["", *("all" if high - low == math.inf and not low else volume_range(low, high) for low, high in bounds)]
    rows: list[list[Cell]] = []
    for model in [model for model in view.ranks if model in set(found["model"])]:
        cells: list[Cell] = []
        for low, high in bounds:
            row = by_key.get((model, low, high))
            if row is None:
                cells.append("")
                continue
            interval = f"{100 * row.sensitivity_low:.0f} to {100 * row.sensitivity_high:.0f} %"
            cells.append(Estimate(percent(row.sensitivity), interval, f" of {row.lesions}"))
        rows.append([model, *cells, *_false(view, model)])
    caption = (
        "Share of lesions found, of so many in the references, by their volume, with intervals; and predicted lesions "
        "without a partner per case, of cases with a lesion and of those without."
    )
    head += ["false per case", "false, lesion-free"]
    data = found.drop(columns="set")
    return Table(caption, head, rows, name=f"detection{view.suffix}", folded=len(rows) > 8, data=data)


def _false(view: SetView, model: str) -> list[Cell]:
    """Mean number of false lesions of cases with a lesion, and of cases without."""
    scores = view.of(view.numbers.of_metric(_FALSE))
    own = scores[scores["model"] == model]
    parts = (own[own["reference_ml"] > 0], own[own["reference_ml"] == 0])
    return [
        f"{number(part['value'].mean())} ({counted(len(part), 'case')})" if len(part) else "no case" for part in parts
    ]
