"""An experiment run with nnU-Net's real commands, and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_dataset import TinyDataset, add_cascade, narrow

from nnunet_transformers.common.locks import holder
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.experiment.check import read_experiment
from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.state import is_checkpoint
from nnunet_transformers.comparison.running.local import run
from nnunet_transformers.comparison.running.status import State, status

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX"),
]

TINY = TinyDataset("Dataset104_Killed", (16, 18, 20), (1.0, 1.0, 1.0), {"background": 0, "rim": 1, "core": 2})
RUNNER = (
    "import sys; from pathlib import Path\n"
    "from nnunet_transformers.comparison.experiment.file import parse_experiment\n"
    "from nnunet_transformers.comparison.running.local import run\n"
    "run(parse_experiment(Path(sys.argv[1])))"
)


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stopped_between_checkpoints(pid: int, checkpoint: Path) -> bool:
    """Stop a process, unless it is writing its checkpoint: killed then, it would have none to go on from."""
    os.kill(pid, signal.SIGSTOP)
    if is_checkpoint(checkpoint):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # as CPU users set it; nnU-Net's own planning fails with it
    TINY.write(tmp_path / "raw")


def test_nothing_is_lost_when_the_training_and_then_the_runner_are_killed(tmp_path: Path) -> None:
    trainer = "nnUNetTrainer_12epochs_1iterations"
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
    until(lambda: stopped_between_checkpoints(training(), fold / "checkpoint_best.pth"))
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


def test_a_cascade_is_trained_selected_and_predicts_after_its_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = commands.plan_and_preprocess(104, processes=1)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    subprocess.run([str(Path(sys.executable).with_name(planning[0])), *planning[1:]], check=True, capture_output=True)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    preprocessed = tmp_path / "preprocessed" / TINY.name
    plans = narrow(json.loads((preprocessed / "nnUNetPlans.json").read_text()), "nnUNetPlans")
    add_cascade(plans, (8, 8, 8), ((1, 1, 1), (2, 2, 2)))
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    cases = [f"case_{number}" for number in range(TINY.cases)]
    splits = [{"train": cases, "val": cases}]  # one fold that predicts for the next stage all that it trains on
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    TINY.write_image(tmp_path / "images", "unseen", TINY.case(99)[0])

    trainer = "nnUNetTrainer_1epochs_1iterations"
    path = tmp_path / "cascade.yaml"
    path.write_text(
        f"dataset: 104\nlesion_labels: [1, 2]\nfolds: [0]\nensembles: none\n"
        f"test_sets: [{{name: new, images: images}}]\n"
        f"where: {{local: {{device: cpu}}}}\ntrainers:\n"
        f"  - {{trainer: {trainer}, name: low, configuration: 3d_lowres}}\n"
        f"  - {{trainer: {trainer}, name: both, configuration: 3d_cascade_fullres}}\n"
    )
    experiment = read_experiment(path)
    outcome = run(experiment)
    assert outcome.is_complete, str(outcome)
    results = tmp_path / "results" / TINY.name
    considered = json.loads((results / "inference_information.json").read_text())["considered_models"]
    assert {model["configuration"] for model in considered} == {"3d_lowres", "3d_cascade_fullres"}
    predicted = experiment.output / "predictions" / TINY.name / "new"
    assert (predicted / f"{trainer}__nnUNetPlans__3d_cascade_fullres" / "unseen.nii.gz").is_file()
    assert (predicted / "selected" / "unseen.nii.gz").is_file()
    assert run(experiment).done == []

    (preprocessed / "splits_final.json").write_text(json.dumps(splits * 2))
    with pytest.raises(UserError, match="it trains on the predictions of all 2 folds of 3d_lowres"):
        read_experiment(path)
