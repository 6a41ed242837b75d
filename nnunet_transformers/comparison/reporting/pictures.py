"""Find and read the images and segmentations of example cases, and draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_transformers.common.words import joined
from nnunet_transformers.comparison.metrics.images import UnreadableImageError, read_volume
from nnunet_transformers.comparison.metrics.scores_table import CROSS_VALIDATION
from nnunet_transformers.comparison.nnunet.results import Ensemble, Model
from nnunet_transformers.comparison.reporting.cases import DrawnExample, Example
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.overlays import Overlay, overlay


@dataclass(frozen=True)
class _Files:
    """Of one case: its segmentations by the name of the model."""

    reference: Path | None
    predictions: Mapping[str, Path]


def draw(given: ReportInput, examples: Sequence[Example]) -> list[DrawnExample]:
    """Overlays of cases; one whose files are missing, damaged or on different grids is said, not an error."""
    files = {name: _files(given, name) for name in dict.fromkeys(example.set for example in examples)}
    return [_drawn(given, each, files[each.set].get(each.case, _Files(None, {}))) for each in examples]


def _files(given: ReportInput, set_name: str) -> dict[str, _Files]:
    if set_name != CROSS_VALIDATION:
        return _test_files(given, set_name)
    files: dict[str, _Files] = {}
    entries: list[Model | Ensemble] = [*given.results.models, *given.results.ensembles]
    for entry in entries:
        name = given.name_of(entry.identifier)
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


def _drawn(given: ReportInput, example: Example, files: _Files) -> DrawnExample:
    case, models = example.case, example.models
    image = given.data.image(case)
    there = {model: files.predictions[model] for model in models if model in files.predictions}
    there = {model: path for model, path in there.items() if path.is_file()}
    if image is None or not (there or files.reference):
        what = "its image" if image is None else "its segmentations"
        return _not_drawn(example, f"{what} not found (images: {given.data.raw or 'nnUNet_raw is not set'}).")
    paths = [image, *([files.reference] if files.reference else []), *there.values()]
    try:
        volumes = [read_volume(path) for path in paths]
    except UnreadableImageError as error:
        return _not_drawn(example, f"cannot be read: {error}.")
    read = [volume for volume in volumes if volume is not None]
    if len(read) < len(volumes):
        return _not_drawn(example, "only three-dimensional images are drawn.")
    if any(voxels.shape != read[0][0].shape for voxels, _ in read):
        return _not_drawn(example, "image and segmentations are not on one grid.")
    masks: list[np.ndarray] = [voxels > 0 for voxels, _ in read[1:]]
    reference = masks.pop(0) if files.reference else None
    jpeg = overlay(Overlay(read[0][0], reference, dict(zip(there, masks, strict=True)), read[0][1]))
    lacking = [model for model in models if model not in there]
    problem = f"no segmentation of {joined(lacking)} found." if lacking else ""
    return DrawnExample(example, jpeg, problem)


def _not_drawn(example: Example, why: str) -> DrawnExample:
    return DrawnExample(example, b"", why)
