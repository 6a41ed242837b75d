"""Ctrl-C at any moment ends the command with exit code 130 and no traceback, and the same command goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.atlas_tree import AtlasTree, lesion

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

# Some moments are too short to be hit from outside: an import, the start of the threads, the new name, the exit.
INTERRUPTED = """
import os, runpy, signal, sys, threading
from pathlib import Path

module, moment = sys.argv.pop(1), sys.argv.pop(1)

def interrupt(this):
    if moment == this:
        os.kill(os.getpid(), signal.SIGINT)

class Finder:
    def find_spec(name, *_):
        interrupt(f"import {name}")

def renamed(path, target, rename=Path.rename):
    interrupt("before the new name")
    rename(path, target)
    interrupt("after the new name")

def started(thread, start=threading.Thread.start):
    start(thread)
    interrupt("threads")

def ended(shutdown=threading._shutdown):
    interrupt("exit")
    shutdown()

sys.meta_path.insert(0, Finder)
Path.rename, threading.Thread.start, threading._shutdown = renamed, started, ended
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
MOMENTS = (
    *("import nnunet_transformers.common.command_line", "import numpy", "import SimpleITK", "threads"),
    *("before the new name", "after the new name", "exit"),
)


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """What tests run in the background of a shell ignore, the programs that they start ignore too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def different(folder: Path, whole: dict[str, bytes]) -> list[str]:
    """Names of files that are not as they should be."""
    found = content(folder)
    return [name for name in sorted(found.keys() | whole.keys()) if found.get(name) != whole.get(name)]


@pytest.fixture
def arguments(tree: AtlasTree) -> list[str]:
    for number in range(12):
        subject = f"r00{number % 3 + 1}s{number:03d}"
        tree.add_image(subject)
        tree.add_mask(subject, data=lesion(subject) * np.uint8(255 if number % 2 else 1))
    return ["convert", "atlas", str(tree.root), "--dataset-id", "201", "--jobs", "2"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["dataset_conversion", "nnunet_transformers"])
def test_at_moments_that_are_hard_to_hit(module: str, arguments: list[str], raw: Path) -> None:
    target = raw / "Dataset201_ATLAS"
    assert run("-m", module, *arguments).returncode == 0
    whole = content(target)
    shutil.rmtree(target)
    for moment in MOMENTS if module == "dataset_conversion" else MOMENTS[::6]:
        stopped = run("-c", INTERRUPTED, module, moment, *arguments)
        assert (stopped.returncode, "Traceback" in stopped.stderr) == (130, False), (moment, stopped.stderr)
        assert "ignored" not in stopped.stderr
        assert stopped.stderr.endswith("Interrupted.\n")
        assert ("goes on from here; to give up, delete" in stopped.stderr) == (raw / f".{target.name}.partial").exists()
        if moment in ("after the new name", "exit"):
            assert different(target, whole) == []
            shutil.rmtree(target)
    assert run("-m", module, *arguments).returncode == 0
    assert different(target, whole) == []


def test_whenever_once_or_twice(arguments: list[str], raw: Path) -> None:
    command, target = ["-m", "dataset_conversion", *arguments], raw / "Dataset201_ATLAS"
    start = time.monotonic()
    assert run(*command).returncode == 0
    duration = time.monotonic() - start
    whole = content(target)
    shutil.rmtree(target)
    for part in (0.3, 0.6, 0.9):
        with subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True) as process:
            for pause in (part * duration, 0.05):
                time.sleep(pause)
                process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=120)
        assert process.returncode == 130 or target.exists(), told
        assert "Traceback" not in told
        assert "ignored" not in told
    if not target.exists():
        assert run(*command).returncode == 0
    assert different(target, whole) == []
