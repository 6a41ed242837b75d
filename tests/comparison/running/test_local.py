"""Running steps on one machine: order, slots, failures, interruptions; other processes that run the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from nnunet_transformers.common.locks import locked
from nnunet_transformers.comparison.running.local import run_steps
from nnunet_transformers.comparison.running.step import Step

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")


def made(path: Path) -> bool:
    return path.exists()


def step(
    folder: Path,
    name: str,
    code: str = "",
    *needs: str,
    after: tuple[str, ...] = (),
    stays_done: bool = False,
    gpu: bool = False,
    lock: bool = False,
) -> Step:
    """A step that runs some Python and leaves a file of its name."""
    done = folder / f"{name}.done"
    command = (sys.executable, "-c", f"{code}\nopen({str(done)!r}, 'w').close()")
    locks = folder / f"{name}.lock" if lock else None
    return Step(
        name=name, command=command, process=command, needs=needs, after=after, gpu=gpu, log=folder / f"{name}.log",
        is_done=partial(made, done), stays_done=stays_done, lock=locks,
    )  # fmt: skip


def until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_steps_run_after_those_they_need_and_what_is_done_is_not_run_again(tmp_path: Path) -> None:
    check = f"import os; assert os.path.exists({str(tmp_path / 'a.done')!r})"
    steps = [step(tmp_path, "b", check, "a"), step(tmp_path, "a")]
    outcome = run_steps(steps, at_once=2)
    assert (outcome.before, outcome.done, outcome.is_complete) == ([], ["a", "b"], True)
    (tmp_path / "b.done").unlink()
    again = run_steps(steps)
    assert (again.before, again.done) == (["a"], ["b"])


def test_a_failure_is_shown_with_the_end_of_its_log_and_the_others_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [
        step(tmp_path, "bad", "print('line\\n' * 50, 'the reason'); raise SystemExit(3)"),
        step(tmp_path, "after bad", "", "bad"),
        step(tmp_path, "after that", "", "after bad", "good"),
        step(tmp_path, "good"),
    ]
    outcome = run_steps(steps)
    assert outcome.done == ["good"]
    assert [(failure.step.name, failure.how) for failure in outcome.failed] == [("bad", "exit code 3")]
    assert outcome.left_out == {"after bad": "bad failed", "after that": "after bad was not run"}
    assert not outcome.is_complete
    assert "the reason" in capfd.readouterr().err
    assert "not run: after bad: bad failed" in str(outcome)
    assert (tmp_path / "bad.log").read_text().endswith("[failed] exit code 3\n")


def test_a_step_after_others_runs_when_one_of_them_succeeded(tmp_path: Path) -> None:
    bad = step(tmp_path, "bad", "import time; time.sleep(0.3); raise SystemExit(3)")
    check = f"import os; assert os.path.exists({str(tmp_path / 'bad.log')!r})"
    steps = [
        step(tmp_path, "good"), bad, step(tmp_path, "select", check, after=("good", "bad")),
        step(tmp_path, "none", after=("bad",)),
    ]  # fmt: skip
    outcome = run_steps(steps, at_once=3)
    assert outcome.done == ["good", "select"]
    assert outcome.left_out == {"none": "no step before it succeeded"}


def test_what_is_done_is_done_again_after_a_step_it_comes_after_but_trainings_stay(tmp_path: Path) -> None:
    steps = [
        step(tmp_path, "preprocess"), step(tmp_path, "train", "", "preprocess", stays_done=True),
        step(tmp_path, "select", after=("train", "new")), step(tmp_path, "new"),
    ]  # fmt: skip
    for name in ("train", "select"):
        (tmp_path / f"{name}.done").touch()
    outcome = run_steps(steps)
    assert (outcome.before, outcome.done) == (["train"], ["preprocess", "new", "select"])
    assert run_steps(steps).before == ["preprocess", "train", "select", "new"]


def test_trainings_side_by_side_each_have_a_gpu_of_their_own(tmp_path: Path) -> None:
    wait = (
        "import os, pathlib, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']\n"
        "(folder / f'on{gpu}').touch()\n"
        "end = time.time() + 30\n"
        "while len(list(folder.glob('on*'))) < 2 and time.time() < end: time.sleep(0.01)\n"
        "print('GPU', gpu)"
    )
    steps = [step(tmp_path, name, wait, gpu=True) for name in "abcd"]
    assert run_steps(steps, at_once=2, gpus=["3", "5"]).is_complete
    assert sorted(path.name for path in tmp_path.glob("on*")) == ["on3", "on5"]


def test_no_more_run_together_than_are_allowed(tmp_path: Path) -> None:
    count = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "mine = folder / f'running{os.getpid()}'; mine.touch()\n"
        "time.sleep(0.1); together = len(list(folder.glob('running*'))); mine.unlink()\n"
        "assert together <= 2, together"
    )
    assert run_steps([step(tmp_path, name, count, gpu=True) for name in "abcde"], at_once=2).is_complete


def test_a_step_without_a_gpu_does_not_wait_for_one(tmp_path: Path) -> None:
    wait = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'b.done')!r}): time.sleep(0.01)"
    steps = [step(tmp_path, "a", wait, gpu=True), step(tmp_path, "b")]
    assert run_steps(steps, at_once=1).is_complete  # one after the other, this would wait for ever


def running_elsewhere(one: Step, **environment: str) -> subprocess.Popen[str]:
    """Another process that has the step's lock, and does it a while later."""
    code = (
        "import sys, time; from pathlib import Path; from nnunet_transformers.common.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); time.sleep(1.5); Path(sys.argv[2]).touch()"
    )
    command = [sys.executable, "-c", code, str(one.lock), str(one.log.with_suffix(".done"))]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    assert other.stdout is not None
    other.stdout.readline()
    return other


def test_a_training_that_a_killed_run_left_counts_among_those_at_once(tmp_path: Path) -> None:
    orphan = step(tmp_path, "orphan", "raise SystemExit('run twice')", gpu=True, lock=True)
    after = f"assert __import__('os').path.exists({str(tmp_path / 'orphan.done')!r})"
    with running_elsewhere(orphan):
        assert run_steps([step(tmp_path, "a", after, gpu=True), orphan], at_once=1).is_complete


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process's environment")
def test_the_gpu_of_a_training_that_a_killed_run_left_is_taken(tmp_path: Path) -> None:
    orphan = step(tmp_path, "orphan", "raise SystemExit('run twice')", gpu=True, lock=True)
    on_the_other = "assert __import__('os').environ['CUDA_VISIBLE_DEVICES'] == '7'"
    with running_elsewhere(orphan, CUDA_VISIBLE_DEVICES="5"):
        assert run_steps([step(tmp_path, "a", on_the_other, gpu=True), orphan], at_once=2, gpus="57").is_complete


def test_a_step_another_process_runs_is_waited_for_and_not_run_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = step(tmp_path, "a", "raise SystemExit('run twice')", lock=True)
    other = running_elsewhere(one)
    outcome = run_steps([one, step(tmp_path, "b", "", "a")])
    assert other.wait() == 0
    assert other.stdout is not None
    other.stdout.close()
    assert outcome.done == ["a", "b"]
    assert f"under way already (process {other.pid}" in capfd.readouterr().err


RUNNER = (
    "import signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
    "from test_local import step; from nnunet_transformers.comparison.running.local import run_steps\n"
    # A process in the background of a shell ignores interrupts, one under nohup hang-ups, and so do their children.
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "signal.signal(getattr(signal, 'SIGHUP', signal.SIGTERM), signal.SIG_DFL)\n"
    "folder = Path(sys.argv[1])\n"
    'code = f\'import os, time; open({str(folder / "pid")!r}, "w").write(str(os.getpid())); time.sleep(600)\'\n'
    "run_steps([step(folder, 'first'), step(folder, 'second', code, 'first')])"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_an_interruption_ends_what_runs_and_keeps_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    arguments = [sys.executable, "-c", RUNNER, str(tmp_path), str(Path(__file__).parent)]
    runner = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text())
    runner.send_signal(number)
    assert runner.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert (tmp_path / "first.done").exists()
    outcome = run_steps([step(tmp_path, "first"), step(tmp_path, "second", "", "first")])
    assert (outcome.before, outcome.done) == (["first"], ["second"])


def test_a_training_that_is_killed_is_a_failure_and_leaves_no_workers_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    outcome = run_steps([step(tmp_path, "a", code)])
    assert [failure.how for failure in outcome.failed] == ["ended by signal SIGKILL"]

    def gone() -> bool:
        status = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
        return not status.exists() or status.read_text().rsplit(")")[1].split()[0] == "Z"

    if sys.platform == "linux":
        until(gone)


def test_a_lock_that_is_asked_for_in_passing_is_still_given(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as taken:
        assert taken
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
