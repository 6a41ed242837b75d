"""What a release says about its cases, as text and as it says it.

    sub-r001s001_ses-1_metadata.csv       ATLAS R2.1 and R3.0, one per session: DAYS_POST_STROKE, CHRONICITY, SITE, …
    sub-r001s001_ses-1_metadata.json      the same as ISLES'26 has it, with CENTER for SITE
    20220425_ATLAS_2.0_MetaData.xlsx      ATLAS R2.0: one row per subject; any CSV, TSV or XLSX with "Subject ID"
    participants.tsv, sub-01_sessions.tsv BIDS

Nothing here stops a conversion: what cannot be read, is missing or odd is a warning.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from dataset_conversion.layouts import entities
from dataset_conversion.tables import spreadsheets
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.words import counted, listed

Key = tuple[str, str]
"""(subject, session) in the spelling of `case_key`."""

_SUBJECT_COLUMNS = ("participant_id", "subject_id")
_SESSION_COLUMNS = ("session_id", "session", "ses")
_TABLE_COLUMNS = re.compile(r"case|subject|session|split|mask(_\d+)?")
_ABSENT = ("", "n/a", "na", "nan", "none", "null", "-")
_DAYS = "days_post_stroke"
_HEADER_ROWS = 10
_CENTRES = ("CENTER", "CENTRE")


@dataclass(frozen=True)
class Metadata:
    """What was read.

    Attributes:
        rows: (subject, session) → column → text. Rows that name no session have an empty one and hold for each.
        files: the file that a row was first found in.
        findings: warnings about files that could not be read or contradict each other.
    """

    rows: Mapping[Key, Mapping[str, str]]
    files: Mapping[Key, PurePosixPath]
    findings: tuple[Finding, ...] = ()

    def of_subjects(self, subjects: Collection[str]) -> Metadata:
        """The same, with rows of `12` for a subject `0012` where there is no other such number, and a warning."""
        wanted = {case_key(subject, "")[0] for subject in subjects}
        other = spreadsheets.across_zeros(wanted, {subject for subject, _ in self.rows})
        if not other:
            return self
        names = {there: own for own, there in other.items()}
        rows = {(names.get(subject, subject), session): row for (subject, session), row in self.rows.items()}
        files = {(names.get(subject, subject), session): path for (subject, session), path in self.files.items()}
        pairs = [f"{there} for {own}" for own, there in sorted(other.items())]
        problem = f"{counted(len(other), 'name')} of the metadata matched but for leading zeros: {listed(pairs, 3)}"
        zeros = _warning("SHEET_ZEROS", problem, "Spreadsheets make 12 of 0012.", names=pairs)
        return Metadata(rows, files, (*self.findings, zeros))

    def of(self, subject: str, session: str) -> dict[str, str]:
        """What is known of a case; what is said of its session goes before what is said of the subject."""
        known = dict(self.rows.get(case_key(subject, ""), {}))
        for column, text in self.rows.get(case_key(subject, session), {}).items():
            if text or column not in known:
                known[column] = text
        return known


def case_key(subject: str, session: str) -> Key:
    """One spelling for `sub-R001s001` and `r001s001`, and for `ses-01`, `01`, `1` and `sub-x_ses-1`."""
    subject = subject.strip().lower().removeprefix("sub-")
    session = session.strip().lower()
    session = re.sub(r"(.*_)?ses-", "", session)
    return f"sub-{subject}", (session.lstrip("0") or "0") if session.isdigit() else session


def column_name(header: str) -> str:
    """`days_post_stroke` for `Days Post Stroke`, `atlas_1_2_subject_id` for `ATLAS 1.2 Subject ID`."""
    ascii_only = unicodedata.normalize("NFKD", header).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_only.lower()).strip("_")


def read(source: Path, paths: Iterable[PurePosixPath]) -> Metadata:
    """Read all metadata among the files of a source.

    Args:
        source: the folder.
        paths: its files, relative to it.
    """
    rows: dict[Key, dict[str, str]] = {}
    files: dict[Key, PurePosixPath] = {}
    findings: list[Finding] = []
    conflicts: dict[tuple[PurePosixPath, PurePosixPath, str], list[str]] = defaultdict(list)
    for path in sorted(paths, key=_most_specific_first):
        try:
            for key, row in _rows(source, path):
                known = rows.setdefault(key, {})
                first = files.setdefault(key, path)
                for column, text in row.items():
                    if known.get(column) and text and known[column] != text:
                        conflicts[first, path, column].append(key[0])
                    known[column] = known.get(column) or text
        except _UnreadError as error:
            findings.append(_warning("METADATA_UNREAD", f"cannot read {path}: {error}", error.remedy))
    for (first, other, column), subjects in conflicts.items():
        where = f"within {first}" if first == other else f"between {first} and {other}"
        problem = f"{column} differs {where} for {listed(subjects, 3)}; the first value is kept"
        findings.append(_warning("METADATA_CONFLICT", problem, "Look which is right.", names=subjects))
    return Metadata(rows, files, tuple(findings))


def for_table(row: Mapping[str, str]) -> dict[str, str]:
    """The columns that can stand in a case table: `site` has its own there, other names of its own are prefixed."""
    return {
        f"metadata_{column}" if _TABLE_COLUMNS.fullmatch(column) else column: text
        for column, text in row.items()
        if column != "site"
    }


def site(row: Mapping[str, str]) -> str:
    """The site that a row of metadata tells; empty where it does not."""
    text = row.get("site", "")
    return "" if text.lower() in _ABSENT else text


def review(metadata: Metadata, cases: Sequence[Case]) -> list[Finding]:
    """Warnings about values that are odd or missing, and about rows that no case belongs to; nothing is changed."""
    findings = []
    for case in cases:
        days = case.metadata.get(_DAYS, "")
        if days.lower() not in _ABSENT and not _is_duration(days):
            problem = f"{days} days post stroke in the metadata"
            findings.append(_warning("METADATA_ODD", problem, "Kept as it is; look before you use it.", case.case))
    missing = [case.case for case in cases if case.metadata.get(_DAYS, "").lower() in _ABSENT]
    if missing and any(_DAYS in row for row in metadata.rows.values()):
        problem = f"no days post stroke for {len(missing)} of {len(cases)} cases: {listed(missing, 3)}"
        findings.append(_warning("METADATA_MISSING", problem, names=missing))
    found = {case_key(case.subject, session) for case in cases for session in ("", case.session)}
    strangers: dict[PurePosixPath, list[str]] = defaultdict(list)
    for key, path in metadata.files.items():
        if key not in found:
            strangers[path].append("_ses-".join(filter(None, key)))
    for path, names in strangers.items():
        problem = f"{path} tells of {listed(names, 3)}, of which there is no case"
        remedy = "Compare the spelling if there should be."
        findings.append(_warning("METADATA_UNMATCHED", problem, remedy, names=names))
    return findings


class _UnreadError(Exception):
    """A table that cannot be read, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def _most_specific_first(path: PurePosixPath) -> tuple[bool, PurePosixPath]:
    return not path.name.lower().startswith("sub-"), path


def _rows(source: Path, path: PurePosixPath) -> Iterator[tuple[Key, dict[str, str]]]:
    """The rows of a file that has metadata; none for any other file."""
    lower = path.name.lower()
    if not lower.endswith((".csv", ".tsv", ".xlsx", ".json")) or lower.startswith("~$"):
        return
    name = entities.parse(path.name) if lower.startswith("sub-") else None
    if lower.startswith("sub-") and (name is None or name.suffix.lower() not in ("metadata", "sessions")):
        return
    if lower.endswith(".json") and not (name and name.suffix.lower() == "metadata"):
        return
    if (source / path).exists() and not (source / path).is_file():
        raise _UnreadError("not a regular file", "Put the table itself in its place, if it matters.")
    subject = name.entities.get("sub", "") if name else ""
    session = name.entities.get("ses", "") if name else ""
    header, table = _table(source / path, any_header=name is not None)
    subject_column = next((column for column in _SUBJECT_COLUMNS if column in header), "")
    if subject_column == "participant_id" and not name and not lower.startswith("participants"):
        return
    session_column = next((column for column in _SESSION_COLUMNS if column in header), "")
    for cells in table:
        row = {column: cell for column, cell in zip(header, cells, strict=False) if column}
        key = case_key(subject or row.pop(subject_column, ""), session or row.get(session_column, ""))
        row.pop(session_column, None)
        if key[0] != "sub-" and any(row.values()):
            yield key, row


def _table(path: Path, any_header: bool) -> tuple[list[str], list[list[str]]]:
    """Column names and rows below them; empty where no line near the top names a subject column.

    With `any_header` the first line is the header whatever it says.
    """
    read = {".xlsx": _xlsx_lines, ".json": _json_lines}.get(path.suffix.lower(), _text_lines)
    lines = iter(read(path))
    for line in islice(lines, 1 if any_header else _HEADER_ROWS):
        header = [column_name(cell) for cell in line]
        if any_header or set(_SUBJECT_COLUMNS) & set(header):
            return header, [cells for cells in lines if any(cells)]
    return [], []


def _text_lines(path: Path) -> Iterator[list[str]]:
    try:
        text = spreadsheets.decode(path.read_bytes())
        for _, cells in spreadsheets.rows(text):
            yield [cell.strip() for cell in cells]
    except OSError as error:
        raise _UnreadError(str(error.strerror), "Make it readable, if it matters.") from None
    except spreadsheets.TableError as error:
        raise _UnreadError(str(error), f"{spreadsheets.QUOTING} Mend it, if it matters.") from None
    except UnicodeError as error:
        raise _UnreadError(f"not a table of text ({error})", "Export it again as CSV, if it matters.") from None


def _json_lines(path: Path) -> list[list[str]]:
    """The header and the one row of a JSON object; values that are no text and no number are left out."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _UnreadError(str(error.strerror), "Make it readable, if it matters.") from None
    except ValueError as error:
        raise _UnreadError(f"not JSON ({error})", "Get it again, if it matters.") from None
    if not isinstance(content, dict):
        raise _UnreadError("not one JSON object (name: value)", "Get it again, if it matters.")
    row = {"SITE" if name.upper() in _CENTRES else name: _json_text(value) for name, value in content.items()}
    return [list(row), list(row.values())]


def _json_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() if isinstance(value, (str, int, float)) else ""


def _xlsx_lines(path: Path) -> list[list[str]]:
    """All rows of the first sheet that names a subject column, or of the first sheet."""
    try:
        sheets = spreadsheets.sheets(path)
    except spreadsheets.WorkbookError as error:
        raise _UnreadError(str(error), error.remedy) from None
    named = (
        rows
        for rows in sheets
        if any(column_name(cell) in _SUBJECT_COLUMNS for row in rows[:_HEADER_ROWS] for cell in row)
    )
    return next(named, sheets[0] if sheets else [])


def _is_duration(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def _warning(code: str, problem: str, remedy: str = "", case: str = "", names: Iterable[str] = ()) -> Finding:
    return Finding(code, problem, remedy, case, tuple(("name", name) for name in names), severity="warning")
