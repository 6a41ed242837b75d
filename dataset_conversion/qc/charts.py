"""The two drawings of the page that are not pictures, as inline SVG: the histogram of volumes and a colour bar."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from dataset_conversion.qc.lesion_load import colour_scale

_BINS_PER_DECADE = 4
_WIDTH, _HEIGHT, _MARGIN = 720, 220, 40
_BAR, _INK = "#0072B2", "#1a1a1a"


def volume_histogram(volumes_ml: Sequence[float]) -> Markup:
    """Number of cases by lesion volume, on a logarithmic axis with four bars per factor of ten.

    Args:
        volumes_ml: all above 0, at least one.
    """
    counts = Counter(_bin(volume) for volume in volumes_ml)
    first = math.floor(min(counts) / _BINS_PER_DECADE)
    last = math.floor(max(counts) / _BINS_PER_DECADE) + 1
    step = (_WIDTH - 2 * _MARGIN) / ((last - first) * _BINS_PER_DECADE)
    floor, highest = _HEIGHT - _MARGIN, max(counts.values())

    def across(log_ml: float) -> float:
        return _MARGIN + (log_ml - first) * _BINS_PER_DECADE * step

    parts = []
    for index, count in sorted(counts.items()):
        height = (floor - _MARGIN / 2) * count / highest
        low, high = (_number(10 ** ((index + end) / _BINS_PER_DECADE)) for end in (0, 1))
        parts.append(
            f'<rect x="{across(index / _BINS_PER_DECADE) + 1:.1f}" y="{floor - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}" fill="{_BAR}"><title>{low} to {high} ml: {count}</title></rect>'
        )
    for decade in range(first, last + 1):
        x = across(decade)
        parts.append(f'<path d="M{x:.1f} {floor}v5" stroke="{_INK}"/>')
        parts.append(_text(x, floor + 20, _number(10.0**decade)))
    parts.append(f'<path d="M{_MARGIN} {floor}H{_WIDTH - _MARGIN}" stroke="{_INK}"/>')
    parts.append(_text(_WIDTH / 2, _HEIGHT - 4, "lesion volume (ml)"))
    parts.append(_text(_MARGIN - 6, floor, "0", "end"))
    parts.append(_text(_MARGIN - 6, _MARGIN / 2 + 10, str(highest), "end"))
    middle = across(math.log10(median(volumes_ml)))
    parts.append(f'<path d="M{middle:.1f} {_MARGIN / 2:.0f}V{floor}" stroke="#D55E00" stroke-dasharray="5 3"/>')
    parts.append(_text(middle, _MARGIN / 2 - 6, f"median {_number(median(volumes_ml))} ml"))
    label = f"Histogram of the lesion volumes of {len(volumes_ml)} cases"
    return _svg(_WIDTH, _HEIGHT, label, parts)


def colour_bar(highest: int) -> Markup:
    """What the colours of a lesion-load map mean: cases, from 0 to `highest`."""
    colours = colour_scale(24)
    parts = [
        f'<rect x="{20 + 10 * index}" y="2" width="10.5" height="14" fill="rgb({red},{green},{blue})"/>'
        for index, (red, green, blue) in enumerate(colours.tolist())
    ]
    parts.append(f'<rect x="20" y="2" width="{10 * len(colours)}" height="14" fill="none" stroke="{_INK}"/>')
    parts.append(_text(10, 14, "0"))
    parts.append(_text(26 + 10 * len(colours), 14, f"{highest} case{'s' if highest != 1 else ''}", "start"))
    return _svg(360, 18, f"Colours from 0 to {highest} cases", parts)


def _bin(volume_ml: float) -> int:
    return math.floor(math.log10(volume_ml) * _BINS_PER_DECADE)


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" fill="{_INK}">{text}</text>'


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> Markup:
    """Of numbers and fixed words only: nothing in it needs escaping."""
    return Markup(
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"{''.join(parts)}</svg>"
    )
