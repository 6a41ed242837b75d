"""A sheet about the participants: one row per subject, or per subject and session; CSV of any spreadsheet, or XLSX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.tables import spreadsheets
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import counted, some

_TABLE_COLUMN = re.compile(r"case|subject|session|site|split|mask(_\d+)?")
_SHOWN = 5


@dataclass(frozen=True)
class Participants:
    """Where the sheet is and what its columns mean.

    `key` is the column of the subject's name, with or without `sub-`; `session` the column of the session, where
    subjects have a row for each; `site` that of the site. `columns` are carried along as they are; none named: all.

    Attributes:
        path: absolute, or relative to the source folder.
    """

    path: Path
    key: str
    session: str = ""
    site: str = ""
    columns: tuple[str, ...] = ()


def add_participants(
    cases: Sequence[Case], participants: Participants, source: Path
) -> tuple[list[Case], list[Finding]]:
    """The cases with their rows of the sheet as metadata, and a warning that names the cases without a row.

    A site known from the path is kept. Text is not changed; a case without a row gets empty cells.

    Raises:
        ConversionError: naming the file, and the column or line that is wrong.
    """
    path = source / participants.path
    rows, columns = _read(path, participants, {name for case in cases for name in case.images})
    keys = {case.case: (_bare(case.subject), _bare(case.session) if participants.session else "") for case in cases}
    spelled = spreadsheets.across_zeros({subject for subject, _ in keys.values()}, {subject for subject, _ in rows})
    complete, without, used = [], [], set()
    for case in cases:
        subject, session = keys[case.case]
        key = spelled.get(subject, subject), session
        row = rows.get(key, {})
        used.add(key)
        if not row:
            without.append(case.case)
        metadata = {name: row.get(name, "") for name in columns}
        site = case.site or row.get(participants.site, "").strip()
        complete.append(replace(case, site=site, metadata={**case.metadata, **metadata}))
    findings = []
    if spelled:
        pairs = [f"{there} for {own}" for own, there in spelled.items()]
        problem = f"{counted(len(spelled), 'name')} of {path} matched but for leading zeros: {some(pairs, _SHOWN)}"
        shown = tuple(("name", pair) for pair in pairs)
        remedy = "Spreadsheets make 12 of 0012."
        findings.append(Finding("SHEET_ZEROS", problem, remedy, files=shown, severity="warning"))
    if not without:
        return complete, findings
    problem = f"{len(without)} of {len(cases)} cases have no row in {path}: {some(without, _SHOWN)}"
    unused = [" ".join(filter(None, key)) for key in rows if key not in used]
    remedy = f"Rows without a case: {some(unused, _SHOWN)}. " if unused else ""
    remedy += "Names must agree to the letter, but for leading zeros where they leave no choice."
    shown = (*(("no row", name) for name in without), *(("no case", name) for name in unused))
    return complete, [*findings, Finding("SHEET_SUBJECT", problem, remedy, files=shown, severity="warning")]


def _read(
    path: Path, participants: Participants, images: set[str]
) -> tuple[dict[tuple[str, str], Mapping[str, str]], list[str]]:
    """Rows by (subject, session), and the columns to carry along."""
    lines = _lines(path, participants.key)
    rows: dict[tuple[str, str], Mapping[str, str]] = {}
    line_of: dict[tuple[str, str], int] = {}
    findings = []
    try:
        header = [name.strip() for name in next(lines, (1, []))[1]]
        columns = _columns(path, participants, header, images)
        for line, cells in lines:
            where = f"{path}, line {line}"
            row = {name: cell for name, cell in zip(header, cells, strict=False) if name}
            key = (_bare(row.get(participants.key, "")), _bare(row.get(participants.session, "")))
            if not key[0]:
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                problem = f"{where}: {len(cells)} cells for {len(header)} columns"
                findings.append(Finding("SHEET_ROW", problem, "Remove what is too much."))
            elif key in rows:
                problem = f"{where}: {' '.join(filter(None, key))!r} is already on line {line_of[key]}"
                remedy = (
                    "Leave one row" if participants.session else "Name the column of the session in the layout file"
                )
                findings.append(Finding("SHEET_ROW", problem, remedy + "."))
            rows[key], line_of[key] = row, line
    except spreadsheets.TableError as error:
        raise _unreadable(path, str(error), spreadsheets.QUOTING) from None
    if findings:
        raise ConversionError(findings)
    return rows, columns


def _columns(path: Path, participants: Participants, header: Sequence[str], images: set[str]) -> list[str]:
    """The columns to carry along."""
    meant = [name for name in (participants.key, participants.session, participants.site) if name]
    columns = list(participants.columns) or [name for name in header if name and name not in meant]
    problems = []
    for name in dict.fromkeys([*meant, *columns]):
        if header.count(name) != 1:
            problems.append((f"{'no' if name not in header else 'more than one'} column {name}", ""))
    for name in columns:
        if _TABLE_COLUMN.fullmatch(name) or name in images:
            remedy = "Name those to carry along (columns: in the layout file), or rename it."
            problems.append((f"the column {name} would be taken for one of the case table", remedy))
    if problems:
        found = f"Its columns are {', '.join(filter(None, header)) or 'none'}."
        raise ConversionError(
            [Finding("SHEET_COLUMNS", f"{path}, line 1: {problem}", remedy or found) for problem, remedy in problems]
        )
    return columns


def _lines(path: Path, key: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of the sheet, each with its number; of a workbook's sheets the first with the subject's column."""
    content = _content(path)
    if not spreadsheets.is_workbook(content):
        return spreadsheets.rows(_text(path, content))
    try:
        sheets = spreadsheets.numbered_sheets(path)
    except spreadsheets.WorkbookError as error:
        raise _unreadable(path, str(error), error.remedy) from None
    return iter(next((rows for rows in sheets if key in rows[0][1]), sheets[0]))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def _text(path: Path, content: bytes) -> str:
    try:
        return spreadsheets.decode(content)
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"it is cut off ({error.reason})", "Save the sheet as CSV (UTF-8).") from None


def _unreadable(path: Path, problem: str, remedy: str = "") -> ConversionError:
    remedy = remedy or "It is looked for beside the layout file, then in the source folder."
    return stop("SHEET_UNREADABLE", f"cannot read the sheet {path}: {problem}", remedy)


def _bare(name: str) -> str:
    return re.sub(r"^(sub|ses)-", "", name.strip())
