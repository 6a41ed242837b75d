"""How numbers are written: the same way in the page, in Markdown, in LaTeX and in the figures.

The CSV files have them unrounded.
"""

from __future__ import annotations

import math

_DECIMALS = {"": 3, "mm": 2, "ml": 2, "lesions": 2}
_MINUS = "−"


def number(value: float | None, unit: str = "", *, signed: bool = False) -> str:
    """Three decimals for a score without unit, two for mm, ml and counts; "undefined" for NaN."""
    if value is None or math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    text = f"{abs(value):.{_DECIMALS.get(unit, 2)}f}"
    is_zero = float(text) == 0
    sign = "" if is_zero else _MINUS if value < 0 else "+" if signed else ""
    return sign + text


def interval(low: float, high: float, unit: str = "", *, signed: bool = False) -> str:
    """ "0.512 to 0.634"; "unknown" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    return f"{number(low, unit, signed=signed)} to {number(high, unit, signed=signed)}"


def with_unit(value: float, unit: str, *, signed: bool = False) -> str:
    text = number(value, unit, signed=signed)
    return f"{text} {unit}" if unit and text != "undefined" else text


def p_value(p: float) -> str:
    """Three decimals, "< 0.001" below; "untested" for NaN."""
    if math.isnan(p):
        return "untested"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """ "p = 0.012" or "p < 0.001"."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.0f} %"


def millilitres(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
