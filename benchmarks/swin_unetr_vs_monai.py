"""Our Swin UNETR and MONAI's side by side in one process: time ratios and peak memory.

    python benchmarks/swin_unetr_vs_monai.py [--size 64] [--rounds 5] [--device cpu] [--bf16] [--json FILE]

Three networks take turns: MONAI's (on a GPU with its flash attention); ours with the same weights and the same windows
of 7, padded where they do not divide; ours with the windows a plan for this patch would have. Times are medians of the
runs, ratios medians over the rounds. Peak memory is that of a training step in a process of its own, on a CPU with
glibc's malloc as it is and tuned (`measure.TUNED_MALLOC`); times are for the malloc the script is started with. The
machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import monai
import torch
from measure import TUNED_MALLOC, alternate, inference, paired_ratio, peak_mib, provenance, training_step
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR
from torch import nn
from tqdm import tqdm

from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.planning.windows import choose_windows
from nnunet_transformers.weights.monai import load_monai_swin_unetr

warnings.filterwarnings("ignore")

STRIDES = [(1, 1, 1)] + [(2, 2, 2)] * 5
MONAI, SAME_WINDOWS, PLANNED_WINDOWS = "MONAI", "ours, windows of 7", "ours, windows of the plan"
NETWORKS = (MONAI, SAME_WINDOWS, PLANNED_WINDOWS)
FP32, BF16 = torch.float32, torch.bfloat16


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


def build(name: str, size: int, device: torch.device, encoder_only: bool, load_weights: bool = True) -> nn.Module:
    torch.manual_seed(0)
    if name == PLANNED_WINDOWS:
        network: nn.Module = our_network(choose_windows((size,) * 3, (1, 1, 1), STRIDES)[1:-1])
    elif name == SAME_WINDOWS:
        network = our_network(7)
        if load_weights:
            load_monai_swin_unetr(network, build(MONAI, size, device, encoder_only=False).state_dict())
    else:
        network = MonaiSwinUNETR(1, 2, feature_size=48, use_flash_attention=device.type == "cuda")
    if encoder_only:
        network = network.encoder if isinstance(network, SwinUNETR) else network.swinViT
    return network.to(device)


def image(size: int, batch: int, device: torch.device) -> torch.Tensor:
    return torch.randn(batch, 1, size, size, size, device=device)


def prepare_step(
    name: str, size: int, batch: int, device: torch.device, dtype: torch.dtype, encoder_only: bool
) -> Callable[[], None]:
    # Without loading: memory that MONAI's network left behind would serve the step, and hide what it needs.
    network = build(name, size, device, encoder_only, load_weights=False)
    return partial(training_step, network, image(size, batch, device), dtype)


# What is timed: name, run, whether of the encoder only, type under autocast.
CASES = [
    ("encoder, forward", inference, True, FP32),
    ("encoder, forward and backward", training_step, True, FP32),
    ("whole network, forward", inference, False, FP32),
    ("whole network, forward and backward", training_step, False, FP32),
]
BF16_CASES = [
    ("whole network, forward, bf16", inference, False, BF16),
    ("whole network, forward and backward, bf16", training_step, False, BF16),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="edge of the cubic patch, a multiple of 32 (default 64)")
    parser.add_argument("--batch", type=int, default=1, help="samples (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each network and case (default 5)")
    parser.add_argument("--threads", type=int, default=2, help="threads on a CPU (default 2)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda (default cpu)")
    parser.add_argument("--bf16", action="store_true", help="bf16 too; slow on a CPU without its instructions")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = arguments.device

    result = provenance(device, arguments.threads)
    result["versions"]["monai"] = monai.__version__
    result |= {"patch": [arguments.size] * 3, "batch": arguments.batch, "width": 48, "cases": {}, "peak MiB": {}}
    print(f"{'':58} {'MONAI':>11} {'windows of 7':>20} {'windows of the plan':>20}")
    cases = CASES + BF16_CASES if arguments.bf16 else CASES
    for title, run, encoder_only, dtype in tqdm(cases, unit="case", disable=None):
        x = image(arguments.size, arguments.batch, device)
        networks = {name: build(name, arguments.size, device, encoder_only) for name in NETWORKS}
        times = alternate(
            {name: partial(run, network, x, dtype) for name, network in networks.items()}, arguments.rounds, device
        )
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratios = {name: paired_ratio(times[MONAI], times[name]) for name in NETWORKS[1:]}
        result["cases"][title] = {"seconds": medians, "times as fast as MONAI": ratios}
        columns = [f"{medians[name]:.3f} s ({ratios[name]:.2f}x)" for name in ratios]
        print(f"{title:58} {medians[MONAI]:9.3f} s {columns[0]:>20} {columns[1]:>20}", flush=True)

    environments = {"": {}} if device.type == "cuda" else {", malloc as it is": {}, ", malloc tuned": TUNED_MALLOC}
    for part, encoder_only in (("encoder", True), ("whole network", False)):
        for suffix, environment in environments.items():
            title = f"peak memory of a training step, {part}{suffix}"
            step = (arguments.size, arguments.batch, device, FP32, encoder_only)
            peak = {name: peak_mib(prepare_step, (name, *step), device, environment) for name in NETWORKS}
            result["peak MiB"][title] = peak
            columns = [f"{peak[name]:.0f} MiB ({peak[name] / peak[MONAI]:.2f}x)" for name in NETWORKS[1:]]
            print(f"{title:58} {peak[MONAI]:7.0f} MiB {columns[0]:>20} {columns[1]:>20}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
        print(arguments.json)


if __name__ == "__main__":
    main()
