"""How long the conversion of data as many as ATLAS R3.0 takes: 1453 sessions at 1 mm.

    python benchmarks/conversion_at_scale.py PHANTOM/ATLAS_2 [--sessions 1453 655] [--rounds 2] [--json FILE]

PHANTOM is made by `nnunet-transformers phantom PHANTOM --subjects 20`. Its subjects are multiplied in a folder beside
it: each session is one of them with other grey levels, moved by some voxels and with a part of its lesion left out, so
that no two are equal. A session takes 5 MB there; at the end they are removed. Then take turns, each the whole command
in a process of its own with all files in the page cache:

    convert     python -m dataset_conversion convert atlas, with all its checks, pictures and the page
    alone       the same without comparing cases with one another (no thumbnails, no search for equal images and masks)

With --native every volume has 176 × 256 × 256 voxels, a third of the images as float32.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import provenance
from tqdm import tqdm

from nnunet_transformers.common.volumes import nifti

NATIVE = (176, 256, 256)
SITES = 33
COMMAND = {
    "convert": "",
    "alone": "from dataset_conversion.checks import across, file; file.thumbnail = lambda _: ''; "
    "across._duplicates = across._same_up_to_scale = lambda *_: []; ",
}
# The peak that wait4 tells is at least that of this process, from which the other is forked.
RUN = (
    "import atexit, runpy; atexit.register(lambda: print(open('/proc/self/status').read())); "
    "runpy.run_module('dataset_conversion', run_name='__main__', alter_sys=True)"
)


class Cost(NamedTuple):
    """Of a process: wall-clock and processor time in seconds, peak of the resident set in MiB."""

    wall: float
    cpu: float
    peak: float


def multiply(source: Path, destination: Path, sessions: int, native: bool) -> None:
    """Write sessions made of those of a phantom, each to a folder of its number."""
    images = sorted(source.rglob("*_T1w.nii.gz"))
    bases = []
    for path in images:
        [mask] = path.parent.glob("*_mask.nii.gz")
        bases.append((nifti.read(path), nifti.read(mask).data != 0))

    def write(number: int) -> None:
        (image, lesion), nth = bases[number % len(bases)], number // len(bases)
        draw = np.random.default_rng(number)
        grey = np.arange(int(image.data.max()) + 1, dtype=np.float32)
        levels = draw.uniform(300, 1500) * (grey / grey[-1]) ** draw.uniform(0.8, 1.2)
        if not native or number % 3:
            levels = levels.round().astype(np.int16)
        data, mask = image.data, lesion.view(np.uint8)
        for axis, step in enumerate((nth % 10 - 5, nth // 10 % 10 - 5, nth // 100)):  # no two the same
            size = data.shape[axis]
            where = (np.arange(NATIVE[axis] if native else size) + step) % size
            data, mask = data.take(where, axis), mask.take(where, axis)
        voxels = np.flatnonzero(mask)
        mask.flat[voxels[: max(0, min(nth, len(voxels) - 20))]] = 0
        subject = f"sub-r{number % SITES + 1:03d}s{number // SITES + 1:03d}"
        folder = destination / f"{number:04d}" / subject / "ses-1" / "anat"
        folder.mkdir(parents=True)
        stem = f"{subject}_ses-1_space-MNI152NLin2009aSym"
        paths = folder / f"{stem}_T1w.nii.gz", folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz"
        for path, values in zip(paths, (levels.take(data), mask), strict=True):
            nifti.write(path, values, nifti.grid_header(image.affine, image.header.code))

    with ThreadPoolExecutor(2) as threads:
        list(tqdm(threads.map(write, range(sessions)), "multiplying", sessions, unit="session", disable=None))


def converted(way: str, source: Path, jobs: int, sessions: int) -> Cost:
    """What a conversion of so many cases costs, its start included."""
    with tempfile.TemporaryDirectory(dir=source.parent) as raw, tempfile.TemporaryFile() as output:
        arguments = ["convert", "atlas", str(source), "--dataset-id", "201", "--raw-folder", raw, "--jobs", str(jobs)]
        start = time.perf_counter()
        command = [sys.executable, "-c", COMMAND[way] + RUN, *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        output.seek(0)
        told = output.read().decode()
        assert status == 0, told
        assert f"{sessions} training and 0 test cases" in told
        peak = int(re.search(r"VmHWM:\s*(\d+) kB", told)[1]) / 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="ATLAS_2 of a phantom")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1453, 655], help="default: 1453 and 655")
    parser.add_argument("--native", action="store_true", help="volumes as large as unprocessed scans")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each way (default 2)")
    parser.add_argument("--jobs", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    result = provenance(torch.device("cpu"), arguments.jobs)
    with tempfile.TemporaryDirectory(dir=arguments.source.parent) as folder:
        everything = Path(folder) / "everything"
        multiply(arguments.source, everything, max(arguments.sessions), arguments.native)
        for sessions in arguments.sessions:
            source = Path(folder) / f"{sessions}" / "Training"
            source.mkdir(parents=True)
            for number in range(sessions):
                (source / f"{number:04d}").symlink_to(everything / f"{number:04d}")
            stored = [len(path.read_bytes()) for path in everything.rglob("*.nii.gz")]  # into the page cache
            costs: dict[str, list[Cost]] = {way: [] for way in COMMAND}
            for _ in range(arguments.rounds):
                for way in COMMAND:
                    costs[way].append(converted(way, source, arguments.jobs, sessions))
                    print(f"{sessions} sessions, {way}: {costs[way][-1]}", flush=True)
            shares = [1 - alone.cpu / whole.cpu for whole, alone in zip(costs["convert"], costs["alone"], strict=True)]
            result[f"{sessions} sessions"] = {
                "GB": sum(stored) / len(stored) * 2 * sessions / 1e9,
                **{way: [cost._asdict() for cost in each] for way, each in costs.items()},
                "share of comparing cases": statistics.median(shares),
            }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
