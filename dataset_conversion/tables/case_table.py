"""The case table: one row per subject and session, as a tab-separated file that people can print, edit and feed back.

Columns: case, subject, session, site, split (train or test), then one column per image (T1w, FLAIR, …), then mask
(mask_2, mask_3, … where a scan has several), then whatever else is known about the case. Paths are relative to the data
folder, with forward slashes, or absolute, and may name one volume of a file (`x.nii.gz#2`); an empty cell means there
is no such file or no such information.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.tables import spreadsheets
from nnunet_transformers.common.problems import Finding

Split = Literal["train", "test"]

_ABOUT_CASE = ("case", "subject", "session", "site", "split")
_MASK_COLUMN = re.compile(r"mask(_\d+)?")
_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")


@dataclass(frozen=True)
class Case:
    """One subject at one session.

    `case` is the identifier in nnU-Net's file names. `images` maps the name of each image ("T1w") to its path, in
    channel order; an empty path means that the image is missing. Several `masks` are parts of one lesion mask, to be
    united. `metadata` is what the release says about the case, as it says it; `label_names` are (value, name) of what
    its masks show, where that is known, and not in the table.
    """

    case: str
    subject: str
    split: Split = "train"
    images: Mapping[str, str] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    session: str = ""
    site: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    label_names: tuple[tuple[float, str], ...] = ()


def case_name(subject: str, session: str) -> str:
    """`sub-r001s001_ses-1` for subject `sub-r001s001` and session `1`."""
    return f"{subject}_ses-{session}" if session else subject


NAME_REMEDY = "Give it a name of letters, digits and . + _ - in the column case."


def is_case_name(name: str) -> bool:
    """Whether nnU-Net's files can be called so."""
    return bool(_CASE_ID.fullmatch(name))


def is_own_column(name: str) -> bool:
    """Whether the table has a column of this name, in any capitals, so that no image can be called so."""
    return name.casefold() in _ABOUT_CASE or bool(_MASK_COLUMN.fullmatch(name.casefold()))


def plain_name(name: str) -> str:
    """A case or a subject however people spell it: without capitals and `sub-`, accents composed."""
    # macOS and Linux spell accented letters differently.
    return unicodedata.normalize("NFC", name.strip()).casefold().removeprefix("sub-")


def to_tsv(cases: Sequence[Case]) -> str:
    """The table as text, header first; it has a column for everything that any case has."""
    image_names = list(dict.fromkeys(name for case in cases for name in case.images))
    metadata_names = list(dict.fromkeys(name for case in cases for name in case.metadata))
    mask_names = ["mask", *(f"mask_{i + 2}" for i in range(max((len(case.masks) for case in cases), default=1) - 1))]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([*_ABOUT_CASE, *image_names, *mask_names, *metadata_names])
    for case in cases:
        images = [case.images.get(name, "") for name in image_names]
        masks = [*case.masks, *[""] * (len(mask_names) - len(case.masks))]
        metadata = [case.metadata.get(name, "") for name in metadata_names]
        writer.writerow([case.case, case.subject, case.session, case.site, case.split, *images, *masks, *metadata])
    return text.getvalue()


def write(cases: Sequence[Case], path: Path) -> None:
    # surrogateescape keeps file names that are not valid UTF-8 as they are on disk.
    path.write_bytes(to_tsv(cases).encode("utf-8", "surrogateescape"))


def read(path: Path, *, keep_bytes: bool = True, any_name: bool = False) -> list[Case]:
    """Read a case table, also one that a spreadsheet wrote (commas or semicolons, byte-order mark, CRLF, blank lines).

    Only `subject` and one image column are needed. Without `case` the name is that of subject and session; without
    `split`, what has a mask is for training. Columns before `mask` are images, in channel order; those behind it
    are metadata. Capitals in the names of other columns do not matter.

    Args:
        path: the table.
        keep_bytes: see `spreadsheets.decode`.
        any_name: take a case that could not be called so in nnU-Net's files; see `is_case_name`.

    Raises:
        ConversionError: naming each missing column and each faulty line.
    """
    delimiter, rows = _rows(path, keep_bytes)
    header = [_column(name) for name in rows.pop(0)[1]] if rows else []
    columns = _Columns.of(path, header, [cells for _, cells in rows])
    cases: list[Case] = []
    findings: list[Finding] = []
    line_of_case: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        if any(part.count(delimiter) == len(header) - 1 for cell in cells for part in cell.splitlines()[1:]):
            problem = f"{where}: one cell holds the next row too, between quotation marks"
            findings.append(Finding("TABLE_ROW", problem, spreadsheets.QUOTING))
        if len(cells) > len(header):
            problem = f"{where}: {len(cells)} cells for {len(header)} columns"
            findings.append(Finding("TABLE_ROW", problem, "Remove what is too much."))
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        case = columns.case(row)
        for problem, remedy in _row_problems(case, row.get("split"), line_of_case, any_name):
            findings.append(Finding("TABLE_ROW", f"{where}: {problem}", remedy))
        line_of_case.setdefault(case.case.casefold(), line)
        cases.append(case)
    if findings:
        raise ConversionError(findings)
    return cases


def _rows(path: Path, keep_bytes: bool) -> tuple[str, list[tuple[int, list[str]]]]:
    """What separates the cells, and the rows with their numbers; of a workbook the first sheet with a subject."""
    again = "Save it again as text (UTF-8)."
    try:
        content = path.read_bytes()
        if spreadsheets.is_workbook(content):
            sheets = spreadsheets.numbered_sheets(path)
            return "\t", next((rows for rows in sheets if "subject" in map(_column, rows[0][1])), sheets[0])
        text = spreadsheets.decode(content, keep_bytes=keep_bytes)
    except OSError as error:
        raise stop("TABLE_UNREADABLE", f"cannot read the case table {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        problem = f"cannot read the case table {path}: it is cut off ({error.reason})"
        raise stop("TABLE_UNREADABLE", problem, again) from None
    except spreadsheets.WorkbookError as error:
        raise stop("TABLE_UNREADABLE", f"cannot read the case table {path}: {error}", error.remedy) from None
    text = re.sub(r"\A\ufeff?\"?sep=.\"?\r?\n", "", text)  # Excel's note of the separator to itself
    try:
        return spreadsheets.delimiter(text), list(spreadsheets.rows(text))
    except spreadsheets.TableError as error:
        raise stop("TABLE_ROW", f"{path}, {error}", spreadsheets.QUOTING) from None


def _column(name: str) -> str:
    """A column of ours however its name is capitalised, another one as it is."""
    name = name.strip()
    known = name.casefold()
    return known if is_own_column(known) else name


@dataclass(frozen=True)
class _Columns:
    """What the columns of a table hold."""

    images: Sequence[str]
    masks: Sequence[str]
    metadata: Sequence[str]

    @classmethod
    def of(cls, path: Path, header: list[str], rows: Sequence[Sequence[str]]) -> _Columns:
        masks = [name for name in header if _MASK_COLUMN.fullmatch(name)]
        first_mask = header.index(masks[0]) if masks else len(header)
        others = [(i, name) for i, name in enumerate(header) if name and name not in (*_ABOUT_CASE, *masks)]
        images = [name for i, name in others if i < first_mask]
        metadata = [name for i, name in others if i > first_mask]
        problems = []
        if "subject" not in header:
            problems.append(f"no column subject; found {', '.join(filter(None, header)) or 'none'}")
        problems += [
            f"column {name} appears twice" for name in sorted({n for n in header if n and header.count(n) > 1})
        ]
        for i, name in enumerate(header):
            # An index, as pandas writes it, has no name either.
            cells = [] if name else [row[i].strip() for row in rows if i < len(row)]
            if untitled := [cell for cell in cells if cell and not cell.isdecimal()]:
                problems.append(f"column {i + 1} has no name, but cells, such as {untitled[0]}")
        if not images and not problems:
            problems.append("no image column before mask")
        if problems:
            remedy = (
                "The table needs a header line with names, separated by tabs (or ; or ,): subject, one column per "
                "image (T1w), mask; case, session, site and split where they are known."
            )
            raise ConversionError([Finding("TABLE_COLUMNS", f"{path}, line 1: {each}", remedy) for each in problems])
        return cls(images, masks, metadata)

    def case(self, row: Mapping[str, str]) -> Case:
        masks = tuple(row[name] for name in self.masks if row.get(name))
        subject, session = row.get("subject", ""), row.get("session", "")
        return Case(
            case=row.get("case") or case_name(subject, session),
            subject=subject,
            split="test" if (row.get("split") or ("train" if masks else "test")) == "test" else "train",
            images={name: row.get(name, "") for name in self.images},
            masks=masks,
            session=session,
            site=row.get("site", ""),
            metadata={name: row.get(name, "") for name in self.metadata},
        )


def _row_problems(
    case: Case, split: str | None, line_of_case: Mapping[str, int], any_name: bool
) -> list[tuple[str, str]]:
    """(problem, remedy) for each fault of one row; identifiers are compared without case, as some file systems do."""
    problems = []
    if not case.subject:
        problems.append(("the subject is empty", "Folds are cut by subject: name it."))
    elif not (any_name or is_case_name(case.case)):
        remedy = NAME_REMEDY
        problems.append((f"{case.case!r} cannot be a case", remedy))
    elif case.case.casefold() in line_of_case:
        line = line_of_case[case.case.casefold()]
        problems.append((f"case {case.case} is already on line {line}", "Give each row its own case or session."))
    if split and split not in ("train", "test"):
        problems.append((f"the split is {split!r}", "Use train or test, or leave it empty."))
    return problems
