"""On-disk layouts: each finds the cases of a folder by its file names, without opening an image.

A new layout is one module with a `LAYOUT` and one line here.
"""

from __future__ import annotations

from dataset_conversion.layouts import atlas, bids, decathlon
from dataset_conversion.layouts.layout import KnownIssue, Layout, Scan

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (atlas.LAYOUT, bids.LAYOUT, decathlon.LAYOUT)}

__all__ = ["LAYOUTS", "KnownIssue", "Layout", "Scan"]
