"""Take over an assignment to folds that others have published or used: nnU-Net's splits_final.json, or a table.

A table is one line per case or subject, with a header, a column whose name says `fold`, and a column that names cases
or subjects in one of the spellings of `CaseNames`. An example is `fold_index.csv` of the 655 training cases of ATLAS
R2.0 (github.com/King-HAW/ATLAS-R2-Docker-Submission):

    Name,Fold
    sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w,3
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.folds.splits import Member, Split, check_folds, splits_of
from dataset_conversion.options import Missing
from dataset_conversion.tables import spreadsheets
from dataset_conversion.tables.case_table import plain_name
from nnunet_transformers.common.problems import Finding

_EXTENSION = re.compile(r"\.(nii\.gz|nii|npz|npy|b2nd|pkl|mha|nrrd|json|img|hdr)$", re.IGNORECASE)
_CHANNEL = re.compile(r"_000\d$")
# What may follow a case's name without making it another case; ses-, run- and rec- would.
_DETAIL = re.compile(
    r"(space|label|desc|acq|res)-[a-z0-9+]+|(t1|t2|pd)w?|flair|mask|d?seg|lesion|lesionsmooth|deface|stx|brain|roi",
    re.IGNORECASE,
)
_NAME_COLUMN = re.compile(r"case|name|subject|patient|participant|image|file|id$", re.IGNORECASE)
_NO_FOLD = {"", "na", "n/a", "nan", "none", "null"}
_EXPECTED = (
    "Give nnU-Net's splits_final.json, or a table (CSV, TSV) whose first line names a column fold and a column case; "
    "save a spreadsheet as CSV."
)


def read_fold_list(
    path: Path,
    members: Sequence[Member],
    *,
    missing: Missing = "error",
    left_out: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> list[Split]:
    """Read an assignment to folds and hold it against the training cases of a dataset.

    Args:
        path: a file named `*.json`, or a table separated by tabs, commas or semicolons.
        members: one per training case; `group` is its subject.
        missing: what to do with cases that the list gives no fold: an error, or "exclude" leaves them out of all folds.
        left_out: cases and subjects that are known but not converted; that the list names them is no error.
        aliases: other names of cases and subjects that the list may use → theirs.

    Returns:
        One `{"train": [...], "val": [...]}` per fold, cases sorted; the folds of a table in natural order of their
        labels, whatever these are. The training parts of a splits_final.json are kept as they are.

    Raises:
        ConversionError: FOLD_LIST_UNREADABLE, FOLD_LIST_COLUMNS; FOLD_UNKNOWN for names that are no training case, with
            their lines; FOLD_MISSING for cases without a fold; LEAKAGE for subjects in more than one fold; and what
            `check_folds` finds.
    """
    names = CaseNames(members, left_out, aliases)
    text = _read(path)
    parse = _from_json if path.suffix.lower() == ".json" else _from_table
    splits = parse(path, text, names)
    findings = check_folds(splits, members)
    if missing == "exclude":
        absent = {finding.case for finding in findings if finding.code == "FOLD_MISSING"}
        splits = [{side: [case for case in split[side] if case not in absent] for side in split} for split in splits]
        findings = check_folds(splits, [member for member in members if member.case not in absent])
    if findings:
        raise ConversionError([_in_list(path, finding) for finding in findings])
    return splits


class CaseNames:
    """Finds the cases that a name in a foreign list stands for.

    Understood are a case (`sub-r001s001_ses-1`), a subject (`sub-r001s001`: all its sessions), either without
    `sub-`, and names or paths of their files (`…/sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz`,
    `sub-r001s001_ses-1_0000.nii.gz`); capitals do not matter. A session that the dataset does not have is not taken
    for another.
    """

    def __init__(
        self, members: Sequence[Member], left_out: Collection[str] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self.example = members[0].case if members else ""
        self._group_of = {member.case: member.group for member in members}
        self._cases: dict[str, list[str]] = {}
        for name in left_out:
            self._cases[plain_name(name)] = []
        by_subject: dict[str, list[str]] = defaultdict(list)
        for member in members:
            by_subject[plain_name(member.group)].append(member.case)
        self._cases |= by_subject
        self._cases |= {plain_name(member.case): [member.case] for member in members}
        for alias, name in (aliases or {}).items():
            if plain_name(name) in self._cases:
                self._cases.setdefault(plain_name(alias), self._cases[plain_name(name)])

    def find(self, name: str) -> list[str] | None:
        """The cases meant; empty for one that is left out, None for a name that stands for nothing known."""
        stem = _EXTENSION.sub("", re.split(r"[/\\]", name.strip())[-1])
        tokens = plain_name(_CHANNEL.sub("", stem) if plain_name(stem) not in self._cases else stem).split("_")
        while tokens:
            known = self._cases.get("_".join(tokens))
            if known is not None:
                return known
            if not _DETAIL.fullmatch(tokens.pop()):
                return None
        return None

    def subject(self, case: str) -> str:
        return self._group_of[case]


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise stop("FOLD_LIST_UNREADABLE", f"cannot read the fold list {path}: {error.strerror}", _EXPECTED) from None
    not_text = stop("FOLD_LIST_UNREADABLE", f"{path} is not a text file", _EXPECTED)
    try:
        text = spreadsheets.decode(content, keep_bytes=True)
    except UnicodeDecodeError:
        raise not_text from None
    if "\0" in text or path.suffix.lower() == ".pkl":
        raise not_text
    return text


def _in_list(path: Path, finding: Finding) -> Finding:
    """A finding about the assignment, as one about the file it came from."""
    remedy = finding.remedy
    if finding.code == "FOLD_MISSING":
        remedy = "Add it to the list, or leave what is missing there out of all folds (--missing-folds exclude)."
    return Finding(finding.code, f"{path}: {finding.problem}", remedy, finding.case)


def _unknown(where: str, name: str, names: CaseNames) -> Finding:
    remedy = f"Names must be those of training cases, such as {names.example}; remove the others from the list."
    return Finding("FOLD_UNKNOWN", f"{where}: {name!r} is no training case of the dataset", remedy)


def _from_json(path: Path, text: str, names: CaseNames) -> list[Split]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise stop("FOLD_LIST_UNREADABLE", f"{path} is not JSON: {error}", _EXPECTED) from None
    if not isinstance(content, list) or not content or not all(map(_is_split, content)):
        problem = f'{path} is not a list of {{"train": [names], "val": [names]}}'
        raise stop("FOLD_LIST_UNREADABLE", problem, _EXPECTED)
    findings: dict[str, Finding] = {}
    splits = []
    for number, entry in enumerate(content):
        split = {}
        for side in ("train", "val"):
            cases: set[str] = set()
            for name in entry[side]:
                found = names.find(name)
                if found is None:
                    findings.setdefault(name, _unknown(f"{path}, {side} of fold {number}", name, names))
                cases.update(found or ())
            split[side] = sorted(cases)
        splits.append(split)
    if findings:
        raise ConversionError(list(findings.values()))
    return splits


def _is_split(entry: object) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(side), list) and all(isinstance(name, str) for name in entry[side])
        for side in ("train", "val")
    )


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    fold: str


def _from_table(path: Path, text: str, names: CaseNames) -> list[Split]:
    rows = _rows(path, text, names)
    findings = []
    row_of: dict[str, _Row] = {}
    rows_of_subject: dict[str, dict[str, _Row]] = defaultdict(dict)
    for row in rows:
        found = names.find(row.name)
        if found is None:
            findings.append(_unknown(f"{path}, line {row.line}", row.name, names))
        elif row.fold:
            for case in found:
                row_of[case] = row
                rows_of_subject[names.subject(case)].setdefault(row.fold, row)
    for subject, of_fold in rows_of_subject.items():
        if len(of_fold) > 1:
            places = ", ".join(f"line {row.line}: fold {row.fold}" for row in of_fold.values())
            problem = f"{path}: subject {subject} is in {len(of_fold)} folds ({places})"
            remedy = "All scans of a person must be in one fold: correct the list."
            findings.append(Finding("LEAKAGE", problem, remedy))
    if findings:
        raise ConversionError(findings)
    labels = sorted({row.fold for row in row_of.values()}, key=_natural)
    return splits_of([[case for case, row in row_of.items() if row.fold == label] for label in labels])


def _rows(path: Path, text: str, names: CaseNames) -> list[_Row]:
    """The lines of a table with their fold, empty where a line gives none."""
    try:
        lines = [(line, [cell.strip() for cell in cells]) for line, cells in spreadsheets.rows(text)]
    except spreadsheets.TableError as error:
        raise stop("FOLD_LIST_UNREADABLE", f"{path}, {error}", spreadsheets.QUOTING) from None
    header = lines.pop(0)[1] if lines else []
    fold = _fold_column(path, header)
    name = _name_column(path, header, fold, [cells for _, cells in lines], names)
    return [
        _Row(line, cells[name], _label(cells[fold]) if fold < len(cells) else "")
        for line, cells in lines
        if name < len(cells)
    ]


def _fold_column(path: Path, header: Sequence[str]) -> int:
    plain = [re.sub(r"[^a-z]", "", cell.casefold()) for cell in header]
    for candidates in (
        [column for column, cell in enumerate(plain) if cell == "fold"],
        [column for column, cell in enumerate(plain) if "fold" in cell],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            problem = f"several columns could be the fold: {', '.join(header[column] for column in candidates)}"
            raise stop("FOLD_LIST_COLUMNS", f"{path}, line 1: {problem}", "Rename one of them to fold.")
    found = ", ".join(filter(None, header)) or "none"
    raise stop("FOLD_LIST_COLUMNS", f"{path}, line 1: no column is called fold; found {found}", _EXPECTED)


def _name_column(path: Path, header: Sequence[str], fold: int, lines: Iterable[Sequence[str]], names: CaseNames) -> int:
    """The column that names cases, judged by its header, then by how many it names and tells apart."""
    known: Mapping[int, list[tuple[str, ...]]] = {column: [] for column in range(len(header)) if column != fold}
    for cells in lines:
        for column, cell in enumerate(cells[: len(header)]):
            if column != fold and (found := names.find(cell)) is not None:
                known[column].append(tuple(found))

    def merit(column: int) -> tuple[bool, int, int, int]:
        is_named = bool(_NAME_COLUMN.search(header[column]))
        return is_named, len(known[column]), len(set(known[column])), -column

    best = max((column for column in known if known[column]), key=merit, default=None)
    if best is None:
        problem = f"{path}: no column names cases of the dataset; found {', '.join(filter(None, header))}"
        remedy = f"Names must be those of training cases, such as {names.example}."
        raise stop("FOLD_LIST_COLUMNS", problem, remedy)
    return best


def _label(cell: str) -> str:
    """A fold's label; 1.0, which is what pandas makes of 1 where others are missing, is 1."""
    if cell.casefold() in _NO_FOLD:
        return ""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", cell)


def _natural(label: str) -> list[tuple[int, int, str]]:
    """Orders fold2 before fold10."""
    parts = re.findall(r"\d+|\D+", label)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts]
