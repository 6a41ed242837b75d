"""The two JSON files of a converted dataset: nnU-Net's dataset.json and the account of how it came about."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from dataset_conversion.case_table import Case
from dataset_conversion.checks import CheckedCase, CheckedFile
from dataset_conversion.errors import Finding
from dataset_conversion.writing import destinations


@dataclass(frozen=True)
class Exclusion:
    """A case that was found but not converted, and why."""

    case: Case
    code: str
    reason: str


def dataset_json(name: str, about: Mapping[str, str], channels: Sequence[str], n_training: int) -> dict[str, Any]:
    return {
        "name": name,
        **about,
        "channel_names": {str(index): channel for index, channel in enumerate(channels)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": n_training,
        "file_ending": ".nii.gz",
    }


def conversion_report(
    *,
    layout: str,
    options: Mapping[str, Any],
    checked: Sequence[CheckedCase],
    exclusions: Sequence[Exclusion],
    warnings: Sequence[Finding],
) -> dict[str, Any]:
    """What was done to each case and why. Paths are relative to the source folder; there are no dates.

    The same source, options and versions give the same report.
    """
    parts = Counter(one.case.split for one in checked)
    return {
        "layout": layout,
        "options": dict(options),
        "counts": {
            "training": parts["train"],
            "test": parts["test"],
            "excluded": len(exclusions),
            "warnings": len(warnings),
            "subjects": len({one.case.subject for one in checked}),
        },
        "warnings": [_finding(warning) for warning in warnings],
        "excluded": [{"case": one.case.case, "code": one.code, "reason": one.reason} for one in exclusions],
        "cases": [_case(one) for one in checked],
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in ("nnunet-transformers", "numpy", "nibabel", "SimpleITK")},
        },
    }


def to_json(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _case(checked: CheckedCase) -> dict[str, Any]:
    assert checked.content is not None
    content, case = checked.content, checked.case
    return {
        "case": case.case,
        "subject": case.subject,
        "session": case.session,
        "site": case.site,
        "split": case.split,
        "shape": list(content.shape),
        "spacing_mm": list(content.spacing),
        "lesion": asdict(content.lesion) if content.lesion else None,
        "files": [_file(file, destination) for file, destination in destinations(checked)],
    }


def _file(file: CheckedFile, destination: str) -> dict[str, Any]:
    return {
        "role": file.role,
        "source": file.path,
        "sha256": file.sha256,
        "written": destination,
        "action": "rewritten" if file.changes else "unchanged",
        "reasons": list(file.changes),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "case": finding.case,
        "problem": finding.problem,
        "remedy": finding.remedy,
        "files": [list(place) for place in finding.files],
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
