"""Learning curves from the logs nnU-Net leaves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.report_example import write_log

from nnunet_transformers.comparison.reporting.learning_curves import mean_curve, read_learning_curve


def test_values_are_read_by_epoch(tmp_path: Path) -> None:
    write_log(tmp_path, epochs=3)
    curve = read_learning_curve(tmp_path)
    assert curve.train_loss == pytest.approx({0: 0.0, 1: -0.05, 2: -0.1})
    assert curve.validation_loss == pytest.approx({0: 0.0, 1: -0.04, 2: -0.08})
    assert curve.pseudo_dice == pytest.approx({0: 0.0, 1: 0.05, 2: 0.1})


def test_epochs_from_where_a_training_went_on_have_the_values_of_its_last_start(tmp_path: Path) -> None:
    write_log(tmp_path, epochs=4)
    again = "2026-02-01 10:00:00.000000: Epoch 3\n2026-02-01 10:00:01.000000: val_loss -0.9\n"
    (tmp_path / "training_log_2026_1_2_10_00_00.txt").write_text(again)
    curve = read_learning_curve(tmp_path)
    assert curve.validation_loss[3] == -0.9
    assert list(curve.train_loss) == [0, 1, 2]
    write_log(tmp_path, epochs=2, day=3)
    assert list(read_learning_curve(tmp_path).validation_loss) == [0, 1]


@pytest.mark.parametrize(
    ("text", "dice"),
    [
        ("[np.float32(0.5), np.float32(0.7)]", 0.6),
        ("[0.5]", 0.5),
        ("[np.float32(nan), np.float32(0.25)]", 0.25),
        ("[np.float64(2.5e-05)]", 2.5e-05),
    ],
)
def test_pseudo_dice_is_the_mean_of_the_classes_however_numpy_prints_it(tmp_path: Path, text: str, dice: float) -> None:
    log = f"2026-01-01 10:00:00.0: Epoch 0\n2026-01-01 10:00:01.0: Pseudo dice {text} \n"
    (tmp_path / "training_log_2026_1_1_10_00_00.txt").write_text(log)
    assert read_learning_curve(tmp_path).pseudo_dice == {0: pytest.approx(dice)}


def test_folds_are_averaged_over_the_epochs_that_all_of_them_have() -> None:
    folds = [{0: 1.0, 1: 0.5, 2: 0.0}, {0: 3.0, 1: 0.7}]
    assert mean_curve(folds) == [(0.0, 2.0), (1.0, pytest.approx(0.6))]
    assert mean_curve([]) == []


def test_an_undefined_epoch_leaves_a_gap_and_long_curves_keep_their_mean() -> None:
    assert mean_curve([{0: 1.0, 1: math.nan, 2: 3.0}]) == [(0.0, 1.0), (2.0, 3.0)]
    long = mean_curve([{epoch: float(epoch) for epoch in range(1000)}])
    assert len(long) <= 150
    assert all(epoch == value for epoch, value in long)
    assert (long[0][0], long[-1][0]) == (3.0, 997.0) or long[0][0] < 10


def test_a_fold_without_a_log_is_empty(tmp_path: Path) -> None:
    assert read_learning_curve(tmp_path).validation_loss == {}
