"""How numbers are written: the same way in the page, in Markdown, in LaTeX and in the figures.

The CSV files have them unrounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def duration(seconds: float | None) -> str:
    if seconds is None or math.isnan(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(names: Sequence[str], most: int = 8) -> str:
    """ "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 case", "3 cases"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
