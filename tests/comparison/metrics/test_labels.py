"""Which labels are lesion, from dataset.json and from what the user says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.labels import Labels, dataset_labels, read_labels


@pytest.mark.parametrize(
    ("labels", "lesion", "expected"),
    [
        ({"lesion": 1}, (), Labels()),
        ({"lesion": 1, "ignore": 2}, (), Labels(ignore=2)),
        ({"lesion": [1, 2]}, (), Labels((1, 2), channels=(0,))),
        ({"lesion": 1, "core": 2, "ignore": 3}, (2, 1), Labels((1, 2), ignore=3, channels=(1, 2))),
        ({"whole": [1, 2], "core": [2]}, (2,), Labels((2,), channels=(1,))),
        ({"whole": [1, 2], "core": [2]}, (1, 2), Labels((1, 2), channels=(0,))),
        ({"whole": [1, 2], "core": [2]}, (1,), Labels((1,), channels=())),
    ],
)
def test_one_label_or_region_needs_no_name(labels: dict[str, object], lesion: Sequence[int], expected: Labels) -> None:
    assert dataset_labels({"labels": {"background": 0, **labels}}, lesion) == expected


def test_several_labels_are_one_error_that_tells_how_to_name_them(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"background": 0, "lesion": 1, "core": 2}}))
    with pytest.raises(ComparisonError, match=r"several labels, lesion \(1\), core \(2\)") as error:
        read_labels(path)
    assert error.value.code == "LESION_LABELS"
    assert "--lesion-labels 1 2" in str(error.value)
    assert read_labels(path, [1]) == Labels((1,))


def test_without_a_dataset_json_the_given_labels_are_taken(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "dataset.json", [3]) == Labels((3,), channels=(3,))
