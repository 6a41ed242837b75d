"""How long a conversion takes beside the naive way and beside merely reading the files.

    python benchmarks/conversion.py PHANTOM/ATLAS_2 [--rounds 3] [--jobs 2] [--json FILE]

PHANTOM is made by `nnunet-transformers phantom PHANTOM --subjects 60`. Five ways take turns on the same cases, whose
files are in the page cache:

    naive      nibabel: load, get_fdata, save, image by image, as most scripts do
    inflate    inflate each file, check its CRC, hash it; nothing is looked at and nothing written
    convert    convert, where every file can stay as it is
    quick      the same with headers and masks only (--quick)
    rewrite    convert, where every file must be rewritten (the same images stored left-anterior-superior)

Ratios are medians over the rounds of naive over the way, and of convert over inflate.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import torch
from isal import isal_zlib
from measure import paired_ratio, provenance
from tqdm import tqdm

from dataset_conversion import nifti
from dataset_conversion.convert import convert


def files_of(source: Path) -> list[Path]:
    return sorted(source.rglob("*.nii.gz"))


def naive(source: Path, out: Path) -> None:
    for path in files_of(source):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(image.get_fdata(), image.affine), out / path.name)


def inflate(source: Path, jobs: int) -> None:
    def one(path: Path) -> None:
        stored = path.read_bytes()
        isal_zlib.decompress(stored, 31, int.from_bytes(stored[-4:], "little"))
        hashlib.sha256(stored).digest()

    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(one, files_of(source)))


def converted(source: Path, out: Path, jobs: int, quick: bool = False) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        convert(source, dataset_id=201, raw_folder=out, jobs=jobs, quick=quick)


def flipped_copy(source: Path, destination: Path) -> None:
    """The same images with the first axis pointing left."""
    for path in files_of(source):
        volume = nifti.read(path)
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (volume.data.shape[0] - 1)
        affine[:3, 0] *= -1
        target = destination / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        nifti.write(target, volume.data[::-1], nifti.grid_header(affine, volume.header.code))


def timed(run: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run(Path(folder))
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="ATLAS_2 of a phantom")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    source, jobs = arguments.source, arguments.jobs
    n_cases = len(list(source.rglob("*_T1w.nii.gz")))

    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        turned = Path(folder) / "ATLAS_2"
        flipped_copy(source, turned)
        ways: dict[str, Callable[[Path], None]] = {
            "naive": lambda out: naive(source, out),
            "inflate": lambda out: inflate(source, jobs),
            "convert": lambda out: converted(source, out, jobs),
            "quick": lambda out: converted(source, out, jobs, quick=True),
            "rewrite": lambda out: converted(turned, out, jobs),
        }
        inflate(source, jobs)  # into the page cache
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in tqdm(range(arguments.rounds), unit="round", disable=None):
            for name, run in ways.items():
                times[name].append(timed(run))
        shutil.rmtree(turned)

    def ratio(slow: str, fast: str) -> float:
        return paired_ratio(times[slow], times[fast])

    seconds = {name: statistics.median(values) for name, values in times.items()}
    result = provenance(torch.device("cpu"), jobs) | {
        "cases": n_cases,
        "seconds": seconds,
        "times as fast as naive": {name: ratio("naive", name) for name in ("convert", "quick", "rewrite")},
        "convert over inflate": ratio("convert", "inflate"),
        "peak MiB of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in seconds.items():
        print(f"{name:8} {value:8.2f} s  {1000 * value / n_cases:7.1f} ms per case  {ratio('naive', name):6.1f}x")
    print(f"convert takes {result['convert over inflate']:.2f} times as long as inflate")
    print(f"peak memory {result['peak MiB of the process']:.0f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
