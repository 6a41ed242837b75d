"""Commands as processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.running.processes import how_it_ended, start_process, tail


def test_the_command_and_its_output_are_added_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    code = "import os; print(os.environ['WHO'])"
    for who in ("first", "second"):
        assert start_process("a", [sys.executable, "-c", code], log, {"WHO": who}).wait() == 0
    assert log.read_text().splitlines()[1::2] == ["first", "second"]
    assert log.read_text().startswith(f"$ {sys.executable} -c import os")


def test_of_a_long_log_the_end_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("line\n" * 100 + "the reason\n")
    assert tail(log).splitlines()[-1] == "  | the reason"
    assert len(tail(log).splitlines()) == 15


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="no-such-program cannot be started"):
        start_process("x", ["no-such-program"], tmp_path / "log", {})


def test_how_a_process_ended_is_said_in_words() -> None:
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-9) == "ended by signal SIGKILL"
