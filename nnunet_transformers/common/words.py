"""Numbers and names in sentences."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Sequence


def duration(seconds: float | None) -> str:
    """ "12.3 s", "4.2 min", "3 h 05 min", "2 d 7 h"; "unknown" for None and NaN."""
    if seconds is None or math.isnan(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{seconds / 60:.1f} min"
    days, hours = divmod(minutes // 60, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60:02d} min"


def listed(names: Sequence[str], most: int = 8) -> str:
    """ "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def some(names: Sequence[str], most: int = 3) -> str:
    """ "a, b, c, …", where the sentence has said already how many there are."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 case", "3 cases"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def joined(parts: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean …?` for the known name that is most like this one, upper and lower case alike, or nothing."""
    by_lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
