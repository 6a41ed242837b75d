"""How much disk an experiment takes for what nobody looks at: the probabilities that ensembles are made of."""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from nnunet_transformers.comparison.experiment.model import Experiment, Folders
from nnunet_transformers.comparison.nnunet.state import dataset_folder, load_json

_BYTES = 4  # float32


def probabilities_bytes(experiment: Experiment, folders: Folders) -> int:
    """Bytes of the probabilities of all validations and test sets, before nnU-Net compresses them.

    0 where none are kept, and without the images of a dataset that are not there.
    """
    if not experiment.needs_probabilities:
        return 0
    total = 0
    for dataset in experiment.datasets:
        raw = dataset_folder(folders.raw, dataset.id)
        content = load_json(raw / "dataset.json") if raw else None
        if raw is None or not isinstance(content, dict):
            continue
        listed = content.get("dataset")
        images = [raw / entry["images"][0] for entry in listed.values()] if listed else _images(raw / "imagesTr")
        for test in dataset.test_sets:
            images += _images(test.images)
        channels = sum(name != "ignore" for name in content.get("labels", {}))
        total += len(experiment.models_of(dataset.id)) * channels * _BYTES * sum(map(_voxels, images))
    return total


def _images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*_0000.*")) if folder.is_dir() else []


def _voxels(image: Path) -> int:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(image))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return math.prod(reader.GetSize())
