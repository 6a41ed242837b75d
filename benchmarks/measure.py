"""Time and peak memory of networks, side by side: what the benchmark scripts share."""

from __future__ import annotations

import datetime
import gc
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# glibc then keeps freed memory instead of giving it back to the kernel, as PyTorch's allocator does on a GPU.
TUNED_MALLOC = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
}


def provenance(device: torch.device, threads: int) -> dict[str, Any]:
    """Where and when, for a result file."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_cpu_name()}, {threads} threads"
    tuned = all(os.environ.get(name) == value for name, value in TUNED_MALLOC.items())
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "malloc": "tuned" if tuned else "default",
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def alternate(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run, taking turns; a first round of warm-up is left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return {name: values[1:] for name, values in times.items()}


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired_ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def training_step(network: Callable[[Tensor], Any], x: Tensor, dtype: torch.dtype) -> None:
    """Forward and backward of the mean square of all that comes out; gradients are dropped."""
    with autocast(x.device, dtype):
        out = network(x)
    outputs = out if isinstance(out, (list, tuple)) else [out]
    torch.stack([o.float().square().mean() for o in outputs]).sum().backward()
    if isinstance(network, nn.Module):
        network.zero_grad(set_to_none=True)


def inference(network: Callable[[Tensor], Any], x: Tensor, dtype: torch.dtype) -> None:
    with torch.no_grad(), autocast(x.device, dtype):
        network(x)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def peak_mib(
    prepare: Callable[..., Callable[[], object]], arguments: tuple, device: torch.device, environment: Mapping[str, str]
) -> float:
    """Growth of memory in MiB while a run goes on, in a process of its own: GPU memory, or the resident set on a CPU.

    Args:
        prepare: module-level function that builds what is needed and returns the run.
        arguments: of prepare.
        device: where it runs.
        environment: variables of the process, such as TUNED_MALLOC; a variable of that set that is not given is unset.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_peak, args=(sender, prepare, arguments, str(device)))
    before = dict(os.environ)
    for name in TUNED_MALLOC:
        os.environ.pop(name, None)
    os.environ.update(environment, OMP_NUM_THREADS=str(torch.get_num_threads()))
    try:
        process.start()  # takes the environment as it is now
    finally:
        os.environ.clear()
        os.environ.update(before)
    value = receiver.recv()
    process.join()
    return value


def _measure_peak(pipe: Connection, prepare: Callable[..., Callable[[], object]], arguments: tuple, name: str) -> None:
    device = torch.device(name)
    run = prepare(*arguments)
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        pipe.send((torch.cuda.max_memory_allocated(device) - before) / 2**20)
        return
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    run()
    pipe.send(_resident_mib("VmHWM") - before)


def _resident_mib(field: str) -> float:
    """VmRSS, the resident set, or VmHWM, its peak, of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
