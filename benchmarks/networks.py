"""Every registered network beside nnU-Net's PlainConvUNet, and beside MONAI's where MONAI has it.

    python benchmarks/networks.py [--size 64] [--batch 1] [--device cpu] [--dtype fp32] [--compile] [--json FILE]

Time of forward and backward with deep supervision, in turns within one process, and peak memory of that step in a
process of its own. "Floor" is the stem on the image and the decoder on maps like those it is given, forward and
backward: what a network would cost if its Transformer and all else between the two were free; a decoder that holds
Transformer blocks counts them. MONAI's network (on a GPU with its flash attention) takes turns with ours at MONAI's
settings and weights, without deep supervision. The plan is nnU-Net's for 128^3 at 1 mm: six stages of stride 2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import monai.networks.nets as monai_nets
import torch
from measure import alternate, autocast, paired_ratio, peak_mib, provenance, training_step
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_transformers.networks.planned_network import PlannedNetwork
from nnunet_transformers.planning.network_arguments import network_arguments
from nnunet_transformers.training.registry import registry
from nnunet_transformers.weights.monai import load_monai_swin_unetr, load_monai_unetr

warnings.filterwarnings("ignore")

N_STAGES = 6
BASELINE = "PlainConvUNet"
NETWORKS = {entry.network.__name__: entry.network for entry in registry()}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def configuration(size: int) -> dict[str, Any]:
    """nnU-Net's configuration for cubes at 1 mm."""
    return {
        "patch_size": [size] * 3,
        "spacing": [1.0] * 3,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": N_STAGES,
                "features_per_stage": [32, 64, 128, 256, 320, 320],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3] * 3] * N_STAGES,
                "strides": [[1] * 3, *[[2] * 3] * (N_STAGES - 1)],
                "n_conv_per_stage": [2] * N_STAGES,
                "n_conv_per_stage_decoder": [2] * (N_STAGES - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
        },
    }


def build(name: str, size: int, device: torch.device, compiled: bool = False, **changed: Any) -> Any:
    """A network from the plan, as nnU-Net builds it."""
    torch.manual_seed(0)
    planned = configuration(size)["architecture"]
    dotted, arguments, to_import = (
        planned[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    )
    if name != BASELINE:
        dotted = f"{NETWORKS[name].__module__}.{name}"
        arguments, to_import = network_arguments(NETWORKS[name], configuration(size))
    network = get_network_from_plans(dotted, {"deep_supervision": True, **arguments, **changed}, to_import, 1, 2)
    return torch.compile(network.to(device)) if compiled else network.to(device)


def with_monais_weights(name: str, size: int, device: torch.device) -> tuple[nn.Module, nn.Module] | None:
    """MONAI's network and ours with its settings and weights, where MONAI has it."""
    settings = {"conv_bias": False, "norm_op_kwargs": {"affine": False}, "deep_supervision": False}
    if name == "UNETR":
        reference: nn.Module = monai_nets.UNETR(1, 2, size)
        ours = build(name, size, device, **settings)
        load_monai_unetr(ours, reference.state_dict())
    elif name in ("SwinUNETR", "SwinUNETRV2"):
        flash, second = device.type == "cuda", name == "SwinUNETRV2"
        reference = monai_nets.SwinUNETR(1, 2, feature_size=48, use_v2=second, use_flash_attention=flash)
        ours = build(name, size, device, window_sizes=7, **settings)
        load_monai_swin_unetr(ours, reference.state_dict())
    else:
        return None
    return reference.to(device), ours


class Floor:
    """Stem and decoder of a network alone, on inputs recorded from one pass."""

    def __init__(self, network: PlannedNetwork, x: Tensor, dtype: torch.dtype) -> None:
        self.stem, self.decoder = network.get_submodule(network.key_to_stem), network.decoder
        self.inputs: dict[nn.Module, Any] = {}

        def record(module: nn.Module, inputs: tuple) -> None:
            self.inputs[module] = inputs

        handles = [module.register_forward_pre_hook(record) for module in (self.stem, self.decoder)]
        with torch.no_grad(), autocast(x.device, dtype):
            network(x)
        for handle in handles:
            handle.remove()

    def __call__(self, _: Tensor) -> list[Tensor]:
        (image,), (maps,) = self.inputs[self.stem], self.inputs[self.decoder]
        stem = self.stem(image)
        logits = self.decoder([m.detach().requires_grad_() for m in maps])
        return [*(stem if isinstance(stem, (list, tuple)) else [stem]), *logits]


def prepare_step(name: str, size: int, batch: int, device: torch.device, dtype: torch.dtype, compiled: bool) -> Any:
    x = torch.randn(batch, 1, size, size, size, device=device)
    step = partial(training_step, build(name, size, device, compiled), x, dtype)
    if device.type == "cuda":
        step()  # compiles, and lets cuDNN choose its algorithms
    return step


def measure(
    name: str, size: int, batch: int, rounds: int, device: torch.device, dtype: torch.dtype, compiled: bool
) -> dict[str, Any]:
    """One row: parameters, seconds, and ratios of seconds."""
    x = torch.randn(batch, 1, size, size, size, device=device)
    network = build(name, size, device)
    candidates = {
        "ours": torch.compile(network) if compiled else network,
        BASELINE: build(BASELINE, size, device, compiled),
        "floor": Floor(network, x, dtype),
    }
    if (pair := with_monais_weights(name, size, device)) is not None:
        candidates["MONAI"], candidates["ours, MONAI's weights"] = pair
    times = alternate({label: partial(training_step, c, x, dtype) for label, c in candidates.items()}, rounds, device)
    row = {
        "parameters, millions": sum(p.numel() for p in network.parameters()) / 1e6,
        "seconds": {label: statistics.median(values) for label, values in times.items()},
        f"time over {BASELINE}": paired_ratio(times["ours"], times[BASELINE]),
        "time over floor": paired_ratio(times["ours"], times["floor"]),
    }
    if pair is not None:
        row["times as fast as MONAI"] = paired_ratio(times["MONAI"], times["ours, MONAI's weights"])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="default: all")
    parser.add_argument("--size", type=int, default=64, help="edge of the cubic patch, a multiple of 32 (default 64)")
    parser.add_argument("--batch", type=int, default=1, help="samples (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each network (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads on a CPU (default 2)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda (default cpu)")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32", help="under autocast (default fp32)")
    parser.add_argument("--compile", action="store_true", help="ours and the baseline through torch.compile")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device, dtype = arguments.device, DTYPES[arguments.dtype]

    settings = (arguments.size, arguments.batch, device, dtype, arguments.compile)
    baseline_mib = peak_mib(prepare_step, (BASELINE, *settings), device, {})
    result = provenance(device, arguments.threads) | {
        "patch": [arguments.size] * 3,
        "batch": arguments.batch,
        "dtype": arguments.dtype,
        "compiled": arguments.compile,
        f"peak MiB of {BASELINE}": baseline_mib,
        "networks": {},
    }
    columns = ["parameters", "seconds", f"/ {BASELINE}", "/ floor", "MONAI /", "peak MiB", f"/ {BASELINE}"]
    print(f"{'forward and backward':20} " + " ".join(f"{column:>16}" for column in columns))
    for name in arguments.networks:
        row = measure(name, arguments.size, arguments.batch, arguments.rounds, device, dtype, arguments.compile)
        row["peak MiB"] = peak_mib(prepare_step, (name, *settings), device, {})
        row[f"peak memory over {BASELINE}"] = row["peak MiB"] / baseline_mib
        result["networks"][name] = row
        values = [
            f"{row['parameters, millions']:.1f} M",
            f"{row['seconds']['ours']:.3f}",
            f"{row[f'time over {BASELINE}']:.2f}",
            f"{row['time over floor']:.2f}",
            f"{row['times as fast as MONAI']:.2f}" if "times as fast as MONAI" in row else "",
            f"{row['peak MiB']:.0f}",
            f"{row[f'peak memory over {BASELINE}']:.2f}",
        ]
        print(f"{name:20} " + " ".join(f"{value:>16}" for value in values), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
        print(arguments.json)


if __name__ == "__main__":
    main()
