"""The probability of a lesion, from the files that nnU-Net writes beside segmentations on request."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_transformers.comparison.metrics.labels import Labels
from nnunet_transformers.comparison.metrics.masks import UnusableMasksError
from nnunet_transformers.comparison.nnunet.results import case_name

_KEY = "probabilities"


def probabilities_beside(prediction: Path) -> tuple[Path, ...]:
    """The file of a segmentation's probabilities (--npz, --save_probabilities); empty where it is not there."""
    return if_there([prediction.with_name(f"{case_name(prediction.name)}.npz")])


def if_there(files: Sequence[Path]) -> tuple[Path, ...]:
    """The files, or nothing where one is missing."""
    return tuple(files) if all(path.is_file() for path in files) else ()


def read_probability(path: Path, labels: Labels, shape: tuple[int, ...]) -> np.ndarray:
    """The probability (z, y, x) of a lesion: of the lesion's labels together, or of the region that has just these.

    Raises:
        UnusableMasksError: the file cannot be read, or has no such channels of this shape.
    """
    try:
        with path.open("rb") as file, np.load(file) as content:
            channels = content[_KEY]
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UnusableMasksError(
            f"probabilities cannot be read: {path} ({error})",
            "The file was cut off or is not nnU-Net's: predict again, or delete it to do without PR-AUC.",
            "UNREADABLE_PROBABILITIES",
        ) from error
    wanted = labels.channels
    if channels.shape[1:] != shape or max(wanted) >= channels.shape[0]:
        raise UnusableMasksError(
            f"probabilities have the shape {channels.shape} where the reference has {shape}: {path}",
            "Predict again, or delete the file to do without PR-AUC.",
            "UNREADABLE_PROBABILITIES",
        )
    return channels[wanted[0]] if len(wanted) == 1 else channels[list(wanted)].sum(0, dtype=np.float32)
