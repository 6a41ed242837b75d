"""Axes, drawings and charts: where things are painted, and that the same numbers give the same bytes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.comparison.reporting import charts
from nnunet_transformers.comparison.reporting.drawing import (
    Drawing,
    Line,
    Marker,
    Text,
    model_style,
    save_pdf,
    svg,
    wrapped,
)
from nnunet_transformers.comparison.reporting.scales import Scale, covering, linear_ticks, log_ticks

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    charts.ForestRow("better", model_style(1), charts.Interval(0.04, 0.02, 0.06), "+0.040"),
    charts.ForestRow("a < b & c", model_style(2), charts.Interval(-0.01, -0.03, 0.01), "−0.010"),
    charts.ForestRow("one subject", model_style(3), charts.Interval(0.01, math.nan, math.nan), "+0.010"),
]


def forest() -> Drawing:
    return charts.forest(ROWS, quantity="difference", margin=0.02, favours=("baseline", "model"))


@given(
    low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6), most=st.integers(3, 9)
)  # widths far below the spacing of floats at `low` have no ticks to tell apart
def test_ticks_are_evenly_spaced_round_numbers_inside_the_axis(low: float, width: float, most: int) -> None:
    if width < abs(low) * 1e-6:
        return
    ticks = linear_ticks(low, low + width, most)
    assert 1 <= len(ticks) <= most + 1
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    steps = {round((b - a) / width, 6) for a, b in pairwise(ticks)}
    assert len(steps) <= 1


def test_logarithmic_ticks_are_1_2_5_and_powers_of_ten_over_many_decades() -> None:
    assert log_ticks(0.4, 30) == pytest.approx([0.5, 1, 2, 5, 10, 20])
    assert log_ticks(0.01, 1000) == pytest.approx([0.01, 0.1, 1, 10, 100, 1000])


@given(st.lists(st.floats(0.01, 1e4), min_size=2, unique=True), st.booleans())
def test_a_scale_keeps_the_order_and_the_ends(values: list[float], logarithmic: bool) -> None:
    low, high = min(values), max(values)
    if high < low * (1 + 1e-9):
        return
    scale = Scale(low, high, 100, 700, logarithmic)
    assert scale(low) == pytest.approx(100)
    assert scale(high) == pytest.approx(700)
    pixels = [scale(value) for value in sorted(values)]
    assert pixels == sorted(pixels)


def test_a_logarithmic_scale_puts_the_geometric_mean_in_the_middle() -> None:
    assert Scale(1, 100, 0, 200, logarithmic=True)(10) == pytest.approx(100)


def test_an_axis_covers_finite_values_only() -> None:
    low, high = covering([math.nan, 0.2, math.inf, 0.8])
    assert low < 0.2 < 0.8 < high < 1
    assert covering([math.nan]) == (0.0, 1.0)


def test_models_are_told_apart_by_more_than_colour() -> None:
    styles = [model_style(place) for place in range(12)]
    assert len(set(styles)) == 12
    assert len({(style.marker, style.dash) for style in styles}) == 12


def test_an_interval_and_its_value_are_drawn_where_the_axis_says() -> None:
    drawing = forest()
    zero = next(s for s in drawing.shapes if isinstance(s, Line) and s.width == 1.4).points[0][0]
    tick = next(s for s in drawing.shapes if isinstance(s, Text) and s.text == "0.02")
    per_unit = (tick.x - zero) / 0.02
    better = next(s for s in drawing.shapes if isinstance(s, Marker) and s.colour == model_style(1).colour)
    assert better.x == pytest.approx(zero + 0.04 * per_unit)
    whisker = next(
        s
        for s in drawing.shapes
        if isinstance(s, Line) and s.colour == better.colour and len({y for _, y in s.points}) == 1
    )
    assert [x for x, _ in whisker.points] == pytest.approx([zero + 0.02 * per_unit, zero + 0.06 * per_unit])


def test_a_value_without_an_interval_has_a_marker_and_no_whisker() -> None:
    colour = model_style(3).colour
    own = [shape for shape in forest().shapes if getattr(shape, "colour", "") == colour]
    assert [type(shape) for shape in own] == [Marker]


def test_an_svg_is_well_formed_described_and_the_same_every_time() -> None:
    text = svg(forest())
    root = ElementTree.fromstring(text)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert "a < b & c: −0.010" in (title.text or "")
    assert root.get("role") == "img"
    assert text == svg(forest())


def test_points_of_a_scatter_carry_the_name_of_their_case() -> None:
    panel = charts.Points("swin", model_style(1), [0.2, math.nan], [0.4, 0.5], ["case a", "case b"])
    root = ElementTree.fromstring(svg(charts.scatter([panel], baseline="unet", quantity="Dice")))
    hints = [title.text for title in root.iter(f"{SVG}title")][1:]
    assert hints == ["case a"]


def test_models_not_told_apart_share_a_bar_with_a_dot_each() -> None:
    ranks = {"a": 1.2, "b": 1.9, "c": 2.9}
    styles = {name: model_style(place) for place, name in enumerate(ranks)}
    drawing = charts.critical_difference(ranks, [("a", "b"), ("c",)], difference=0.9, styles=styles)
    dots = [s for s in drawing.shapes if isinstance(s, Marker) and s.colour == "#1a1a1a"]
    on_axis = {s.colour: s.x for s in drawing.shapes if isinstance(s, Marker)}
    assert [dot.x for dot in dots] == pytest.approx([on_axis[styles["a"].colour], on_axis[styles["b"].colour]])
    assert "Not told apart: a and b." in drawing.description


def test_a_pdf_has_the_size_of_the_drawing_and_its_text(tmp_path: Path) -> None:
    save_pdf(forest(), tmp_path / "forest.pdf")
    content = (tmp_path / "forest.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    width, height = forest().width * 0.75, forest().height * 0.75
    assert f"/MediaBox [ 0 0 {width:g} {height:g} ]".encode() in content


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=120))
def test_wrapping_a_name_loses_nothing(name: str) -> None:
    lines = wrapped(name)
    assert "".join(lines) == name
    assert all(len(line) <= 34 for line in lines)
