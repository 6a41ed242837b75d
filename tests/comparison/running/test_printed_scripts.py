"""The scripts that `compare run --print` writes for a real experiment, submitted to a cluster of one node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.slurm_cluster import needs_slurm, start_requeued, wait_until
from helpers.tiny_dataset import TinyDataset, narrow

from nnunet_transformers.cli import main
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.state import is_checkpoint

pytestmark = [pytest.mark.end_to_end, needs_slurm]

TINY = TinyDataset("Dataset105_Printed", (16, 18, 20), (1.0, 1.0, 1.0), {"background": 0, "rim": 1, "core": 2}, cases=4)
TUNED, BROKEN = "nnUNetTrainer_40epochs_1iterations", "nnUNetTrainerBroken_1epochs_1iterations"
EXPERIMENT = f"""
dataset: {TINY.id}
folds: [0, 1]
lesion_labels: [1, 2]
trainers:
  - {{trainer: {TUNED}, name: tuned, pretrained_weights: weights.pth}}
  - {{trainer: {BROKEN}, name: broken}}
test_sets: [{{name: new, images: images}}]
where: {{slurm: {{cpus: 1, memory_gb: 3, gpus_per_task: 0, hours: 0.2}}}}
"""
A_TRAINER_THAT_FAILS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
class nnUNetTrainerBroken(nnUNetTrainer):
    def on_train_start(self):
        super().on_train_start()
        if self.fold == 1:
            raise RuntimeError("the loss is not a number")
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an experiment whose dataset is preprocessed; there are weights to start from, and no results."""
    for part in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    TINY.write(tmp_path / "raw")
    TINY.write_image(tmp_path / "images", "unseen", TINY.case(99)[0])
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    planning, *arguments = commands.plan_and_preprocess(TINY.id, "3d_fullres", processes=1)
    subprocess.run([Path(sys.executable).with_name(planning), *arguments], check=True, capture_output=True)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # augments in the training's process, which starts sooner

    preprocessed = tmp_path / "preprocessed" / TINY.name
    plans = narrow(json.loads((preprocessed / "nnUNetPlans.json").read_text()), "nnUNetPlans")
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    cases = [f"case_{number}" for number in range(TINY.cases)]
    folds = [{"train": cases[2:], "val": cases[:2]}, {"train": cases[:2], "val": cases[2:]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(folds))
    torch.save({"network_weights": network_of(plans).state_dict()}, tmp_path / "weights.pth")
    trainers = tmp_path / "trainers"
    trainers.mkdir()
    (trainers / "broken.py").write_text(A_TRAINER_THAT_FAILS)
    monkeypatch.setenv(
        "nnUNet_extTrainer", os.pathsep.join([os.environ.get("nnUNet_extTrainer", ""), str(trainers)]).lstrip(":")
    )
    path = tmp_path / "e.yaml"
    path.write_text(EXPERIMENT)
    return path


def network_of(plans: dict) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    of = plans["configurations"]["3d_fullres"]["architecture"]
    return get_network_from_plans(of["network_class_name"], of["arch_kwargs"], of["_kw_requires_import"], 1, 3)


def submitted(experiment: Path) -> dict[str, str]:
    """Print the scripts anew and submit them; the number of each job by the name of its script."""
    scripts = experiment.with_name("scripts")
    shutil.rmtree(scripts, ignore_errors=True)
    assert main(["compare", "run", str(experiment), "--print", str(scripts)]) == 0
    subprocess.run(["bash", str(scripts / "submit.sh")], check=True, capture_output=True)
    names = [path.name[3:].removesuffix(".sbatch") for path in sorted(scripts.glob("*.sbatch"))]
    return dict(zip(names, (scripts / "jobs.txt").read_text().split(), strict=True))


def in_queue(jobs: dict[str, str]) -> str:
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(jobs.values())}"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def log_of(experiment: Path, name: str) -> str:
    return (experiment.with_name("e") / "logs" / f"{name}.log").read_text()


def test_printed_jobs_go_on_and_begin_again_and_do_without_as_compare_run_does(experiment: Path) -> None:
    results = experiment.with_name("results") / TINY.name
    tuned = results / f"{TUNED}__nnUNetPlans__3d_fullres"
    jobs = submitted(experiment)
    assert not results.exists(), "what is in the queue knows its folders before they are there"
    experiment.write_text("edited while its jobs wait")

    # A fine-tuning, begun and requeued at its time limit, goes on from its checkpoint and not from the weights.
    wait_until(lambda: is_checkpoint(tuned / "fold_0" / "checkpoint_best.pth"), 120)
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{jobs['train']}_0"], check=True)
    wait_until(lambda: f"{jobs['train']}_0 PENDING" in in_queue(jobs))
    start_requeued(f"{jobs['train']}_0")
    wait_until(lambda: not in_queue(jobs), 240)
    first, second = [line for line in log_of(experiment, "train_tuned_fold_0").splitlines() if line.startswith("$ ")]
    assert "-pretrained_weights" in first
    assert second == f"$ nnUNetv2_train {TINY.id} 3d_fullres 0 -tr {TUNED} -p nnUNetPlans --npz -device cpu --c"

    # A fold that failed costs its model, not the selection, the predictions of the others or the report.
    assert "[failed]" in log_of(experiment, "train_broken_fold_1")
    considered = json.loads((results / "inference_information.json").read_text())["considered_models"]
    assert [model["trainer"] for model in considered] == [TUNED]
    predicted = experiment.with_name("e") / "predictions" / TINY.name / "new"
    prediction, final = predicted / tuned.name / "unseen.nii.gz", predicted / "selected" / "unseen.nii.gz"
    assert final.is_file()
    assert experiment.with_name("e").joinpath("report.html").is_file()

    # A fold trained again after its predictions: they are made again.
    experiment.write_text(EXPERIMENT)
    before = prediction.stat().st_mtime
    shutil.rmtree(tuned / "fold_1")
    jobs = submitted(experiment)
    wait_until(lambda: not in_queue(jobs), 240)
    trained = (tuned / "fold_1" / "checkpoint_final.pth").stat().st_mtime
    assert before < trained < prediction.stat().st_mtime < final.stat().st_mtime
