"""On-disk layouts: each finds the cases of a folder by its file names, without opening a file.

A new layout is one module with a ``LAYOUT`` and one line here.
"""

from __future__ import annotations

from dataset_conversion.layouts.atlas import LAYOUT as ATLAS
from dataset_conversion.layouts.layout import KnownIssue, Layout, Scan

LAYOUTS: dict[str, Layout] = {ATLAS.name: ATLAS}

__all__ = ["LAYOUTS", "KnownIssue", "Layout", "Scan"]
