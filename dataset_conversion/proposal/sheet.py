"""The sheet about the patients, in the data folder or beside it, by a column whose cells are the subjects found."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_conversion.proposal.roles import fold
from dataset_conversion.tables import spreadsheets

_MOST_FILES, _MOST_BYTES = 20, 20_000_000
_ENDINGS = (".csv", ".tsv", ".xlsx")
_KEY = re.compile(r".*(^|[^a-z])(id|num\w*|no?|n°|code|patients?|su[bj]\w*|participants?|ipp)([^a-z]|$).*")
_SITE = re.compile(r"(centres?|centers?|sites?|hopital|hospital|chu?|ville|city|etablissement)([^a-z].*)?")
_PERSON = re.compile(
    r".*(nom|name|naiss|birth|ddn|dob|adress|addr|tel|phone|mail|ipp|nip|nss|secu|initial|medecin|doctor|comment|remarq).*"
)
_OF_THE_TABLE = re.compile(r"case|subject|session|site|split|mask(_\d+)?")


@dataclass(frozen=True)
class Sheet:
    """A sheet by the columns that are of use.

    Attributes:
        file: relative to the source folder.
        matched: the number of subjects that it lists.
    """

    file: str
    key: str
    matched: int
    session: str = ""
    site: str = ""
    columns: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """The cells of a sheet by its columns."""

    file: str
    columns: dict[str, list[str]]

    @property
    def is_workbook(self) -> bool:
        return self.file.lower().endswith(".xlsx")


def read_near(source: Path, paths: Sequence[PurePosixPath]) -> list[Rows]:
    """The sheets among the files of the source, then those beside it; what cannot be read is passed over."""
    inside = sorted((path for path in paths if path.name.lower().endswith(_ENDINGS)), key=lambda path: len(path.parts))
    try:
        beside = sorted(
            PurePosixPath("..", path.name)
            for path in source.resolve().parent.iterdir()
            if path.name.lower().endswith(_ENDINGS) and path.is_file()
        )
    except OSError:
        beside = []
    near = [path for path in (*inside, *beside) if not path.name.startswith((".", "~$")) and str(path).isprintable()]
    near.sort(key=lambda path: path.name.lower().endswith(".xlsx"))  # for which openpyxl is needed
    return [rows for path in near[:_MOST_FILES] for rows in _read(source, path)]


def _read(source: Path, path: PurePosixPath) -> Iterator[Rows]:
    try:
        if not (source / path).is_file() or (source / path).stat().st_size > _MOST_BYTES:
            return
        content = (source / path).read_bytes()
        if spreadsheets.is_workbook(content):
            tables = spreadsheets.sheets(source / path)
        else:
            tables = [[cells for _, cells in spreadsheets.rows(spreadsheets.decode(content))]]
    except (OSError, ValueError):
        return
    for rows in tables:
        rows = [cells for cells in rows if any(cells)]
        header = [name.strip() for name in rows[0]] if rows else []
        columns = {
            name: [cells[i].strip() if i < len(cells) else "" for cells in rows[1:]]
            for i, name in enumerate(header)
            if name.isprintable() and name and header.count(name) == 1
        }
        if columns and "/" not in "".join(columns.get("mask", ())):  # a case table is no sheet of patients
            yield Rows(str(path), columns)


def lists(sheets: Sequence[Rows], subjects: Collection[str]) -> bool:
    """Whether one of the sheets lists at least half of the subjects."""
    return best(sheets, subjects, ()) is not None


def best(
    sheets: Sequence[Rows], subjects: Collection[str], cases: Collection[tuple[str, str]], images: Collection[str] = ()
) -> Sheet | None:
    """The sheet that lists most subjects, at least half of them.

    Args:
        sheets: those that are near.
        subjects: as the layout names them, without `sub-`.
        cases: (subject, session) of each case, for the column of the session.
        images: names that no column to carry along may have.
    """
    known = {_plain(subject) for subject in subjects}
    possible = []
    for rows in sheets:
        for name, cells in rows.columns.items():
            matched = len(known & set(map(_plain, cells)))
            if 2 * matched >= len(subjects) and matched:
                possible.append((matched, bool(_KEY.fullmatch(fold(name))), rows, name))
    possible.sort(key=lambda each: each[:2], reverse=True)
    found = (_sheet(rows, name, matched, cases, images) for matched, _, rows, name in possible)
    return next(filter(None, found), None)


def _sheet(
    rows: Rows, key: str, matched: int, cases: Collection[tuple[str, str]], images: Collection[str]
) -> Sheet | None:
    others = [name for name in rows.columns if name != key]
    filled = [_plain(cell) for cell in rows.columns[key] if cell]
    session = ""
    if len(set(filled)) < len(filled):
        known = {(_plain(subject), visit) for subject, visit in cases}
        keys = {
            name: list(zip(map(_plain, rows.columns[key]), map(_bare, rows.columns[name]), strict=True))
            for name in others
        }
        session = max(others, key=lambda name: len(known & set(keys[name])), default="")
        if not session or not known & set(keys[session]) or len(set(keys[session])) < len(filled):
            return None
        others.remove(session)
    site = next((name for name in others if _SITE.fullmatch(fold(name))), "")
    rest = [name for name in others if name != site]
    left_out = [
        name for name in rest if _PERSON.fullmatch(fold(name)) or _OF_THE_TABLE.fullmatch(name) or name in images
    ]
    columns = tuple(name for name in rest if name not in left_out)
    return Sheet(rows.file, key, matched, session, site, columns, tuple(left_out))


def _plain(name: str) -> str:
    """Without `sub-` and the zeros that spreadsheets drop."""
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", _bare(name))


def _bare(name: str) -> str:
    return re.sub(r"^(sub|ses)-", "", name.strip())
