"""Running commands: logs, failures, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.running.processes import Job, run_jobs


def python(name: str, code: str, folder: Path, **environment: str) -> Job:
    return Job(name, [sys.executable, "-c", code], folder / f"{name}.log", environment)


def test_output_goes_to_the_log_and_progress_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [python(name, "import os; print(os.environ['WHO'])", tmp_path, WHO=name.upper()) for name in ("a", "b")]
    run_jobs(jobs)
    assert (tmp_path / "b.log").read_text().endswith("B\n")
    out, err = capfd.readouterr()
    assert out == ""
    assert "[1/2] a" in err
    assert "[2/2] b" in err


def test_jobs_run_together_up_to_the_number_allowed(tmp_path: Path) -> None:
    meet = (
        "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    jobs = [Job(x, [sys.executable, "-c", meet, x, y], tmp_path / "log") for x, y in ((a, b), (b, a))]
    run_jobs(jobs, at_once=2)  # one after the other, this would wait for ever


def test_a_failure_shows_the_command_and_the_end_of_its_log_and_ends_the_others(tmp_path: Path) -> None:
    sleeper = python("sleeper", "import time; time.sleep(600)", tmp_path)
    failing = python("failing", "print('line\\n' * 100); raise SystemExit('the reason')", tmp_path)
    started = time.monotonic()
    with pytest.raises(ComparisonError, match=r"(?s)failing failed \(exit code 1\).*the reason.*STEP_FAILED") as error:
        run_jobs([sleeper, failing], at_once=2)
    assert str(tmp_path / "failing.log") in str(error.value)
    assert time.monotonic() - started < 30


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="no-such-program cannot be started"):
        run_jobs([Job("x", ["no-such-program"], tmp_path / "log")])


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_leaves_no_process_behind(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path\n"
        "from nnunet_transformers.comparison.running.processes import Job, run_jobs\n"
        # A process started in the background of a shell ignores interrupts, and so do its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "code = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'\n"
        "run_jobs([Job('sleeper', [sys.executable, '-c', code], Path(sys.argv[1]))])"
    )
    log = tmp_path / "log"
    runner = subprocess.Popen([sys.executable, "-c", script, str(log)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().splitlines()) > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    sleeper = int(log.read_text().splitlines()[1])
    runner.send_signal(signal.SIGINT)
    assert runner.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper, 0)
