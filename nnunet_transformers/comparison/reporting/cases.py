"""Pictures of cases: the best, the median and the worst of the baseline, and where another model differs most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.images import UnreadableImageError, read_volume
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.nnunet.results import Ensemble, Model
from nnunet_transformers.comparison.reporting.blocks import Block, Paragraph, Picture, Section
from nnunet_transformers.comparison.reporting.formatting import millilitres, number
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.overlays import MOST_PREDICTIONS, Overlay, overlay


@dataclass(frozen=True)
class _Files:
    """Of one case: its segmentations by the name of the model."""

    reference: Path | None
    predictions: Mapping[str, Path]


def example_cases(values: pd.DataFrame, baseline: str, rival: str | None) -> dict[str, list[str]]:
    """Cases to show with what they are examples of.

    Args:
        values: the metric, higher is better, by case (index) and model (columns).
        rival: the model to compare with the baseline.
    """
    own = values[baseline].dropna()
    # Equal values in the order of the names, so that the choice does not depend on the order of the table.
    ranked = list(own.sort_index().sort_values(kind="stable").index)
    if not ranked:
        return {}
    chosen = [
        (ranked[-1], f"best case of {baseline}"),
        (ranked[(len(ranked) - 1) // 2], f"median case of {baseline}"),
        (ranked[0], f"worst case of {baseline}"),
    ]
    if rival:
        gain = (values[rival] - values[baseline]).dropna().sort_index().sort_values(kind="stable")
        if len(gain) and gain.iloc[-1] > 0:
            chosen.append((gain.index[-1], f"largest gain of {rival}"))
        if len(gain) and gain.iloc[0] < 0:
            chosen.append((gain.index[0], f"largest loss of {rival}"))
    examples: dict[str, list[str]] = {}
    for case, what in chosen:
        examples.setdefault(str(case), []).append(what)
    return examples


def examples(given: ReportInput, scores: pd.DataFrame, shown: Sequence[str]) -> tuple[Section, list[str]]:
    """Overlays of example cases, and sentences about those that could not be drawn.

    Args:
        scores: of the report's metric.
        shown: models to draw, the baseline first, the one it is compared with second; at most three.
    """
    metric = METRICS[given.metric]
    blocks: list[Block] = []
    notes: list[str] = []
    for name, rows in scores.groupby("set", sort=False):
        wide = rows.pivot(index="case", columns="model", values="value")
        values = wide[[model for model in given.models if model in wide]]
        here = [model for model in shown if model in values][:MOST_PREDICTIONS]
        if given.baseline not in values:
            continue
        sign = -1 if metric.higher_is_better is False else 1
        rival = next((model for model in here if model != given.baseline), None)
        found = _files(given, str(name))
        volumes = rows.drop_duplicates("case").set_index("case")["reference_ml"]
        for case, what in example_cases(values * sign, given.baseline, rival).items():
            texts = [f"{model} {number(values.loc[case, model], metric.unit)}" for model in values]
            title = f"{joined(what)}: {case}"
            caption = (
                f"{title[0].upper()}{title[1:]}{'' if name == CROSS_VALIDATION else f' ({name})'}, lesion of "
                f"{millilitres(volumes[case])} ml. {metric.label}: {', '.join(texts)}."
            )
            picture = _picture(given, case, found.get(case, _Files(None, {})), here, notes)
            if picture:
                blocks.append(Picture(f"case_{_file_name(f'{name}_{case}')}", picture, caption))
    if not blocks:
        blocks.append(Paragraph("No case could be drawn; the reasons are listed under “What is not shown, and why”."))
    else:
        drawn = (
            f" Drawn of {len(given.models)} models: {joined(list(shown))}." if len(given.models) > len(shown) else ""
        )
        blocks.insert(
            0,
            Paragraph(
                "Slices through the largest lesion of the reference; above the whole slice, below the lesion enlarged. "
                f"Radiological view: the patient's right (R) is on the left.{drawn}"
            ),
        )
    return Section("Examples", "examples", blocks), notes


def _files(given: ReportInput, set_name: str) -> dict[str, _Files]:
    if set_name != CROSS_VALIDATION:
        return _test_files(given, set_name)
    files: dict[str, _Files] = {}
    entries: list[Model | Ensemble] = [*given.results.models, *given.results.ensembles]
    for entry in entries:
        name = given.names.get(entry.identifier, entry.identifier)
        for row in entry.scores.drop_duplicates("case").itertuples():
            before = files.get(row.case, _Files(None, {}))
            reference = before.reference or given.data.reference(row.reference)
            files[row.case] = _Files(reference, {**before.predictions, name: row.prediction})
    return files


def _test_files(given: ReportInput, set_name: str) -> dict[str, _Files]:
    files: dict[str, _Files] = {}
    for test in (test for test in given.test_sets if test.name == set_name):
        for case in given.scores.loc[given.scores["set"] == set_name, "case"].unique():
            predictions = {model: _segmentation(folder, case) for model, folder in test.predictions.items()}
            reference = _segmentation(test.references, case) if test.references else None
            files[case] = _Files(reference, {model: path for model, path in predictions.items() if path})
    return files


def _segmentation(folder: Path, case: str) -> Path | None:
    found = [path for path in sorted(folder.glob(f"{case}.*")) if path.suffix not in (".npz", ".pkl", ".json")]
    return found[0] if found else None


def _picture(given: ReportInput, case: str, files: _Files, models: Sequence[str], notes: list[str]) -> bytes | None:
    """A JPEG file; None, and a sentence added to `notes`, if a file is missing or does not fit."""
    image = given.data.image(case)
    there = {model: files.predictions[model] for model in models if model in files.predictions}
    there = {model: path for model, path in there.items() if path.is_file()}
    if image is None or not (there or files.reference):
        what = "its image" if image is None else "its segmentations"
        notes.append(f"Picture of {case}: {what} not found (images: {given.data.raw or 'nnUNet_raw is not set'}).")
        return None
    paths = [image, *([files.reference] if files.reference else []), *there.values()]
    try:
        volumes = [read_volume(path) for path in paths]
    except UnreadableImageError as error:
        notes.append(f"Picture of {case}: cannot be read: {error}.")
        return None
    read = [volume for volume in volumes if volume is not None]
    if len(read) < len(volumes):
        notes.append(f"Picture of {case}: only three-dimensional images are drawn.")
        return None
    if any(voxels.shape != read[0][0].shape for voxels, _ in read):
        notes.append(f"Picture of {case}: image and segmentations are not on one grid.")
        return None
    lacking = [model for model in models if model not in there]
    if lacking:
        notes.append(f"Picture of {case}: no segmentation of {joined(lacking)} found.")
    masks: list[np.ndarray] = [voxels > 0 for voxels, _ in read[1:]]
    reference = masks.pop(0) if files.reference else None
    return overlay(Overlay(read[0][0], reference, dict(zip(there, masks, strict=True)), read[0][1]))


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in text)
