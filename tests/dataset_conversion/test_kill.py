"""A conversion killed at any moment goes on from there, and ends as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.atlas_tree import AtlasTree, lesion

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be forked on Windows")

# Forks instead of starting anew, so that the kills fall into the conversion and not into the imports before it.
# tqdm's default lock is a semaphore that forked processes share: a child killed while it holds it would block its
# parent for ever, so each child has its own.
KILLER = """
import os, random, shutil, signal, sys, threading, time
from pathlib import Path
from tqdm import tqdm
from dataset_conversion.convert import convert
from dataset_conversion.options import ConvertOptions, Target, Work

source, raw, whole = map(Path, sys.argv[1:])
target = raw / "Dataset201_ATLAS"

def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

def run():
    return convert(source, "atlas", Target(201, "ATLAS", raw), ConvertOptions(work=Work(jobs=2)))

convert(source, "atlas", Target(201, "ATLAS", whole.parent), ConvertOptions(work=Work(jobs=2)))
expected = content(whole)
start = time.monotonic()
run()
duration = time.monotonic() - start
shutil.rmtree(target)
moments = random.Random(0)
killed = 0
while killed < 20:
    child = os.fork()
    if not child:
        tqdm.set_lock(threading.RLock())
        run()
        os._exit(0)
    time.sleep(moments.uniform(0, duration))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if target.exists():
        assert content(target) == expected, "a folder that is not complete"
        shutil.rmtree(target)
    elif killed % 2:
        run()
        assert content(target) == expected, "another result after a kill"
        assert os.listdir(raw) == [target.name], "something left behind"
        shutil.rmtree(target)
print("killed", killed)
"""


def test_killed_at_twenty_random_moments_the_result_is_that_of_an_uninterrupted_run(tree: AtlasTree, raw: Path) -> None:
    tree.add(*(f"r00{number % 3 + 1}s{number:03d}" for number in range(20)))
    for number in range(0, 20, 3):
        subject = f"r00{number % 3 + 1}s{number:03d}"
        tree.add_mask(subject, data=lesion(subject) * np.uint8(255))
    whole = raw.parent / "whole" / "Dataset201_ATLAS"
    command = [sys.executable, "-W", "ignore", "-c", KILLER, str(tree.root), str(raw), str(whole)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout == "killed 20\n"
