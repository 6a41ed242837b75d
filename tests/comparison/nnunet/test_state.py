"""What counts as finished: only complete files."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.results_folder import write_checkpoint, write_summary

from nnunet_transformers.comparison.nnunet.state import FoldState, fold_state, is_newer, remove_broken_checkpoints


def validated(fold: Path) -> Path:
    write_checkpoint(fold / "checkpoint_final.pth")
    write_summary(fold / "validation" / "summary.json", {"a": 0.5, "b": 0.5})
    for case in "ab":
        (fold / "validation" / f"{case}.npz").touch()
    return fold


def test_a_fold_with_weights_scores_and_probabilities_is_validated(tmp_path: Path) -> None:
    assert fold_state(validated(tmp_path)) is FoldState.VALIDATED


def test_a_fold_that_is_not_there_is_new(tmp_path: Path) -> None:
    assert fold_state(tmp_path / "fold_0") is FoldState.NEW


def test_a_training_in_between_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint_best.pth")
    assert fold_state(tmp_path) is FoldState.STARTED
    assert FoldState.STARTED.value == "--c"


def test_a_validation_that_was_cut_off_is_repeated(tmp_path: Path) -> None:
    fold = validated(tmp_path)
    summary = fold / "validation" / "summary.json"
    summary.write_text(summary.read_text()[:-20])
    assert fold_state(fold) is FoldState.TRAINED
    summary.unlink()
    assert fold_state(fold) is FoldState.TRAINED
    assert FoldState.TRAINED.value == "--val"


def test_a_validation_without_probabilities_is_repeated(tmp_path: Path) -> None:
    fold = validated(tmp_path)
    (fold / "validation" / "b.npz").unlink()
    assert fold_state(fold) is FoldState.TRAINED


def test_a_validation_without_what_the_next_stage_goes_on_from_is_repeated(tmp_path: Path) -> None:
    fold = validated(tmp_path / "fold_0")
    assert fold_state(fold, "3d_cascade_fullres") is FoldState.TRAINED
    folder = tmp_path / "predicted_next_stage" / "3d_cascade_fullres"
    folder.mkdir(parents=True)
    (folder / "a.b2nd").touch()
    assert fold_state(fold, "3d_cascade_fullres") is FoldState.TRAINED
    (folder / "b.npz").touch()
    assert fold_state(fold, "3d_cascade_fullres") is FoldState.VALIDATED


def test_scores_older_than_the_weights_are_repeated(tmp_path: Path) -> None:
    fold = validated(tmp_path)
    os.utime(fold / "validation" / "summary.json", (1, 1))
    assert fold_state(fold) is FoldState.TRAINED


def test_a_checkpoint_that_was_cut_off_does_not_count_and_is_removed(tmp_path: Path) -> None:
    fold = validated(tmp_path)
    final = fold / "checkpoint_final.pth"
    final.write_bytes(final.read_bytes()[:-10])
    write_checkpoint(fold / "checkpoint_best.pth")
    assert fold_state(fold) is FoldState.STARTED
    assert remove_broken_checkpoints(fold) == [final]
    assert sorted(path.name for path in fold.glob("*.pth")) == ["checkpoint_best.pth"]


def test_newer_means_not_older_than_any(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    assert is_newer(new, [old])
    assert not is_newer(old, [new])
    assert not is_newer(tmp_path / "missing", [])
