"""A case table instead of a layout: the way for data that no expression describes, and for a scan edited by hand."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dataset_conversion.errors import stop
from dataset_conversion.layouts.layout import Layout, Scan
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.names import file_of, is_nifti


def layout(path: Path) -> Layout:
    """The layout that finds what a table lists."""

    def find(source: Path) -> Scan:
        if not source.is_dir():
            raise stop("NO_SOURCE", f"{source} is not a folder", "Give the folder that the table's paths start from.")
        cases = sorted((_as_on_disk(case, source) for case in _read(path, source)), key=lambda case: case.case)
        if not cases:
            raise stop("NO_CASES", f"{path} has no row under its header", "Add one per subject and session.")
        _check_images_are_before_mask(path, cases, source)
        unlabelled = _unlabelled(len([case for case in cases if not case.masks]), len(cases))
        return Scan(tuple(cases), (*_name_problems(cases), *unlabelled))

    return Layout("table", find)


def _read(path: Path, source: Path) -> list[Case]:
    """Bytes that are not UTF-8 are names on disk as they are, or else the Windows encoding of an older spreadsheet."""
    cases = case_table.read(path, any_name=True)
    odd = [text for case in cases for text in _texts(case) if any("\udc80" <= letter <= "\udcff" for letter in text)]
    if odd and not any(os.path.lexists(file_of(source / text)) for text in odd):
        return case_table.read(path, keep_bytes=False, any_name=True)
    return cases


def _texts(case: Case) -> Sequence[str]:
    return (
        case.case,
        case.subject,
        case.session,
        case.site,
        *case.images.values(),
        *case.masks,
        *case.metadata.values(),
    )


def _as_on_disk(case: Case, source: Path) -> Case:
    """Paths as the file system spells them: / between folders, and accents in one of their two forms."""

    def spelled(path: str) -> str:
        slashed = path.replace("\\", "/")
        forms = [path, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))]
        return next((form for form in forms if form and os.path.lexists(file_of(source / form))), path)

    images = {name: spelled(path) for name, path in case.images.items()}
    return replace(case, images=images, masks=tuple(map(spelled, case.masks)))


def _check_images_are_before_mask(path: Path, cases: Sequence[Case], source: Path) -> None:
    columns = {
        name
        for case in cases
        for name, cell in case.metadata.items()
        if is_nifti((file := file_of(cell.replace("\\", "/"))).name) and os.path.lexists(source / file)
    }
    if columns:
        problem = f"{path}, line 1: images in columns behind mask, which are no channels: {', '.join(sorted(columns))}"
        raise stop("TABLE_COLUMNS", problem, "Put the columns of images before mask, or remove them.")


def _name_problems(cases: Sequence[Case]) -> list[Finding]:
    return [
        Finding(
            "CASE_NAME", f"{case.case!r} cannot be a case", f"{case_table.NAME_REMEDY} Or --pseudonymise.", case.case
        )
        for case in cases
        if not case_table.is_case_name(case.case)
    ]


def _unlabelled(count: int, total: int) -> list[Finding]:
    if not count:
        return []
    problem = f"{count} of {total} cases have no mask; without a split of their own they are test cases"
    return [Finding("UNLABELLED", problem, "Add the masks that are missing.", severity="warning")]
