"""An experiment run with nnU-Net's real commands, and killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_dataset import TinyDataset

from nnunet_transformers.comparison.experiment import parse_experiment
from nnunet_transformers.comparison.locks import holder
from nnunet_transformers.comparison.run_local import run
from nnunet_transformers.comparison.status import State, status

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX"),
]

TINY = TinyDataset("Dataset104_Killed", (16, 18, 20), (1.0, 1.0, 1.0), {"background": 0, "rim": 1, "core": 2})
RUNNER = (
    "import sys; from pathlib import Path; from nnunet_transformers.comparison.experiment import parse_experiment\n"
    "from nnunet_transformers.comparison.run_local import run\n"
    "run(parse_experiment(Path(sys.argv[1])))"
)


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_is_lost_when_the_training_and_then_the_runner_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    TINY.write(tmp_path / "raw")
    trainer = "nnUNetTrainer_25epochs_1iterations"
    path = tmp_path / "killed.yaml"
    path.write_text(f"dataset: 104\nfolds: [0]\ntrainers: [{trainer}]\nwhere: {{local: {{device: cpu}}}}\n")
    experiment = parse_experiment(path)
    fold = tmp_path / "results" / TINY.name / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"

    def training() -> int:
        until(lambda: holder(fold / ".lock"))
        match = re.match(r"process (\d+)", holder(fold / ".lock") or "")
        assert match
        return int(match[1])

    first = subprocess.Popen([sys.executable, "-c", RUNNER, str(path)], stderr=subprocess.PIPE, text=True)
    until(lambda: (fold / "checkpoint_best.pth").is_file())
    assert next(each for each in status(experiment) if each.fold == 0).state is State.RUNNING
    os.kill(training(), signal.SIGKILL)
    assert "failed (ended by signal SIGKILL)" in first.communicate()[1]

    second = subprocess.Popen([sys.executable, "-c", RUNNER, str(path)], stderr=subprocess.DEVNULL)
    pid = training()
    second.kill()
    second.wait()
    os.kill(pid, 0)

    outcome = run(experiment)
    assert outcome.is_complete
    assert "preprocess nnUNetPlans" in outcome.before
    assert {each.state for each in status(experiment)} == {State.DONE}
    log = (experiment.output / "logs" / f"train_{trainer}_fold_0.log").read_text()
    assert log.count("$ nnUNetv2_train 104") == 2
    assert log.rstrip().count(" --c\n") == 1
    resumed = max(fold.glob("training_log_*.txt"), key=lambda each: each.stat().st_mtime).read_text()
    assert not re.search(r"Epoch 0\s*$", resumed, re.MULTILINE)
    assert run(experiment).done == []
