"""Whoever has a file or a folder for himself has it alone, until the block or the process ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nnunet_transformers.common.locks import exclusive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock a folder")

HOLD = """
import sys
from pathlib import Path
from nnunet_transformers.common.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.read()
"""


def is_free(path: Path) -> bool:
    with exclusive(path, wait=False) as taken:
        return taken


@pytest.fixture(params=["a folder", "a file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path if request.param == "a folder" else tmp_path / "file"


def test_another_thread_of_the_same_process_does_not_get_it(place: Path) -> None:
    found = []
    with exclusive(place) as taken:
        thread = threading.Thread(target=lambda: found.append(is_free(place)))
        thread.start()
        thread.join()
    assert (taken, found, is_free(place)) == (True, [False], True)


def test_a_killed_process_gives_it_back(place: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "taken\n"
        assert not is_free(place)
        process.kill()
        process.wait()
        assert is_free(place)
