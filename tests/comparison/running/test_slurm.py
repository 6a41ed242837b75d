"""Submitting to SLURM: what becomes a job, what a job does when it starts, and, where there is one, a real cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.slurm_cluster import Trainings, needs_slurm, start_requeued, wait_until
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Slurm
from nnunet_transformers.comparison.running.slurm import (
    JOBS_FILE,
    dependencies,
    extra_options,
    grouped,
    in_queue,
    submit,
)
from nnunet_transformers.comparison.running.slurm_job import worker_processes
from nnunet_transformers.comparison.running.step import Step

SMALL = Slurm(cpus=1, memory_gb=1, hours=1)


@pytest.fixture
def trainings(tmp_path: Path) -> Trainings:
    return Trainings(tmp_path, epochs=3)


# What becomes a job


@st.composite
def experiments(draw: st.DrawFn) -> list[Step]:
    """Steps in any order, each with needs among those of a smaller number, some of them done."""
    steps = []
    for number in range(draw(st.integers(1, 8))):
        needs = draw(st.sets(st.integers(0, number - 1))) if number else set()
        done = draw(st.booleans()) if all(steps[n].is_done() for n in needs) else False
        steps.append(
            Step(
                name=str(number),
                command=("true",),
                process=("true",),
                needs=tuple(str(n) for n in sorted(needs)),
                log=Path("log"),
                is_done=lambda done=done: done,
                array=draw(st.sampled_from(["", "a", "b"])),
                gpu=draw(st.booleans()),
                hours=draw(st.sampled_from([None, 1.0])),
            )
        )
    return draw(st.permutations(steps))


@given(experiments())
def test_every_step_that_is_not_done_is_in_one_job_after_those_it_needs(steps: list[Step]) -> None:
    seen: set[str] = {step.name for step in steps if step.is_done()}
    for group in grouped(steps, SMALL):
        assert len(group.steps) == 1 or all(step.array for step in group.steps)
        for step in group.steps:
            assert set(step.needs) <= seen
            assert step.gpu == group.gpu
            assert group.minutes == 60 * (step.hours or 1)
        names = {step.name for step in group.steps}
        assert not names & seen
        seen |= names
    assert seen == {step.name for step in steps}


def test_steps_of_an_array_with_other_needs_are_another_array(trainings: Trainings) -> None:
    steps = [trainings.touch("a"), trainings.touch("b"), *(trainings.train(n, needs=("a",)) for n in (0, 1))]
    steps.append(trainings.train(2, needs=("b",)))
    groups = {tuple(step.name for step in group.steps): group.needs for group in grouped(steps, SMALL)}
    assert groups[("training fold 0", "training fold 1")] == ("a",)
    assert groups[("training fold 2",)] == ("b",)


def test_a_need_that_is_not_there_is_an_error(trainings: Trainings) -> None:
    with pytest.raises(ValueError, match="a needs b"):
        grouped([trainings.touch("a", needs=("b",))], SMALL)
    assert grouped([trainings.touch("a", needs=("b",))], SMALL, queued=["b"])[0].needs == ("b",)


def test_a_job_waits_for_those_before_it_to_end_or_to_succeed(trainings: Trainings) -> None:
    one, two = trainings.touch("a"), trainings.touch("b")
    last = trainings.touch("c", needs=("a",), after=("b",))
    (group,) = (group for group in grouped([last, one, two], SMALL) if group.steps == (last,))
    assert (group.needs, group.after) == (("a",), ("b",))
    assert dependencies(["1", "2_3"], ["4"]) == "afterok:1:2_3,afterany:4"
    assert (dependencies([], ["4"]), dependencies([], [])) == ("afterany:4", "")


def test_what_is_done_is_submitted_again_if_a_step_it_comes_after_is_still_to_run(trainings: Trainings) -> None:
    selection = trainings.touch("selection", after=("training fold 0", "training fold 1"))
    folds = [trainings.train(number) for number in (0, 1)]
    (trainings.folder / "selection").touch()
    names = [step.name for group in grouped([*folds, selection], SMALL) for step in group.steps]
    assert names == ["training fold 0", "training fold 1", "selection"]


def test_extra_lines_are_options_of_sbatch_in_full() -> None:
    lines = ["--constraint=a100&nvlink", "#SBATCH --exclusive", "--comment 'of the stroke team'"]
    expected = {"constraint": "a100&nvlink", "exclusive": True, "comment": "of the stroke team"}
    assert extra_options(lines) == expected
    with pytest.raises(ComparisonError, match=r"(?s)-C a100.*SLURM_EXTRA"):
        extra_options(["-C a100"])


def test_without_slurm_or_submitit_the_error_says_what_to_do(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [trainings.touch("a")]
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(trainings.folder))
        with pytest.raises(ComparisonError, match=r"(?s)sbatch is not found.*--print.*NO_SLURM"):
            submit(steps, SMALL, trainings.folder)
        (trainings.folder / "sbatch").write_text("#!/bin/sh\nexit 1\n")
        (trainings.folder / "sbatch").chmod(0o755)
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(ComparisonError, match=r'pip install "nnunet-transformers\[slurm\]"'):
            submit(steps, SMALL, trainings.folder)
    assert not (trainings.folder / JOBS_FILE).exists()


# What a job does when it starts


def test_worker_processes_are_as_many_as_the_job_has_cores_but_no_more_than_nnunet_takes() -> None:
    assert worker_processes({}) == {}
    assert worker_processes({"SLURM_CPUS_PER_TASK": "4"}) == {"nnUNet_n_proc_DA": "4", "nnUNet_def_n_proc": "4"}
    assert worker_processes({"SLURM_CPUS_PER_TASK": "64"})["nnUNet_n_proc_DA"] == "12"


# Runs a step as submitit does: SIGUSR2 calls `checkpoint`; what it returns goes to stdout.
JOB = """
import json, signal, sys
from pathlib import Path
from nnunet_transformers.comparison.running.slurm_job import StepRun
command, process, log, fold, minutes, environment = json.loads(sys.argv[1])
run = StepRun("training", tuple(command), tuple(process), Path(log), Path(fold), minutes, environment)
def out_of_time(number, frame):
    print(run.checkpoint(), flush=True)
    sys.exit(1)
signal.signal(signal.SIGUSR2, out_of_time)
run()
"""


def start_job(trainings: Trainings, *, minutes: int) -> subprocess.Popen[str]:
    step = trainings.train(0)
    arguments = json.dumps(
        [step.command, step.process, str(step.log), str(trainings.fold(0)), minutes, trainings.environment]
    )
    return subprocess.Popen(
        [sys.executable, "-c", JOB, arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_out_of_time_the_training_is_ended_and_its_job_requeued(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=600)
    job = start_job(trainings, minutes=1)
    latest = trainings.fold(0) / "checkpoint_latest.pth"
    wait_until(latest.exists)
    os.killpg(job.pid, signal.SIGUSR2)
    out, _ = job.communicate(timeout=30)
    assert "DelayedSubmission" in out
    pattern = f"{trainings.program} "
    assert subprocess.run(["pgrep", "-f", pattern], capture_output=True).returncode == 1, "nothing is left running"


# Writes a checkpoint, slowly, and goes on.
SLOW_WRITER = """
import io, sys, time, zipfile
content = io.BytesIO()
with zipfile.ZipFile(content, "w") as archive:
    archive.writestr("epoch", "1")
with open({path!r}, "wb") as file:
    file.write(content.getvalue()[:-30])
    file.flush()
    time.sleep(1)
    file.write(content.getvalue()[-30:])
time.sleep(600)
"""


def test_a_checkpoint_that_is_being_written_is_finished_before_the_training_is_ended(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=1)
    latest = trainings.fold(0) / "checkpoint_latest.pth"
    latest.parent.mkdir(parents=True)
    trainings.program.write_text(f"#!{sys.executable}\n" + SLOW_WRITER.format(path=str(latest)))
    job = start_job(trainings, minutes=1)
    wait_until(lambda: latest.exists() and latest.stat().st_size > 0)
    os.killpg(job.pid, signal.SIGUSR2)
    for child in subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True).stdout.split():
        os.kill(int(child), signal.SIGUSR2)  # SLURM signals every process of the job
    out, _ = job.communicate(timeout=30)
    assert zipfile.is_zipfile(latest)
    assert "DelayedSubmission" in out


def test_a_run_that_used_up_its_time_without_a_checkpoint_is_not_requeued(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=600)
    trainings.program.write_text(f"#!{sys.executable}\nimport time; print('slow', flush=True); time.sleep(600)")
    log = trainings.log("training fold 0")
    for minutes, requeued in ((1, False), (60, True)):  # after a second of 60 minutes it is a preemption
        log.unlink(missing_ok=True)
        job = start_job(trainings, minutes=minutes)
        wait_until(lambda: log.exists() and "slow" in log.read_text())
        os.killpg(job.pid, signal.SIGUSR2)
        out, _ = job.communicate(timeout=30)
        assert ("DelayedSubmission" in out) is requeued
        assert ("out of time" in log.read_text()) is not requeued


def test_a_termination_is_passed_on_and_a_failure_is_one_of_the_job(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=600)
    job = start_job(trainings, minutes=60)
    wait_until((trainings.fold(0) / "checkpoint_latest.pth").exists)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "ended by signal SIGTERM" in err


# A real cluster


def jobs_file(trainings: Trainings) -> dict[str, dict[str, str]]:
    return json.loads((trainings.folder / JOBS_FILE).read_text())


def until_idle(trainings: Trainings, seconds: float = 60.0) -> None:
    wait_until(lambda: not in_queue(trainings.folder), seconds)


@needs_slurm
def test_steps_run_in_order_and_one_that_fails_stops_only_what_needs_it(trainings: Trainings) -> None:
    folds = [f"training fold {number}" for number in range(3)]
    steps = [
        trainings.touch("evaluation", needs=tuple(folds)),
        *(trainings.train(number, needs=("preparation",), gpu=True) for number in range(3)),
        trainings.touch("preparation"),
        trainings.touch("prediction", needs=tuple(folds[:2])),
        trainings.touch("selection", after=tuple(folds)),
    ]
    broken = trainings.fold(1) / "broken"
    broken.parent.mkdir(parents=True)
    broken.touch()
    first = submit(steps, SMALL, trainings.folder, environment=trainings.environment)
    assert set(first) == {step.name for step in steps}
    assert len({first[name].job.split("_")[0] for name in folds}) == 1, "the folds are one array"
    assert submit(steps, SMALL, trainings.folder, environment=trainings.environment) == {}, "nothing is submitted twice"
    until_idle(trainings)
    assert {step.name: step.is_done() for step in steps} == {
        "preparation": True, "training fold 0": True, "training fold 1": False, "training fold 2": True,
        "evaluation": False, "prediction": False, "selection": True,
    }  # fmt: skip
    assert "the loss is not a number" in trainings.log(folds[1]).read_text()

    broken.unlink()
    second = submit(steps, SMALL, trainings.folder, environment=trainings.environment)
    assert set(second) == {"training fold 1", "evaluation", "prediction", "selection"}
    until_idle(trainings)
    assert all(step.is_done() for step in steps)
    assert trainings.epochs(0) == [0, 1, 2], "a fold that was done is not trained again"
    assert submit(steps, SMALL, trainings.folder, environment=trainings.environment) == {}


@needs_slurm
def test_a_cancelled_training_loses_nothing_when_it_is_submitted_again(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=15)
    step = trainings.train(0)
    job = submit([step], SMALL, tmp_path, environment=trainings.environment)[step.name].job
    wait_until(lambda: trainings.log(step.name).exists() and trainings.epochs(0)[-1:] == [5])
    assert in_queue(tmp_path)[step.name].state == "RUNNING"
    subprocess.run(["scancel", job], check=True)
    until_idle(trainings)
    assert not step.is_done()
    again = submit([step], SMALL, tmp_path, environment=trainings.environment)
    assert again[step.name].job != job
    until_idle(trainings)
    assert step.is_done()
    epochs = trainings.epochs(0)
    assert epochs[-1] == 14
    assert len(epochs) <= 16, "only the epoch that was cut off is trained again"


@needs_slurm
def test_a_job_out_of_time_is_requeued_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, epochs=25)
    step = trainings.train(0)
    after = trainings.touch("after", needs=(step.name,))
    jobs = submit([step, after], SMALL, tmp_path, environment=trainings.environment)
    job = jobs[step.name].job
    wait_until(lambda: trainings.log(step.name).exists() and trainings.epochs(0)[-1:] == [5])
    # What SLURM does before the time limit.
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    wait_until(lambda: in_queue(tmp_path)[step.name].state == "PENDING")
    assert submit([step, after], SMALL, tmp_path, environment=trainings.environment) == {}
    start_requeued(job)
    until_idle(trainings)
    assert step.is_done()
    assert after.is_done(), "a requeue is no failure to those who wait"
    assert len(trainings.epochs(0)) <= 26
    assert "--c" in trainings.log(step.name).read_text()


@needs_slurm
def test_a_refused_job_is_explained_and_the_rest_can_be_submitted_later(trainings: Trainings) -> None:
    steps = [trainings.touch("a")]
    with pytest.raises(ComparisonError, match=r"(?s)refuses the job a:.*partition.*SLURM_REFUSES"):
        submit(steps, replace(SMALL, partition="no-such-partition"), trainings.folder)
    assert in_queue(trainings.folder) == {}


@needs_slurm
def test_a_number_that_is_another_jobs_by_now_is_not_taken_for_ours(trainings: Trainings) -> None:
    step = replace(trainings.touch("a"), process=("sleep", "60"))
    job = submit([step], SMALL, trainings.folder)[step.name].job
    assert set(in_queue(trainings.folder)) == {"a"}
    known = jobs_file(trainings)
    known["a"]["job_name"] = "another"
    (trainings.folder / JOBS_FILE).write_text(json.dumps(known))
    assert in_queue(trainings.folder) == {}
    subprocess.run(["scancel", job], check=True)
