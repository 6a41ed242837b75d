"""Who has Ctrl-C in hand: the program, or the command that clears away after an exception."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PROGRAM = """
import os, signal, sys
from nnunet_transformers.common import interrupts
from nnunet_transformers.common.command_line import Command, main

def interrupted(_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("cleared away", flush=True)
        raise
    return 0

class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)

def ends(_):
    global last
    last = Last()
    return 0

commands = [
    Command("ends", "a", "b", ends),
    Command("clears", "a", "b", interrupted),
    Command("dies", "a", "b", interrupts.at_once()(interrupted)),
]
sys.exit(main(commands, prog="program", description=""))
"""


def run(command: str, handling: str = "default_int_handler") -> subprocess.CompletedProcess[str]:
    code = f"import signal; signal.signal(signal.SIGINT, signal.{handling})\n{PROGRAM}"
    return subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=False)


def test_a_command_clears_away_and_one_that_may_be_killed_ends_at_once() -> None:
    for command, cleared in (("clears", "cleared away\n"), ("dies", "")):
        done = run(command)
        assert (done.returncode, done.stdout, done.stderr) == (130, cleared, "Interrupted.\n")


def test_it_comes_too_late_when_python_itself_is_at_its_end() -> None:
    assert run("ends").returncode == 0


@pytest.mark.parametrize("command", ["clears", "dies"])
def test_where_ctrl_c_is_ignored_as_in_the_background_it_stays_so(command: str) -> None:
    assert run(command, "SIG_IGN").returncode == 0
