"""What a report is made of before it becomes HTML, Markdown or files: sections of paragraphs, tables and figures.

All text is plain; each output escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_transformers.comparison.reporting.drawing import Drawing


@dataclass(frozen=True)
class Paragraph:
    """`kind` is "answer", "remark" (must be read first), "soft" (small print) or nothing."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text to be copied."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Estimate:
    """A cell: a number with the bounds of its interval, and what is to be said of it behind them."""

    value: str
    bounds: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.value} [{self.bounds}]{self.note}"


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """A table of text, with the numbers it was rounded from.

    Attributes:
        name: of its files; none are written where it is empty.
        rows: the first cell is the row's head.
        numeric: whether all columns but the first are numbers, aligned right.
        folded: shown on demand; for long tables.
        data: what the CSV file has; default: the text.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    name: str = ""
    numeric: bool = True
    folded: bool = False
    data: pd.DataFrame | None = None


@dataclass(frozen=True)
class Chart:
    """A drawing; `name` is that of its files."""

    name: str
    drawing: Drawing
    caption: str


@dataclass(frozen=True)
class Picture:
    """A JPEG file."""

    name: str
    jpeg: bytes
    caption: str


Block = Paragraph | Bullets | Code | Table | Chart | Picture


@dataclass(frozen=True)
class Section:
    """`anchor` is its address in the page."""

    title: str
    anchor: str
    blocks: Sequence[Block]
