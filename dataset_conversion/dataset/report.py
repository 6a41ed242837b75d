"""What is written about a dataset as a whole: nnU-Net's dataset.json, the account of how it came about, qc.html."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from dataset_conversion.checks.case import CheckedCase, Content
from dataset_conversion.checks.file import CheckedFile
from dataset_conversion.dataset.records import Record
from dataset_conversion.dataset.writing import destinations, referenced
from dataset_conversion.folds.splits import Split
from dataset_conversion.options import Link
from dataset_conversion.qc import QcCase, qc_page
from dataset_conversion.selection import Exclusion
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding


def dataset_json(
    name: str, about: Mapping[str, str], channels: Sequence[str], regions: Sequence[str], n_training: int
) -> dict[str, Any]:
    """What nnU-Net wants to know.

    Args:
        name: without the number.
        about: descriptive entries.
        channels: names of the images, in order.
        regions: names, each inside the one before; the k-th has the labels from k on. One is a label as such.
        n_training: number of training cases.
    """
    labels = range(1, len(regions) + 1)
    of_regions = {region: list(labels[k:]) if labels[k + 1 :] else labels[k] for k, region in enumerate(regions)}
    return {
        "name": name,
        **about,
        "channel_names": {str(index): channel for index, channel in enumerate(channels)},
        "labels": {"background": 0, **of_regions},
        **({"regions_class_order": list(labels)} if len(regions) > 1 else {}),
        "numTraining": n_training,
        "file_ending": ".nii.gz",
    }


def referenced_files(checked: Sequence[CheckedCase], source: Path) -> dict[str, Any]:
    """The entry `dataset` of dataset.json: training files that stay where they are, and those in the dataset folder.

    Args:
        checked: the cases of the dataset.
        source: absolute path of the data folder.
    """
    entries: dict[str, Any] = {}
    for one in checked:
        if one.case.split == "train":
            paths = [
                destination if file.changes else str((source / file.sources[0][0]).resolve())
                for file, destination in destinations(one)
            ]
            *images, label = paths
            entries[one.case.case] = {"images": images, "label": label}
    return entries


def without_sources(checked: CheckedCase) -> Case:
    """The row of a case with the files of the dataset folder in place of those it was made of."""
    places = {file.role: destination for file, destination in destinations(checked)}
    mask = places.pop("mask", "")
    return replace(checked.case, images=places, masks=(mask,) if mask else ())


def conversion_report(
    *,
    layout: str,
    options: Mapping[str, Any],
    checked: Sequence[CheckedCase],
    exclusions: Sequence[Exclusion],
    warnings: Sequence[Finding],
    link: Link,
    private: bool,
) -> dict[str, Any]:
    """What was done to each case and why. Paths are relative to the source folder; there are no dates.

    The same source, options and versions give the same report.

    Args:
        layout: its name.
        options: of the conversion.
        checked: the cases of the dataset.
        exclusions: those left out.
        warnings: all that was found.
        link: how unchanged files got into the dataset.
        private: leave out paths and hashes of the source.
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
        "cases": [_case(one, link, private) for one in checked],
        "versions": {
            "python": platform.python_version(),
            **{
                package: version(package)
                for package in ("nnunet-transformers", "numpy", "nibabel", "SimpleITK", "isal")
            },
        },
    }


def to_json(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def qc_html(
    name: str,
    done: Sequence[Record],
    splits: Sequence[Split],
    warnings: Sequence[Finding],
    exclusions: Sequence[Exclusion],
    facts: Mapping[str, str],
) -> str:
    """The page to look at, from what the conversion knows of each case."""
    fold_of = {case: fold for fold, split in enumerate(splits) for case in split["val"]}
    cases = [_qc_case(record, record.checked.content, fold_of) for record in done if record.checked.content]
    together = [warning for warning in warnings if not warning.case]
    excluded = [(one.case.case, one.code, one.reason) for one in exclusions]
    return qc_page(name, cases, findings=together, excluded=excluded, facts=facts)


def _qc_case(record: Record, content: Content, fold_of: Mapping[str, int]) -> QcCase:
    case = record.checked.case
    return QcCase(
        case=case.case,
        subject=case.subject,
        session=case.session,
        site=case.site,
        split=case.split,
        fold=fold_of.get(case.case),
        lesion_ml=content.lesion.ml if content.lesion else None,
        shape=content.shape,
        spacing=content.spacing,
        picture=record.picture,
        occupancy=record.occupancy,
        grid=repr((content.shape, [[round(element, 3) for element in row] for row in content.affine])),
        findings=record.checked.findings,
        metadata=case.metadata,
        notes=tuple(f"{each.moving}: {each.summary}" for each in content.transforms),
    )


def _case(checked: CheckedCase, link: Link, private: bool) -> dict[str, Any]:
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
        "files": [
            _file(file, None if referenced(checked, file, link) else destination, private)
            for file, destination in destinations(checked)
        ],
        "transforms": [{"moving": each.moving, "summary": each.summary} for each in content.transforms],
    }


def _file(file: CheckedFile, destination: str | None, private: bool) -> dict[str, Any]:
    sources = [{"path": path, "sha256": sha256 or None} for path, sha256 in file.sources]
    return {
        "role": file.role,
        **({} if private else {"sources": sources}),
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


def version(package: str) -> str:
    """Of an installed package, in words where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
