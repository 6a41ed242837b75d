"""A case table instead of a layout: the way for data that no expression describes, and for a scan edited by hand."""

from __future__ import annotations

from pathlib import Path

from dataset_conversion import case_table
from dataset_conversion.errors import Finding, stop
from dataset_conversion.layouts.layout import Layout, Scan


def layout(path: Path) -> Layout:
    """The layout that finds what a table lists."""

    def find(source: Path) -> Scan:
        if not source.is_dir():
            raise stop("NO_SOURCE", f"{source} is not a folder", "Give the folder that the table's paths start from.")
        cases = sorted(case_table.read(path), key=lambda case: case.case)
        if not cases:
            raise stop("NO_CASES", f"{path} has no row under its header", "Add one per subject and session.")
        return Scan(tuple(cases), tuple(_unlabelled(len([case for case in cases if not case.masks]), len(cases))))

    return Layout("table", find)


def _unlabelled(count: int, total: int) -> list[Finding]:
    if not count:
        return []
    problem = f"{count} of {total} cases have no mask; without a split of their own they are test cases"
    return [Finding("UNLABELLED", problem, "Add the masks that are missing.", severity="warning")]
