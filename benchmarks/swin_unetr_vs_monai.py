"""Our Swin UNETR and MONAI's side by side in one process: time ratios and peak memory, on the CPU.

    python benchmarks/swin_unetr_vs_monai.py [--size 64] [--pairs 5] [--threads 2] [--json FILE]

Three networks take turns: MONAI's; ours with the same weights and the same windows of 7, padded where they do not
divide; ours with the windows a plan for this patch would have. Times are medians of the runs, ratios medians over the
pairs. Peak memory is the growth of the resident set in a training step of a process of its own. The machine should be
idle.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import monai
import torch
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR
from torch import Tensor, nn
from tqdm import tqdm

from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.planning.windows import choose_windows
from nnunet_transformers.weights.monai import load_monai_swin_unetr

warnings.filterwarnings("ignore")

STRIDES = [(1, 1, 1)] + [(2, 2, 2)] * 5
MONAI, SAME_WINDOWS, PLANNED_WINDOWS = "MONAI", "ours, windows of 7", "ours, windows of the plan"


def our_network(window_sizes: object) -> SwinUNETR:
    return SwinUNETR(
        input_channels=1,
        n_stages=6,
        features_per_stage=32,
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=STRIDES,
        n_blocks_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        norm_op=nn.InstanceNorm3d,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        window_sizes=window_sizes,
    )


def build(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    if name == PLANNED_WINDOWS:
        return our_network(choose_windows((size,) * 3, (1, 1, 1), STRIDES)[1:-1])
    reference = MonaiSwinUNETR(1, 2, feature_size=48)
    if name == MONAI:
        return reference
    network = our_network(7)
    load_monai_swin_unetr(network, reference.state_dict())
    return network


def encode(network: nn.Module, x: Tensor) -> list[Tensor]:
    return network.encoder(x) if isinstance(network, SwinUNETR) else network.swinViT(x)


def encoder_forward(network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        encode(network, x)


def encoder_training(network: nn.Module, x: Tensor) -> None:
    sum(h.square().mean() for h in encode(network, x)).backward()


def whole_forward(network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        network(x)


def whole_training(network: nn.Module, x: Tensor) -> None:
    network(x).square().mean().backward()


CASES: dict[str, Callable[[nn.Module, Tensor], None]] = {
    "encoder, forward": encoder_forward,
    "encoder, forward and backward": encoder_training,
    "whole network, forward": whole_forward,
    "whole network, forward and backward": whole_training,
}


def seconds(case: Callable[[nn.Module, Tensor], None], network: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    case(network, x)
    elapsed = time.perf_counter() - start
    network.zero_grad(set_to_none=True)
    return elapsed


def time_case(case: Callable[[nn.Module, Tensor], None], size: int, pairs: int) -> dict[str, list[float]]:
    """Seconds of each run, network by network; the first of each is a warm-up and left out."""
    x = torch.randn(1, 1, size, size, size)
    candidates = {name: build(name, size) for name in (MONAI, SAME_WINDOWS, PLANNED_WINDOWS)}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(pairs + 1):
        for name, network in candidates.items():
            times[name].append(seconds(case, network, x))
    return {name: runs[1:] for name, runs in times.items()}


def peak_memory(name: str, size: int, threads: int, pipe: multiprocessing.connection.Connection) -> None:
    """Send the growth of the resident set, in MiB, over a training step; run in a new process."""
    torch.set_num_threads(threads)
    network = build(name, size)
    x = torch.randn(1, 1, size, size, size)
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    whole_training(network, x)
    pipe.send(resident_mib("VmHWM") - before)


def resident_mib(field: str) -> float:
    """VmRSS, the resident set, or VmHWM, its peak, of this process; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure_peak_memory(name: str, size: int, threads: int) -> float:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=peak_memory, args=(name, size, threads, sender))
    process.start()
    value = receiver.recv()
    process.join()
    return value


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="edge of the cubic patch, a multiple of 32 (default 64)")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each network and case (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    result: dict = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu_name()}, {arguments.threads} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__},
        "patch": [arguments.size] * 3,
        "settings": "width 48, batch 1, fp32, default malloc",
        "cases": {},
    }
    print(f"{'':36} {'MONAI':>9} {'windows of 7':>20} {'windows of the plan':>20}")
    for name, case in tqdm(CASES.items(), unit="case", disable=None):
        times = time_case(case, arguments.size, arguments.pairs)
        ratios = {
            ours: statistics.median(a / b for a, b in zip(times[MONAI], times[ours], strict=True))
            for ours in (SAME_WINDOWS, PLANNED_WINDOWS)
        }
        medians = {network: statistics.median(runs) for network, runs in times.items()}
        result["cases"][name] = {"seconds": medians, "times as fast as MONAI": ratios}
        columns = [f"{medians[ours]:.2f} s ({ratios[ours]:.2f}x)" for ours in ratios]
        print(f"{name:36} {medians[MONAI]:7.2f} s {columns[0]:>20} {columns[1]:>20}", flush=True)
    memory = {
        name: measure_peak_memory(name, arguments.size, arguments.threads)
        for name in (MONAI, SAME_WINDOWS, PLANNED_WINDOWS)
    }
    result["peak MiB of a training step"] = memory
    columns = [f"{memory[ours]:.0f} MiB ({memory[ours] / memory[MONAI]:.2f}x)" for ours in memory if ours != MONAI]
    print(f"{'peak memory of a training step':36} {memory[MONAI]:5.0f} MiB {columns[0]:>20} {columns[1]:>20}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
        print(arguments.json)


if __name__ == "__main__":
    main()
