"""What ensembles cost in disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_dataset import TinyDataset

from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.comparison.running.disk import probabilities_bytes

TINY = TinyDataset("Dataset007_Tiny", (4, 5, 6), (1.0, 1.0, 1.0), {"background": 0, "rim": 1, "core": 2}, cases=3)


@pytest.mark.parametrize(("ensembles", "cases"), [("pairs", 4), ("[[a, b]]", 4), ("none", 0)])
def test_each_model_keeps_the_probabilities_of_each_class_of_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ensembles: str, cases: int
) -> None:
    for part in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    TINY.write(tmp_path / "raw")
    TINY.write_image(tmp_path / "images", "unseen", TINY.case(9)[0])
    path = tmp_path / "e.yaml"
    path.write_text(
        f"dataset: 7\nensembles: {ensembles}\ntest_sets: [{{name: new, images: images}}]\n"
        "trainers: [{trainer: nnUNetTrainer, name: a}, {trainer: nnUNetTrainerUNETR, name: b}]\n"
    )
    experiment = parse_experiment(path)
    models, classes, bytes_each = 2, 3, 4
    expected = cases * models * classes * bytes_each * 4 * 5 * 6
    assert probabilities_bytes(experiment, experiment.nnunet_folders()) == expected
