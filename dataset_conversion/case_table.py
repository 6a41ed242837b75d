"""The case table: one row per subject and session, as a tab-separated file that people can print, edit and feed back.

Columns: case, subject, session, site, split (train or test), then one column per image (T1w, …), then mask. Paths are
relative to the data folder, with forward slashes; an empty cell means there is no such file or no such information.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dataset_conversion.errors import ConversionError, Finding

_BEFORE_IMAGES = ("case", "subject", "session", "site", "split")
_MASK = "mask"
_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")


@dataclass(frozen=True)
class Case:
    """One subject at one session.

    ``case`` is the identifier in nnU-Net's file names. ``images`` maps the name of each image ("T1w") to its path, in
    channel order; an empty path means that the image is missing.
    """

    case: str
    subject: str
    split: Literal["train", "test"]
    images: Mapping[str, str] = field(default_factory=dict)
    mask: str = ""
    session: str = ""
    site: str = ""


def to_tsv(cases: Sequence[Case]) -> str:
    """The table as text, header first."""
    image_names = list(cases[0].images) if cases else []
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([*_BEFORE_IMAGES, *image_names, _MASK])
    for case in cases:
        images = [case.images.get(name, "") for name in image_names]
        writer.writerow([case.case, case.subject, case.session, case.site, case.split, *images, case.mask])
    return text.getvalue()


def write(cases: Sequence[Case], path: Path) -> None:
    # surrogateescape keeps file names that are not valid UTF-8 as they are on disk.
    path.write_bytes(to_tsv(cases).encode("utf-8", "surrogateescape"))


def read(path: Path) -> list[Case]:
    """Read a case table, also one that went through a spreadsheet (byte-order mark, CRLF, quoted or blank lines).

    The columns between ``split`` and ``mask`` are the images, in channel order.

    Raises:
        ConversionError: naming each missing column and each faulty line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ConversionError(
            [Finding("TABLE_UNREADABLE", f"cannot read the case table {path}: {error.strerror}")]
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    header = [name.strip() for name in next(reader, [])]
    images = _image_columns(path, header)
    cases: list[Case] = []
    findings: list[Finding] = []
    line_of_case: dict[str, int] = {}
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num
        where = f"{path}, line {line}"
        if len(cells) > len(header):
            findings.append(
                Finding("TABLE_ROW", f"{where}: {len(cells)} cells for {len(header)} columns", "Remove the extra tabs.")
            )
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        for problem, remedy in _row_problems(row, line_of_case):
            findings.append(Finding("TABLE_ROW", f"{where}: {problem}", remedy))
        line_of_case.setdefault(row.get("case", "").casefold(), line)
        cases.append(
            Case(
                case=row.get("case", ""),
                subject=row.get("subject", ""),
                split="test" if row.get("split") == "test" else "train",
                images={name: row.get(name, "") for name in images},
                mask=row.get(_MASK, ""),
                session=row.get("session", ""),
                site=row.get("site", ""),
            )
        )
    if findings:
        raise ConversionError(findings)
    return cases


def _image_columns(path: Path, header: list[str]) -> list[str]:
    missing = [name for name in (*_BEFORE_IMAGES, _MASK) if name not in header]
    if missing:
        problem = f"{path}, line 1: no column {', '.join(missing)}; found {', '.join(filter(None, header)) or 'none'}"
        remedy = (
            "The table needs a header line with tab-separated names: "
            f"{', '.join(_BEFORE_IMAGES)}, one column per image (T1w), {_MASK}."
        )
        raise ConversionError([Finding("TABLE_COLUMNS", problem, remedy)])
    images = [name for name in header[header.index("split") + 1 : header.index(_MASK)] if name]
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated or not images:
        problem = (
            f"column {', '.join(repeated)} appears twice" if repeated else "no image column between split and mask"
        )
        raise ConversionError([Finding("TABLE_COLUMNS", f"{path}, line 1: {problem}", "Name every column once.")])
    return images


def _row_problems(row: Mapping[str, str], line_of_case: Mapping[str, int]) -> list[tuple[str, str]]:
    """(problem, remedy) for each fault of one row; identifiers are compared without case, as some file systems do."""
    problems = []
    case = row.get("case", "")
    if not _CASE_ID.fullmatch(case):
        problems.append((f"{case!r} cannot be a case", "Use letters, digits and . + _ - only."))
    elif case.casefold() in line_of_case:
        problems.append(
            (f"case {case} is already on line {line_of_case[case.casefold()]}", "Give each row its own case.")
        )
    if not row.get("subject"):
        problems.append(("the subject is empty", "Folds are cut by subject: name it."))
    if row.get("split") not in ("train", "test"):
        problems.append((f"the split is {row.get('split', '')!r}", "Use train or test."))
    return problems
