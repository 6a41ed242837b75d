"""One command for a GPU: does every trainer run there as nnU-Net runs it, and what does it cost?

    python benchmarks/gpu.py [--minutes 8] [--part contract speed training] [--json FILE]

Three parts, of which it does what fits into the minutes; what it had no time for stands in the result. It prints as it
goes, and writes the result anew after every piece. No network and no data are needed, and of our dependencies nnU-Net's
own are enough; MONAI takes part where it is installed.

contract   every trainer's network, compiled by nnU-Net's own means for a plan of 128^3 and one of 80x96x80 (whose
           windows are no multiples of 8 tokens; two channels): trains, validates and predicts as in eager mode, at two
           sizes, with one graph per mode and size; then two of nnU-Net's training steps, without falling back
speed      time of a training step (batch 2) and of a prediction (batch 1) at 128^3, eager and compiled, peak memory and
           time to compile, beside nnU-Net's PlainConvUNet, ResEnc M and Primus V3-S and MONAI's networks, one after the
           other on an idle GPU, float16 as nnU-Net trains
training   nnUNetv2_train with nothing set, on noise with balls in it

Networks compile side by side, each in a process of its own. `--device cpu --size 32` tries the script out, compiled by
"aot_eager": PyTorch's default takes minutes there, and nnU-Net does not compile on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import inference, provenance, seconds, training_step
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from side_by_side import SideBySide
from torch import nn
from torch._dynamo import OptimizedModule
from torch._dynamo.utils import counters

from nnunet_transformers.plugin import autostart
from nnunet_transformers.training.eager_fallback import one_line
from nnunet_transformers.training.registry import registry
from nnunet_transformers.training.rehearsal import plans_for, random_batch, rehearsal

BASELINE = "nnUNetTrainer"
TRAINERS = [entry.trainer for entry in registry()]
PEERS = [BASELINE, "ResEncM", "nnUNet_PrimusV3S_Trainer"]
MONAIS = ["MONAI SwinUNETR", "MONAI SwinUNETRV2", "MONAI UNETR"]
ROUNDS = 7
GPU_BYTES_OF_A_NETWORK = 10 << 30  # what most take while they are held against an eager copy; MONAI's take twice that


def dtype(device: torch.device) -> torch.dtype:
    """In which nnU-Net computes there."""
    return torch.float16 if device.type == "cuda" else torch.float32


def plan(name: str, size: tuple[int, ...]) -> dict[str, Any]:
    return plans_for(size, (1.0,) * len(size), residual=name == "ResEncM")


def trainer_class(name: str) -> Any:
    with contextlib.redirect_stdout(None):
        return recursive_find_trainer_class_by_name(BASELINE if name == "ResEncM" else name)


def monai_network(name: str, size: int) -> nn.Module:
    import monai.networks.nets as nets

    if name == "MONAI UNETR":
        return nets.UNETR(1, 2, size)
    flash = torch.cuda.is_available()
    return nets.SwinUNETR(1, 2, feature_size=48, use_v2=name.endswith("V2"), use_flash_attention=flash)


def compiled(network: nn.Module, device: torch.device) -> Any:
    """As nnU-Net compiles it on a GPU."""
    if isinstance(network, OptimizedModule):
        return network
    return torch.compile(network, backend="inductor" if device.type == "cuda" else "aot_eager")


# ---- In the process of one network ---------------------------------------------------------------------------------


def follow_the_users_path(trainer: Any, network: Any) -> dict[str, Any]:
    """The contract: see the module. Raises where it does not hold."""
    both = SideBySide(network, copy.deepcopy(network._orig_mod), dtype(trainer.device))
    batch = random_batch(trainer)
    patches = batch["data"].to(trainer.device)
    larger = [n + s for n, s in zip(patches.shape[2:], network._orig_mod.total_stride, strict=True)]
    compiling = seconds(partial(both.train, patches), trainer.device)
    both.follow(patches, torch.randn(1, patches.shape[1], *larger, device=trainer.device))
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(2)]
    assert all(map(math.isfinite, losses)), losses
    assert not trainer.eager_fallback.is_eager, "fell back to eager mode"
    result = {"graphs": len(both.modes), "differences": both.largest, "losses": losses}
    return {"seconds to compile": compiling} | result


def compile_step(network: nn.Module, patches: torch.Tensor) -> dict[str, Any]:
    """Compile the graphs that `measure` runs; seconds until the first training step is done."""
    compiling = seconds(partial(training_step, network, patches, dtype(patches.device)), patches.device)
    with supervision(network, False):
        inference(network.eval(), patches[:1], dtype(patches.device))
    return {"seconds to compile": compiling, "graph breaks": sum(counters["graph_break"].values())}


@contextlib.contextmanager
def supervision(network: Any, enabled: bool) -> Iterator[None]:
    decoder = getattr(getattr(network, "_orig_mod", network), "decoder", None)
    before = getattr(decoder, "deep_supervision", None)
    if before is not None:
        decoder.deep_supervision = enabled
    yield
    if before is not None:
        decoder.deep_supervision = before


def measure(networks: dict[str, nn.Module], patches: torch.Tensor) -> dict[str, Any]:
    """Milliseconds, medians, and MiB of a training step."""
    device = patches.device
    result: dict[str, Any] = {}
    for label, network in networks.items():
        step = partial(training_step, network, patches, dtype(device))
        predict = partial(inference, network, patches[:1], dtype(device))
        network.train()
        times = [seconds(step, device) for _ in range(ROUNDS + 2)][2:]
        result[f"training ms, {label}"] = 1000 * statistics.median(times)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            result[f"peak MiB, {label}"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        network.eval()
        with supervision(network, False):
            times = [seconds(predict, device) for _ in range(ROUNDS + 2)][2:]
        result[f"inference ms, {label}"] = 1000 * statistics.median(times)
    return result


def work(pipe: Connection, name: str, size: tuple[int, ...], channels: int, device_name: str, contract: bool) -> None:
    """One network: compiled at once, measured when it is told to be."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 8))
    torch.backends.cudnn.benchmark = True  # as nnU-Net
    device, started = torch.device(device_name), time.perf_counter()
    result: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        try:
            if name in MONAIS:
                network = compiled(monai_network(name, size[0]).to(device), device)
                patches = torch.randn(2, channels, *size, device=device)
            else:
                made = rehearsal(trainer_class(name), plan(name, size), device, channels)
                trainer = stack.enter_context(made)
                network, patches = compiled(trainer.network, device), random_batch(trainer)["data"].to(device)
                if contract:
                    result |= follow_the_users_path(trainer, network)
            result = compile_step(network, patches) | result
            if device.type == "cuda":
                torch.cuda.empty_cache()
            result["seconds in all"] = time.perf_counter() - started
            pipe.send({"ok": True} | result)
            pipe.recv()
            pipe.send(measure({"eager": network._orig_mod, "compiled": network}, patches))
        except Exception as error:
            if not isinstance(error, EOFError):
                where = traceback.extract_tb(error.__traceback__)[-1]
                pipe.send({"ok": False, "error": f"{one_line(error)} ({Path(where.filename).name}:{where.lineno})"})


# ---- The parts -----------------------------------------------------------------------------------------------------


class Report:
    """The result so far: on the screen, and in a file after every piece."""

    def __init__(self, path: Path, minutes: float, device: torch.device) -> None:
        self.path, self.ends = path, time.monotonic() + 60 * minutes
        self.content: dict[str, Any] = provenance(device, torch.get_num_threads()) | versions(device)

    def add(self, part: str, name: str, row: dict[str, Any]) -> None:
        self.content.setdefault(part, {})[name] = row
        self.path.write_text(json.dumps(self.content, indent=2) + "\n")
        cells = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
        print(f"{part:9} {name:32} {', '.join(cells)}", flush=True)

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


def versions(device: torch.device) -> dict[str, Any]:
    from importlib import metadata

    def version(package: str) -> str | None:
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
        return None

    packages = {name: version(name) for name in ("nnunetv2", "dynamic-network-architectures", "monai", "triton")}
    driver = None
    if device.type == "cuda" and (tool := shutil.which("nvidia-smi")):
        query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return {"packages": packages, "driver": driver, "cuda": torch.version.cuda, "cores": os.cpu_count()}


def run_networks(
    report: Report, names: list[str], size: tuple[int, ...], channels: int, device: torch.device, parts: set[str]
) -> None:
    """The contract of ours and the speed of all, at one size; as many at once as cores and memory allow."""
    at_once = max(2, os.cpu_count() or 2)
    if device.type == "cuda":
        at_once = min(at_once, max(2, torch.cuda.get_device_properties(device).total_memory // GPU_BYTES_OF_A_NETWORK))
    for start in range(0, len(names), at_once):
        run_at_once(report, names[start : start + at_once], size, channels, device, parts)


def run_at_once(
    report: Report, names: list[str], size: tuple[int, ...], channels: int, device: torch.device, parts: set[str]
) -> None:
    context, label = get_context("spawn"), "x".join(map(str, size))
    workers: dict[str, tuple[Any, Connection]] = {}
    for name in names:
        ours, theirs = context.Pipe()
        contract = "contract" in parts and name in TRAINERS
        process = context.Process(target=work, args=(theirs, name, size, channels, str(device), contract), daemon=True)
        process.start()
        theirs.close()
        workers[name] = process, ours
    ready = []
    for name, (process, pipe) in workers.items():
        result = receive(pipe, report)
        report.add("contract" if name in TRAINERS else "compiled", f"{name}, {label}", result)
        if result["ok"]:
            ready.append(name)
        else:
            process.terminate()
    # Only now, when nothing else uses the GPU.
    for name in ready if "speed" in parts else []:
        workers[name][1].send("measure")
        report.add("speed", f"{name}, {label}", receive(workers[name][1], report))
    for process, pipe in workers.values():
        pipe.close()
        process.terminate()
        process.join()


def receive(pipe: Connection, report: Report) -> dict[str, Any]:
    try:
        if pipe.poll(max(1.0, report.seconds_left)):
            return pipe.recv()
        return {"ok": False, "error": "no time left"}
    except EOFError:
        return {"ok": False, "error": "the process died"}


def ratios(report: Report, size: int) -> None:
    """Every network in its best mode beside PlainConvUNet and MONAI's in theirs."""
    speed, label = report.content.get("speed", {}), "x".join([str(size)] * 3)

    def best(name: str, what: str) -> float | None:
        row = speed.get(f"{name}, {label}", {})
        return min((value for key, value in row.items() if key.startswith(what)), default=None)

    for name in TRAINERS:
        row: dict[str, Any] = {}
        monai = f"MONAI {name.removeprefix('nnUNetTrainer')}"
        for what in ("training ms", "inference ms", "peak MiB"):
            ours = best(name, what)
            for peer, other in (("PlainConvUNet", best(BASELINE, what)), ("MONAI", best(monai, what))):
                if ours and other:
                    row[f"{what} over {peer}'s"] = ours / other
        for mode in ("eager", "compiled"):
            ours, other = (speed.get(f"{n}, {label}", {}).get(f"training ms, {mode}") for n in (name, BASELINE))
            if ours and other:
                row[f"{mode} training over PlainConvUNet's"] = ours / other
        if row:
            report.add("ratios", name, row)


def train(report: Report, device: torch.device, edge: int) -> None:
    """Short trainings by nnU-Net's commands, with nothing set."""
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            n: str(Path(folder, n)) for n in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        }
        raw = Path(folder, "nnUNet_raw", "Dataset990_Balls")
        for sub in ("imagesTr", "labelsTr"):
            (raw / sub).mkdir(parents=True)
        generator = np.random.default_rng(0)
        z, y, x = np.indices((edge,) * 3)
        for case in range(5):
            centre = generator.uniform(0.3, 0.7, 3) * edge
            ball = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < (edge / 6) ** 2).astype(
                np.uint8
            )
            image = generator.normal(0, 1, ball.shape).astype(np.float32) + 2 * ball
            for array, place in ((image, f"imagesTr/case_{case}_0000.nii.gz"), (ball, f"labelsTr/case_{case}.nii.gz")):
                SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(raw / place))
        description = {"channel_names": {"0": "noise"}, "labels": {"background": 0, "ball": 1}, "numTraining": 5}
        (raw / "dataset.json").write_text(json.dumps(description | {"file_ending": ".nii.gz"}))

        def command(name: str, *arguments: str) -> tuple[int, str]:
            executable = shutil.which(name, path=sysconfig.get_path("scripts")) or name
            limit = max(1.0, report.seconds_left)
            done = subprocess.run(
                [executable, *arguments], env=environment, capture_output=True, text=True, timeout=limit
            )
            return done.returncode, done.stdout + done.stderr

        command("nnUNetv2_plan_and_preprocess", "-d", "990", "-c", "3d_fullres", "-np", "2", "-npfp", "2")
        for trainer in ("nnUNetTrainerSwinUNETR", "nnUNetTrainerUTransformer"):
            started = time.perf_counter()
            on = [] if device.type == "cuda" else ["-device", device.type]
            name = f"{trainer}_1epochs_{20 if device.type == 'cuda' else 1}iterations"
            code, said = command("nnUNetv2_train", "990", "3d_fullres", "0", "-tr", name, *on)
            lines = [line for line in said.splitlines() if "Mean Validation Dice" in line or "eager mode" in line]
            row = {"exit code": code, "seconds": time.perf_counter() - started, "said": lines or said[-300:]}
            report.add("training", name, row | {"fell back": any("eager mode" in line for line in lines)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["contract", "speed", "training"]
    parser.add_argument("--part", nargs="+", choices=parts, default=parts, help="default: all")
    parser.add_argument("--minutes", type=float, default=8.0, help="to stop after (default 8)")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"), help="cuda (default) or cpu")
    parser.add_argument("--size", type=int, default=128, help="edge of the first plan's patch (default 128)")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=TRAINERS, help="default: all")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="the result (default gpu.json)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    device, wanted = arguments.device, set(arguments.part)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this torch finds no GPU; --device cpu --size 32 tries the script out")
    autostart.activate()  # for nnU-Net's commands, where the package is on the path but not installed
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # Each network's process compiles with a few more of its own.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, (os.cpu_count() or 2) // 8)))
    report = Report(arguments.json, arguments.minutes, device)
    print(json.dumps(report.content), flush=True)

    peers = PEERS + (MONAIS if report.content["packages"]["monai"] else []) if "speed" in wanted else []
    steps: list[tuple[str, float, Callable[[], None]]] = []
    if wanted & {"contract", "speed"}:
        cube = (arguments.size,) * 3
        names = [*arguments.trainers, *peers]
        steps.append(("networks at the first plan", 60, partial(run_networks, report, names, cube, 1, device, wanted)))
        steps.append(("ratios", 0, partial(ratios, report, arguments.size)))
    if "training" in wanted:
        steps.append(("training", 60, partial(train, report, device, 64 if device.type == "cuda" else 20)))
    if "contract" in wanted:
        odd = (80, 96, 80) if device.type == "cuda" else (20, 20, 24)
        only = partial(run_networks, report, arguments.trainers, odd, 2, device, {"contract"})
        steps.append(("networks at the second plan", 60, only))
    for name, at_least, step in steps:
        if report.seconds_left < at_least:
            report.add("no time", name, {"seconds left": report.seconds_left})
            continue
        try:
            step()
        except Exception as error:  # what one part has measured is not lost by another
            report.add("failed", name, {"error": one_line(error)})
    print(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
