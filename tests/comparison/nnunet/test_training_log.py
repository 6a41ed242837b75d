"""Training logs as nnU-Net leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.report_example import write_log

from nnunet_transformers.comparison.nnunet.training_log import TrainingLog, read_training_log

FIRST = """2026-01-01 10:00:00.000000: Epoch 0
2026-01-01 10:00:05.000000: Epoch time: 5.0 s
2026-01-01 10:00:05.000000: Epoch 1
2026-01-01 10:00:12.000000: Epoch time: 7.0 s
"""
RESUMED = """2026-01-01 11:00:00.000000: Epoch 1
2026-01-01 11:00:06.000000: Epoch time: 6.0 s
2026-01-01 11:00:07.500000: Training done.
2026-01-01 11:00:10.000000: Validation complete
"""


def test_a_resumed_epoch_counts_once(tmp_path: Path) -> None:
    # nnU-Net writes no leading zeros: sorted as text, the second log would come first.
    (tmp_path / "training_log_2026_1_1_9_00_00.txt").write_text(FIRST)
    (tmp_path / "training_log_2026_1_1_11_00_00.txt").write_text(RESUMED)
    log = read_training_log(tmp_path)
    assert log.seconds == {0: 5.0, 1: 6.0}
    assert log.validation_seconds == 2.5
    assert log.is_trained


def test_how_far_a_training_is_can_be_asked_while_it_runs(tmp_path: Path) -> None:
    assert read_training_log(tmp_path) == TrainingLog()
    path = tmp_path / "training_log_2026_1_1_9_00_00.txt"
    path.write_text(FIRST)
    log = read_training_log(tmp_path)
    assert (log.epoch, log.is_epoch_finished, log.is_trained) == (1, True, False)
    path.write_text(FIRST + "2026-01-01 10:00:12.000000: Epoch 2\n2026-01-01 10:0")
    log = read_training_log(tmp_path)
    assert (log.epoch, log.is_epoch_finished) == (2, False)


def test_a_validation_alone_has_no_duration(tmp_path: Path) -> None:
    (tmp_path / "training_log_2026_1_1_9_00_00.txt").write_text("2026-01-01 11:00:10.0: Validation complete\n")
    assert read_training_log(tmp_path).validation_seconds is None


def test_values_are_read_by_epoch(tmp_path: Path) -> None:
    write_log(tmp_path, epochs=3)
    log = read_training_log(tmp_path)
    assert log.train_loss == pytest.approx({0: 0.0, 1: -0.05, 2: -0.1})
    assert log.validation_loss == pytest.approx({0: 0.0, 1: -0.04, 2: -0.08})
    assert log.pseudo_dice == pytest.approx({0: 0.0, 1: 0.05, 2: 0.1})


def test_epochs_from_where_a_training_went_on_have_the_values_of_its_last_start(tmp_path: Path) -> None:
    write_log(tmp_path, epochs=4)
    again = "2026-02-01 10:00:00.000000: Epoch 3\n2026-02-01 10:00:01.000000: val_loss -0.9\n"
    (tmp_path / "training_log_2026_1_2_10_00_00.txt").write_text(again)
    log = read_training_log(tmp_path)
    assert log.validation_loss[3] == -0.9
    assert list(log.train_loss) == [0, 1, 2]
    write_log(tmp_path, epochs=2, day=3)
    assert list(read_training_log(tmp_path).validation_loss) == [0, 1]


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
    assert read_training_log(tmp_path).pseudo_dice == {0: pytest.approx(dice)}
