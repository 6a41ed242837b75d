"""How far an experiment is, by nnU-Net's files, logs and locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.results_folder import write_checkpoint, write_summary

from nnunet_transformers.common.locks import holder, locked
from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.comparison.experiment.model import Experiment
from nnunet_transformers.comparison.running.status import (
    Progress,
    State,
    StepStatus,
    as_json,
    as_text,
    read_progress,
    status,
)

NAME, MODEL = "Dataset007_Lesions", "nnUNetTrainer_10epochs__nnUNetPlans__3d_fullres"


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    for part in ("raw", "preprocessed", "results"):
        (tmp_path / part / NAME).mkdir(parents=True)
    text = "dataset: 7\nfolds: [0, 1]\nepochs: 10\ntrainers: [nnUNetTrainer]\n"
    path = tmp_path / "e.yaml"
    path.write_text(text + "folders: {raw: raw, preprocessed: preprocessed, results: results}\n")
    return parse_experiment(path)


def fold(experiment: Experiment, number: int) -> Path:
    return experiment.nnunet_folders().results / NAME / MODEL / f"fold_{number}"


def write_log(
    folder: Path, epochs: int, *, stamp: str = "2026_1_2_3_04_05", first: int = 0, seconds: float = 60
) -> Path:
    """A training log in which this many epochs have ended and the next has begun."""
    when = "2026-01-02 03:04:05.678901:"
    lines = [f"{when} Using torch.compile..."]
    for epoch in range(first, first + epochs):
        lines += [f"{when} ", f"{when} Epoch {epoch}", f"{when} Current learning rate: 0.01"]
        lines += [f"{when} Epoch time: {seconds} s"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"training_log_{stamp}.txt"
    path.write_text("\n".join([*lines, f"{when} Epoch {first + epochs}", ""]))
    return path


def of(found: list[StepStatus], number: int) -> StepStatus:
    return next(each for each in found if each.fold == number)


@contextmanager
def other_process(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a lock."""
    code = (
        "import sys, time; from pathlib import Path; from nnunet_transformers.common.locks import locked\n"
        "with locked(Path(sys.argv[1])) as taken: print(taken, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_before_anything_has_run_everything_waits(experiment: Experiment) -> None:
    assert {each.state for each in status(experiment)} == {State.WAITING}


def test_a_validated_fold_is_done(experiment: Experiment) -> None:
    write_checkpoint(fold(experiment, 0) / "checkpoint_final.pth")
    write_summary(fold(experiment, 0) / "validation" / "summary.json", {"a": 0.5})
    (fold(experiment, 0) / "validation" / "a.npz").touch()
    found = status(experiment)
    assert [of(found, 0).state, of(found, 1).state] == [State.DONE, State.WAITING]


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_fold_runs_as_long_as_its_process_lives_and_not_longer(experiment: Experiment) -> None:
    folder = fold(experiment, 0)
    write_log(folder, 4)
    with other_process(folder / ".lock") as process:
        running = of(status(experiment), 0)
        assert (running.state, running.detail.split(" on ")[0]) == (State.RUNNING, f"process {process.pid}")
        assert running.progress == Progress(epoch=4, epochs=10, remaining_seconds=6 * 60)
        with locked(folder / ".lock", patience=0) as taken:
            assert not taken
    # Its log was written to a moment ago, but its process was on this machine, and is gone.
    waiting = of(status(experiment), 0)
    assert waiting.state is State.WAITING
    assert waiting.detail.startswith("interrupted in epoch 4")


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_lock_ends_with_its_process_though_a_child_lives_on(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from nnunet_transformers.common.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    time.sleep(600)"
    )
    lock = tmp_path / "lock"
    parent = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert holder(lock) is not None
    parent.kill()
    parent.wait()
    parent.stdout.close()
    os.kill(child, 0)  # it lives
    assert holder(lock) is None
    os.kill(child, 9)


def test_a_training_without_a_lock_runs_if_its_log_was_written_to_lately(experiment: Experiment) -> None:
    log = write_log(fold(experiment, 0), 2)
    running = of(status(experiment), 0)
    assert running.state is State.RUNNING
    assert "by its log" in running.detail
    long_ago = time.time() - 3600
    os.utime(log, (long_ago, long_ago))
    assert of(status(experiment), 0).detail == "interrupted in epoch 2 1 h 00 min ago; will go on"


def test_a_failed_step_has_the_reason_from_its_log(experiment: Experiment) -> None:
    step = of(status(experiment), 1)
    step.log.parent.mkdir(parents=True)
    step.log.write_text("Traceback\n[failed] OutOfMemoryError: CUDA out of memory\n")
    failed = of(status(experiment), 1)
    assert (failed.state, failed.detail) == (State.FAILED, "OutOfMemoryError: CUDA out of memory")
    step.log.write_text("[failed] before\n$ nnUNetv2_train …\n")
    assert of(status(experiment), 1).state is State.RUNNING


def test_the_newest_log_counts_by_its_date_not_by_its_spelling(tmp_path: Path) -> None:
    write_log(tmp_path, 8, stamp="2026_9_30_3_04_05")
    write_log(tmp_path, 6, stamp="2026_10_1_3_04_05", first=2, seconds=30)
    (tmp_path / "debug.json").write_text(json.dumps({"num_epochs": "20"}))
    assert read_progress(tmp_path) == Progress(epoch=8, epochs=20, remaining_seconds=12 * 30)


def test_a_training_that_has_just_begun_has_no_remaining_time(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    folder = tmp_path / "T__P__C" / "fold_0"
    write_log(folder, 0)
    assert read_progress(folder) == Progress(0, 1000, None)


def test_the_table_has_a_row_per_model_and_the_reason_of_each_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    progress = Progress(3, 10, 5400)
    found = [
        StepStatus("preprocess", State.DONE, "", log),
        StepStatus("train A fold 0", State.RUNNING, "process 5 on x", log, 7, "A", 0, progress),
        StepStatus("train A fold 1", State.FAILED, "no memory", log, 7, "A", 1),
        StepStatus("train Swin fold 0", State.RUNNING, "process 6 on x", log, 7, "Swin", 0, Progress(9, 10, 0.0)),
        StepStatus("train Swin fold 1", State.WAITING, "", log, 7, "Swin", 1),
    ]
    lines = as_text(found).splitlines()
    assert lines[0].split() == ["dataset", "7", "fold", "0", "fold", "1"]
    assert (
        lines[1].split("  ") == ["A", "        epoch 3 of 10, 1 h 30 min left", "failed"]
        or "1 h 30 min left" in lines[1]
    )
    assert lines[2].split() == ["Swin", "validating", "waiting"]
    assert f"train A fold 1 failed: no memory\n  {log}" in as_text(found)
    assert lines[-1] == "5 steps: 1 waiting, 2 running, 1 done, 1 failed"
    assert json.loads(as_json(found))[1]["progress"] == {"epoch": 3, "epochs": 10, "remaining_seconds": 5400}
    assert json.loads(as_json(found))[2]["state"] == "failed"
