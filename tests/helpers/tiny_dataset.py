"""nnU-Net datasets small enough to train on in a test, and plans small enough to train by."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

# A grid that an identity geometry cannot be mistaken for: left and posterior flipped, off the origin.
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
ORIGIN = (17.0, -23.5, 4.25)


@dataclass(frozen=True)
class TinyDataset:
    """A dataset of noise with a bright ball in each image; the ball has a core, and a slab may be unlabelled.

    Attributes:
        name: nnU-Net's, DatasetXXX_Name.
        shape: voxels, in numpy's axis order (z, y, x).
        spacing: mm, in numpy's axis order.
        labels: dataset.json's; 1 is the ball, 2 its core and, where there is a label "ignore", that is the slab.
        regions_class_order: dataset.json's, for region-based labels.
        channels: images of a case.
        cases: of the training set.
    """

    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    labels: dict[str, int | list[int]]
    regions_class_order: list[int] | None = None
    channels: int = 1
    cases: int = 5

    @property
    def id(self) -> int:
        return int(self.name[len("Dataset") :][:3])

    def case(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (channels, z, y, x), float32, and labels (z, y, x), uint8."""
        rng = np.random.default_rng(seed)
        shape = np.array(self.shape)
        center = shape / 2 + rng.uniform(-0.1, 0.1, 3) * shape
        distance = np.sqrt(sum(((g - c) / n) ** 2 for g, c, n in zip(np.indices(shape), center, shape, strict=True)))
        labels = (distance < 0.3).astype(np.uint8) + (distance < 0.15)
        image = rng.normal(100, 10, (self.channels, *shape)) + 40 * labels
        if "ignore" in self.labels:
            labels[..., -4:] = self.labels["ignore"]
        return image.astype(np.float32), labels.astype(np.uint8)

    def write(self, raw: Path) -> Path:
        """Write the training set into an nnU-Net raw folder."""
        folder = raw / self.name
        listed = {}
        for number in range(self.cases):
            name, (image, labels) = f"case_{number}", self.case(number)
            images = self.write_image(folder / "imagesTr", name, image)
            self._save(folder / "labelsTr" / f"{name}.nii.gz", labels)
            listed[name] = {"label": f"labelsTr/{name}.nii.gz", "images": [f"imagesTr/{path.name}" for path in images]}
        description: dict[str, Any] = {
            "channel_names": {str(channel): f"T{channel + 1}" for channel in range(self.channels)},
            "labels": self.labels,
            "numTraining": self.cases,
            "file_ending": ".nii.gz",
            # Without it nnU-Net forks a dozen processes to list the folder, and does so a dozen times.
            "dataset": listed,
        }
        if self.regions_class_order:
            description["regions_class_order"] = self.regions_class_order
        (folder / "dataset.json").write_text(json.dumps(description))
        return folder

    def write_image(self, folder: Path, name: str, image: np.ndarray) -> list[Path]:
        """Write the channels of an image under nnU-Net's names."""
        paths = [folder / f"{name}_{channel:04d}.nii.gz" for channel in range(len(image))]
        for path, voxels in zip(paths, image, strict=True):
            self._save(path, voxels)
        return paths

    def _save(self, path: Path, voxels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing(self.spacing[::-1])
        image.SetOrigin(ORIGIN)
        image.SetDirection(DIRECTION)
        SimpleITK.WriteImage(image, str(path))


def narrow(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy of plans under another name, with networks an eighth as wide and batches of two."""
    plans = copy.deepcopy(plans)
    plans["plans_name"] = name
    for configuration in plans["configurations"].values():
        configuration["batch_size"] = 2
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = [max(1, width // 8) for width in arguments["features_per_stage"]]
    return plans


def set_topology(configuration: dict[str, Any], patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> None:
    """Give a configuration made for a plain U-Net another patch and other stages."""
    stages = len(strides)
    configuration["patch_size"] = list(patch_size)
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [4 * 2**stage for stage in range(stages)],
        "strides": [list(stride) for stride in strides],
        "kernel_sizes": [[3] * len(patch_size)] * stages,
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def add_cascade(plans: dict[str, Any], patch_size: Sequence[int], strides: Sequence[Sequence[int]]) -> None:
    """Add 3d_lowres at half the resolution and 3d_cascade_fullres, as nnU-Net plans them for large images."""
    configurations = plans["configurations"]
    lowres = configurations["3d_lowres"] = copy.deepcopy(configurations["3d_fullres"])
    lowres["data_identifier"] = "nnUNetPlans_3d_lowres"
    lowres["spacing"] = [2 * mm for mm in lowres["spacing"]]
    lowres["median_image_size_in_voxels"] = [n / 2 for n in lowres["median_image_size_in_voxels"]]
    lowres["batch_dice"], configurations["3d_fullres"]["batch_dice"] = False, True
    lowres["next_stage"] = "3d_cascade_fullres"
    set_topology(lowres, patch_size, strides)
    configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
