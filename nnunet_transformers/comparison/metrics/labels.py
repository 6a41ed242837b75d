"""Which labels of a dataset are lesion, and which voxels do not count, from nnU-Net's dataset.json.

A dataset with several labels or regions is never guessed at: together they may be the lesion (core and rim), or one of
them something else (another disease, a hemisphere), and no number of a wrong union looks wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.results import read_json

NAME_THEM = "Name those that are lesion: lesion_labels: [1, 2] in the experiment file, or --lesion-labels 1 2."


@dataclass(frozen=True)
class Labels:
    """Numbers in segmentations.

    Attributes:
        lesion: together the lesion; empty for the one label beside the background, whatever its number.
        ignore: voxels with it in the reference do not count; None if there is none.
        channels: of a network's probabilities that together are those of the lesion; empty where regions have none.
    """

    lesion: tuple[int, ...] = ()
    ignore: int | None = None
    channels: tuple[int, ...] = (1,)


ONE_LABEL = Labels()


def dataset_labels(description: Mapping[str, Any], lesion: Sequence[int] = ()) -> Labels:
    """The labels of a dataset.

    Args:
        description: the content of dataset.json.
        lesion: the labels that are lesion, needed where there are several.

    Raises:
        ValueError: there are several and it is not said which are lesion, or one is not among them; a sentence.
    """
    labels = description.get("labels", {})
    named = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in labels.items()
        if name not in ("background", "ignore")
    }
    there_are = ", ".join(f"{name} ({', '.join(map(str, numbers))})" for name, numbers in named.items())
    known = {number for numbers in named.values() for number in numbers}
    if unknown := sorted(set(lesion) - known):
        raise ValueError(f"no label {', '.join(map(str, unknown))} among {there_are}")
    if len(named) > 1 and not lesion:
        raise ValueError(f"several labels, {there_are}, and it is not said which are lesion (lesion_labels)")
    of_region = known if len(known) > 1 else ()
    chosen = tuple(sorted(set(lesion or of_region)))
    channels = chosen or tuple(sorted(known)) or (1,)
    if any(len(numbers) > 1 for numbers in named.values()):  # nnU-Net then has a channel for each region
        regions = [tuple(sorted(numbers)) for numbers in named.values()]
        channels = (regions.index(channels),) if channels in regions else ()
    return Labels(chosen, labels.get("ignore"), channels)


def read_labels(dataset_json: Path, lesion: Sequence[int] = ()) -> Labels:
    """The labels of a dataset, see `dataset_labels`; without the file those given.

    Raises:
        ComparisonError: for a ValueError there, or the file cannot be read.
    """
    if not dataset_json.is_file():
        return Labels(tuple(lesion), channels=tuple(lesion) or (1,))
    try:
        return dataset_labels(read_json(dataset_json), lesion)
    except ValueError as error:
        raise ComparisonError(
            f"{dataset_json}: {error}", f"{NAME_THEM} Nothing was written.", "LESION_LABELS"
        ) from None
