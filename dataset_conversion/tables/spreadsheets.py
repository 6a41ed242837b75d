"""Tables of text as spreadsheets save them."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

QUOTING = 'A cell that begins with " must end with one; write " twice within it.'
"""What to do where `rows` fails."""


class TableError(ValueError):
    """A line that cannot be cut into cells, by its number."""


class WorkbookError(ValueError):
    """A workbook that cannot be read, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def sheets(path: Path) -> list[list[list[str]]]:
    """The sheets of an XLSX workbook as rows of text; values of formulas as they were when it was saved.

    Raises:
        WorkbookError: it is none, it cannot be opened, or openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        remedy = "Run: pip install openpyxl (or save the file as CSV beside it)."
        raise WorkbookError("openpyxl, which reads XLSX, is not installed", remedy) from None
    try:
        with path.open("rb") as file:  # given a path it looks at its ending
            book = load_workbook(file, read_only=True, data_only=True)
            return [[[_text(cell) for cell in row] for row in sheet.values] for sheet in book.worksheets]
    except OSError as error:
        raise WorkbookError(str(error.strerror or error), "Make it readable, if it matters.") from None
    except Exception as error:  # a damaged workbook fails anywhere in zipfile, the XML parser or openpyxl
        raise WorkbookError(f"not an XLSX workbook ({error})", "Save it again, or as CSV.") from None


def numbered_sheets(path: Path) -> list[list[tuple[int, list[str]]]]:
    """The rows of each sheet that are not blank, with their numbers; sheets without a row are left out.

    Raises:
        WorkbookError: as `sheets`, and for a workbook without any row.
    """
    numbered = [[(line, row) for line, row in enumerate(sheet, 1) if any(row)] for sheet in sheets(path)]
    if not any(numbered):
        raise WorkbookError("its sheets are empty", "Save it again, or as CSV.")
    return [rows for rows in numbered if rows]


def _text(cell: object) -> str:
    """A cell as the spreadsheet shows it: Excel stores every number as a float."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def decode(content: bytes, *, keep_bytes: bool = False) -> str:
    """UTF-8, what Excel calls Unicode text (UTF-16), or else the code page of western European Windows.

    Args:
        content: of the file.
        keep_bytes: keep what is not UTF-8 as it is, as Python does in file names, instead of taking it for that code
            page.

    Raises:
        UnicodeDecodeError: UTF-16 that is cut off.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig", "surrogateescape" if keep_bytes else "strict")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def is_workbook(content: bytes) -> bool:
    """Whether it is XLSX or XLS instead of text."""
    return content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0"))


def across_zeros(wanted: Collection[str], there: Collection[str]) -> dict[str, str]:
    """Each wanted name that is not there → the one that is but for leading zeros, where that leaves no choice.

    A spreadsheet makes 12 of 0012, in whatever text the digits stand.
    """

    def plain(name: str) -> str:
        return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", name)

    wanted_by, there_by = defaultdict(list), defaultdict(list)
    for name in sorted(wanted):
        wanted_by[plain(name)].append(name)
    for name in there:
        there_by[plain(name)].append(name)
    return {
        own[0]: there_by[key][0]
        for key, own in wanted_by.items()
        if own[0] not in there and len(own) == len(there_by[key]) == 1
    }


def rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not blank, header first, each with the number of the line it begins on.

    Raises:
        TableError: a quotation mark that is not closed, which would take all following lines into one cell, or is
            closed within a cell; a cell of more characters than `csv.field_size_limit`.
    """
    line = 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"line {line}: where its cells end is not clear ({error})") from None


def delimiter(text: str) -> str:
    """What separates the names in the header line: tabs, or what a spreadsheet makes of them."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return max("\t;,", key=header.count)
