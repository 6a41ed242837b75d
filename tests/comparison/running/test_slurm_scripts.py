"""Printed sbatch scripts: what they say, what they do in a plain shell, and on a real cluster."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.slurm_cluster import Trainings, needs_slurm, start_requeued, wait_until

from nnunet_transformers.comparison.experiment.model import Slurm
from nnunet_transformers.comparison.running.slurm_scripts import SUBMIT, print_scripts
from nnunet_transformers.comparison.running.step import Step

SMALL = Slurm(cpus=1, memory_gb=1, hours=1)


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    folder = tmp_path / "a folder's name"
    folder.mkdir()
    return Trainings(folder, epochs=3)


def written(trainings: Trainings, steps: list[Step], settings: Slurm = SMALL) -> Path:
    folder = trainings.folder / "scripts"
    folder.mkdir(exist_ok=True)
    scripts = print_scripts(steps, settings, environment=trainings.environment, workdir=trainings.folder)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        subprocess.run(["bash", "-n", str(folder / name)], check=True)
    return folder


def experiment(trainings: Trainings) -> list[Step]:
    folds = [trainings.train(number, needs=("preparation",), gpu=True) for number in range(3)]
    names = tuple(fold.name for fold in folds)
    return [
        trainings.touch("preparation"), *folds,
        trainings.touch("evaluation", needs=names), trainings.touch("prediction", needs=names[:2]),
        trainings.touch("selection", after=names),
    ]  # fmt: skip


def options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))


def run(script: Path, *, index: int = 0) -> None:
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(index)}
    subprocess.run(["bash", str(script)], check=True, env=environment, capture_output=True, timeout=60)


def test_each_script_asks_for_what_its_steps_need(trainings: Trainings) -> None:
    settings = Slurm(
        partition="gpu", account="stroke", gpus_per_task=2, cpus=6, memory_gb=48, hours=30.5,
        extra=("--constraint=a100", "#SBATCH --exclusive"), setup=("module load cuda", ". venv/bin/activate"),
    )  # fmt: skip
    scripts = print_scripts(experiment(trainings), settings, environment=trainings.environment)
    assert list(scripts)[:3] == [SUBMIT, "01_preparation.sbatch", "02_training.sbatch"]
    assert {name[3:] for name in list(scripts)[3:]} == {"evaluation.sbatch", "prediction.sbatch", "selection.sbatch"}
    training = options(scripts["02_training.sbatch"])
    expected = {
        "array": "0-2", "gres": "gpu:2", "cpus-per-task": "6", "mem": "49152M", "time": "1-06:30:00",
        "partition": "gpu", "account": "stroke", "constraint": "a100", "exclusive": "", "requeue": "",
        "signal": "B:USR1@120",
    }  # fmt: skip
    assert training.items() >= expected.items()
    preparation = options(scripts["01_preparation.sbatch"])
    assert not {"gres", "array", "signal"} & set(preparation), "repeated at its time limit, it would not come further"
    assert "module load cuda\n. venv/bin/activate\nset -euo pipefail\n" in scripts["02_training.sbatch"]


def test_nothing_is_printed_of_what_is_done(trainings: Trainings) -> None:
    steps = experiment(trainings)
    (trainings.folder / "preparation").touch()
    scripts = print_scripts(steps, SMALL, environment=trainings.environment)
    assert not any("preparation" in name for name in scripts)
    assert "dependency" not in scripts[SUBMIT].split("submit ")[1]
    assert print_scripts(steps[:1], SMALL) == {}


def test_dependencies_name_a_whole_array_or_the_elements_that_are_needed(trainings: Trainings) -> None:
    script = print_scripts(experiment(trainings), SMALL, environment=trainings.environment)[SUBMIT]
    assert 'afterok:${job[1]}" 02_training.sbatch' in script
    assert re.search(r'afterok:\$\{job\[2\]\}" 0._evaluation.sbatch', script)
    assert re.search(r'afterok:\$\{job\[2\]\}_0:\$\{job\[2\]\}_1" 0._prediction.sbatch', script)


def test_in_the_shell_a_training_is_begun_continued_validated_or_left_alone(trainings: Trainings) -> None:
    folder = written(trainings, [trainings.train(0), trainings.train(1)])
    script, fold = folder / "01_training.sbatch", trainings.fold(1)
    log = trainings.log("training fold 1")

    run(script, index=1)
    assert trainings.epochs(1) == [0, 1, 2]
    assert not trainings.fold(0).exists()
    begun = log.read_text()
    assert "--c" not in begun

    run(script, index=1)
    assert log.read_text() == begun, "a validated fold is left alone"

    (fold / "validation" / "summary.json").unlink()
    run(script, index=1)
    assert log.read_text().removeprefix(begun) == "-tr nnUNetTrainer -p nnUNetPlans --npz --val\n"

    (fold / "checkpoint_final.pth").unlink()
    with zipfile.ZipFile(fold / "checkpoint_latest.pth", "w") as checkpoint:
        checkpoint.writestr("epoch", "2")
    run(script, index=1)
    assert log.read_text().endswith("--npz --c\nepoch 2\n")

    (fold / "checkpoint_final.pth").write_bytes(b"cut off")
    (fold / "checkpoint_latest.pth").write_bytes(b"cut off")
    run(script, index=1)
    assert log.read_text().endswith("--npz\nepoch 0\nepoch 1\nepoch 2\n"), "a checkpoint that was cut off is none"


def test_a_step_that_fails_fails_its_job(trainings: Trainings) -> None:
    failing = replace(trainings.touch("a"), process=("false",))
    with pytest.raises(subprocess.CalledProcessError):
        run(written(trainings, [failing]) / "01_a.sbatch")
    trainings.program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(written(trainings, [trainings.train(0)]) / "01_training.sbatch")
    assert error.value.returncode == 3


def queue(folder: Path) -> list[str]:
    jobs = ",".join((folder / "jobs.txt").read_text().split())
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={jobs}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


@needs_slurm
def test_submitted_the_scripts_run_in_order_and_a_failed_element_stops_only_what_needs_it(
    trainings: Trainings,
) -> None:
    steps = experiment(trainings)
    broken = trainings.fold(2) / "broken"
    broken.parent.mkdir(parents=True)
    broken.touch()
    folder = written(trainings, steps)
    out = subprocess.run(["bash", str(folder / SUBMIT)], check=True, capture_output=True, text=True).stdout
    assert out.startswith("Submitted: ")
    twice = subprocess.run(["bash", str(folder / SUBMIT)], capture_output=True, text=True)
    assert (twice.returncode, "Nothing was submitted" in twice.stderr) == (2, True)
    wait_until(lambda: not queue(folder))
    assert {step.name for step in steps if not step.is_done()} == {"training fold 2", "evaluation"}
    broken.unlink()
    subprocess.run(["bash", str(written(trainings, steps) / SUBMIT)], check=True, capture_output=True)
    wait_until(lambda: not queue(folder))
    assert all(step.is_done() for step in steps)


@needs_slurm
def test_a_printed_job_out_of_time_is_requeued_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=25)
    step = trainings.train(0)
    folder = written(trainings, [step])
    subprocess.run(["bash", str(folder / SUBMIT)], check=True, capture_output=True)
    job = (folder / "jobs.txt").read_text().strip()
    wait_until(lambda: trainings.log(step.name).exists() and trainings.epochs(0)[-1:] == [12])
    # What SLURM does before the time limit.
    subprocess.run(["scancel", "--batch", "--signal=USR1", job], check=True)
    wait_until(lambda: queue(folder) == [f"{job} PENDING"])
    start_requeued(job)
    wait_until(lambda: not queue(folder))
    assert step.is_done()
    assert len(trainings.epochs(0)) <= 26
    assert "--c" in trainings.log(step.name).read_text()
