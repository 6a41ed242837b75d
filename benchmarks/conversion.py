"""How long a conversion takes beside the naive way and beside merely reading the files.

    python benchmarks/conversion.py PHANTOM/ATLAS_2 [--rounds 3] [--jobs 2] [--json FILE]

PHANTOM is made by `nnunet-transformers phantom PHANTOM --subjects 60`. Five ways take turns on the same cases, whose
files are in the page cache, each in a process of its own:

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
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import nibabel as nib
import torch
from isal import isal_zlib
from measure import paired_ratio, provenance
from tqdm import tqdm

from dataset_conversion.convert import convert
from dataset_conversion.memory import keep_freed_memory
from dataset_conversion.options import Checks, ConvertOptions, Target, Work
from nnunet_transformers.common.volumes import nifti

WAYS = ("naive", "inflate", "convert", "quick", "rewrite")


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
        options = ConvertOptions(checks=Checks(quick=quick), work=Work(jobs=jobs))
        convert(source, "atlas", Target(201, "ATLAS", out), options)


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


def run_way(way: str, source: str, turned: str, out: str, jobs: int) -> None:
    """One way, in the process that is given to it."""
    if way == "naive":
        naive(Path(source), Path(out))
    elif way == "inflate":
        inflate(Path(source), jobs)
    else:
        keep_freed_memory()  # as the command does
        converted(Path(turned if way == "rewrite" else source), Path(out), jobs, quick=way == "quick")


def timed(way: str, source: Path, turned: Path, jobs: int) -> tuple[float, float]:
    """Seconds and peak MiB of one way in a process of its own, without its start."""
    reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as out:
        arguments = (writer, way, str(source), str(turned), out, jobs)
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=arguments)
        process.start()
        writer.close()
        result = reader.recv()
        process.join()
    return result


def _measure(writer: Connection, way: str, source: str, turned: str, out: str, jobs: int) -> None:
    start = time.perf_counter()
    run_way(way, source, turned, out, jobs)
    seconds = time.perf_counter() - start
    writer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="ATLAS_2 of a phantom")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    source, jobs = arguments.source, arguments.jobs
    n_cases = len(list(source.rglob("*_T1w.nii.gz")))
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    peaks: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        turned = Path(folder) / "ATLAS_2"
        flipped_copy(source, turned)
        inflate(source, jobs)  # into the page cache
        for _ in tqdm(range(arguments.rounds), unit="round", disable=None):
            for way in WAYS:
                seconds, peak = timed(way, source, turned, jobs)
                times[way].append(seconds)
                peaks[way].append(peak)

    medians = {way: statistics.median(values) for way, values in times.items()}
    ratios = {way: paired_ratio(times["naive"], times[way]) for way in WAYS}
    over_inflate = paired_ratio(times["convert"], times["inflate"])
    result = provenance(torch.device("cpu"), jobs) | {
        "cases": n_cases,
        "seconds": medians,
        "times as fast as naive": ratios,
        "convert over inflate": over_inflate,
        "peak MiB": {way: max(values) for way, values in peaks.items()},
    }
    for way, seconds in medians.items():
        per_case = 1000 * seconds / n_cases
        print(f"{way:8} {seconds:7.2f} s  {per_case:6.1f} ms per case  {ratios[way]:5.1f}x  {max(peaks[way]):5.0f} MiB")
    print(f"convert takes {over_inflate:.2f} times as long as inflate")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
