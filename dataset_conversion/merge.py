"""Two converted datasets made one, with the people who are in both found first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataset_conversion.checks.across import voxel_digests
from dataset_conversion.convert import convert
from dataset_conversion.dataset.target import finish_earlier, raw_folder_or_environment
from dataset_conversion.errors import ConversionError, stop
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import Layout, Scan
from dataset_conversion.options import ConvertOptions, Masks, Policy, Target
from dataset_conversion.overlap import overlap_findings, overlaps, resolve
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding


@dataclass(frozen=True)
class _Dataset:
    """A converted dataset; the paths of its cases are those of its own files, absolute."""

    folder: Path
    channels: tuple[str, ...]
    labels: Mapping[str, Any]
    cases: tuple[Case, ...]


def merge(
    first: str | int | Path,
    second: str | int | Path,
    target: Target,
    options: ConvertOptions | None = None,
    *,
    overlap: Policy | None = None,
) -> Conversion:
    """Make one dataset of two; theirs stay as they are.

    Args:
        first, second: dataset folders that `convert` made, or their numbers or names in nnU-Net's raw folder.
        target: the new dataset; without a name it gets the names of both.
        options: as of `convert`.
        overlap: what to do with people who are in both: None is an error, "first" keeps the first dataset's cases,
            "group" keeps all and never separates them in the folds.

    Raises:
        ConversionError: OVERLAP and LEAKAGE, naming the people; CHANNELS_DIFFER; NO_DATASET for a folder that is none;
            and all that `convert` raises.
    """
    options = options or ConvertOptions()
    raw_folder = raw_folder_or_environment(target.raw_folder)
    if not options.work.dry_run:
        finish_earlier(raw_folder)
    a, b = (_read(_folder(given, raw_folder)) for given in (first, second))
    if a.channels != b.channels:
        problem = f"{a.folder.name} has the channels {', '.join(a.channels)}, {b.folder.name} {', '.join(b.channels)}"
        raise stop("CHANNELS_DIFFER", problem, "Convert both with the same --channels first.")
    if a.labels != b.labels:
        problem = f"the masks of {a.folder.name} have the labels {_labels(a)}, those of {b.folder.name} {_labels(b)}"
        raise stop("LABELS_DIFFER", problem, "Convert both with the same --mask-labels or --mask-regions first.")
    if "DUPLICATE_VOXELS" in options.checks.allow:
        found = overlaps(a.cases, b.cases)
    else:
        found = overlaps(a.cases, b.cases, *voxel_digests(a.cases, b.cases, options.work.jobs))
    findings = overlap_findings(found, overlap)
    if findings:
        raise ConversionError(findings)
    merged = resolve(a.cases, b.cases, found, overlap or "first")
    source = Path(os.path.commonpath([a.folder, b.folder]))
    cases = tuple(_below(source, replace(case, subject=merged.groups[case.case])) for case in merged.cases)
    left_out = tuple((case, "OVERLAP", reason) for case, reason in merged.exclusions)
    names = [folder.name.partition("_")[2] for folder in (a.folder, b.folder)]
    about = {"description": f"{' and '.join(names)}, merged", "licence": "See the terms of both sources."}
    scan = Scan(tuple(sorted(cases, key=lambda case: case.case)), (), left_out)
    layout = Layout("merge", lambda _: scan, about, masks=_masks(a.labels))
    name = target.name or "_".join(names)
    return convert(source, layout, replace(target, name=name, raw_folder=raw_folder), options)


def _folder(given: str | int | Path, raw_folder: Path) -> Path:
    """A path as it is; a number or a name by what the raw folder has."""
    if os.path.isdir(str(given)):
        return Path(str(given)).resolve()
    wanted = re.fullmatch(r"(?:Dataset)?0*(\d+)", str(given))
    try:
        folders = sorted(raw_folder.glob("Dataset*_*"))
    except OSError:  # that of a folder nobody may look into; it is said below that none is known
        folders = []
    fitting = [
        folder
        for folder in folders
        if str(given) in (folder.name, folder.name.partition("_")[2])
        or (wanted and re.match(rf"Dataset0*{wanted[1]}_", folder.name))
    ]
    if len(fitting) != 1:
        known = ", ".join(folder.name for folder in folders) or "none"
        problem = f"{given} is no folder and no dataset of {raw_folder} (there: {known})"
        raise stop("NO_DATASET", problem, "Give the folder of a converted dataset, or its number.")
    return fitting[0].resolve()


def _read(folder: Path) -> _Dataset:
    dataset = _json(folder / "dataset.json")
    table = folder / "cases.tsv"
    names, labels, listed = (dataset.get(key, {}) for key in ("channel_names", "labels", "dataset"))
    named = all(isinstance(each, dict) for each in (names, labels, listed))
    if not (names and named and os.path.isfile(table)):
        remedy = "Convert its source with `nnunet-transformers convert` first: subjects are known from its cases.tsv."
        raise stop("NO_DATASET", f"{folder} is not a dataset that this command converted", remedy)
    channels = tuple(map(str, names.values()))
    try:
        cases = tuple(_own_files(folder, case, channels, listed) for case in case_table.read(table))
    except (KeyError, TypeError, ValueError):
        problem = f"{folder / 'dataset.json'} does not name an image for each channel, and a label, of a case"
        raise stop("NO_DATASET", problem, "Convert its source again.") from None
    missing = [path for case in cases for path in (*case.images.values(), *case.masks) if not os.path.isfile(path)]
    if missing:
        findings = [Finding("NO_DATASET", f"{path} is missing", "Convert its source again.") for path in missing]
        raise ConversionError(findings)
    return _Dataset(folder, channels, labels, cases)


def _masks(labels: Mapping[str, Any]) -> Masks:
    """The regions of a dataset with several labels."""
    regions = {name: value if isinstance(value, list) else [value] for name, value in labels.items() if value != 0}
    named = tuple(f"{name}={','.join(map(str, values))}" for name, values in regions.items())
    return Masks(regions=named if len(named) > 1 else ())


def _labels(dataset: _Dataset) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataset.labels.items() if value != 0)


def _own_files(folder: Path, case: Case, channels: Sequence[str], listed: Mapping[str, Any]) -> Case:
    """A row of a dataset's case table with the dataset's files instead of those they were made of."""
    part = "Tr" if case.split == "train" else "Ts"
    if case.case in listed:
        images, label = listed[case.case]["images"], listed[case.case]["label"]
    else:
        images = [f"images{part}/{case.case}_{channel:04d}.nii.gz" for channel in range(len(channels))]
        label = f"labels{part}/{case.case}.nii.gz" if case.masks else ""
    return replace(
        case,
        images={name: str(folder / path) for name, path in zip(channels, images, strict=True)},
        masks=(str(folder / label),) if label else (),
        metadata={**case.metadata, "merged_from": folder.name},
    )


def _below(source: Path, case: Case) -> Case:
    """Paths relative to a folder, where they lie in it."""

    def shorten(path: str) -> str:
        return Path(path).relative_to(source).as_posix() if Path(path).is_relative_to(source) else path

    images = {name: shorten(path) for name, path in case.images.items()}
    return replace(case, images=images, masks=tuple(map(shorten, case.masks)))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
