"""Every trainer's network in two processes, as nnU-Net trains on two GPUs: DistributedDataParallel as it is, on CPU."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.plans import Plan, build_network
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_transformers.training.registry import Entry, registry

N_PROCESSES = 2
STEPS = 2
PLAN = Plan("tiny_2d", (16, 16), (1, 1), ((1, 1), (2, 2), (2, 2), (2, 2)))


def build(network_class: type[nn.Module], deep_supervision: bool) -> nn.Module:
    configuration = PLAN.configuration()
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 16, 16]
    return build_network(network_class, configuration, 1, 2, deep_supervision=deep_supervision)


def loss_of(output: Tensor | list[Tensor]) -> Tensor:
    return sum(x.square().mean() for x in output) if isinstance(output, list) else output.square().mean()


def mean_over_processes(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    dist.all_reduce(total)
    return total / N_PROCESSES


def train_together(entry: Entry, deep_supervision: bool, rank: int) -> None:
    torch.manual_seed(rank)  # other weights and other data on each process; DistributedDataParallel has to agree them
    network = build(entry.network, deep_supervision)
    optimizer = entry.recipe.optimizer(network)
    distributed = DistributedDataParallel(network)
    for _ in range(STEPS):
        image = torch.randn(1, 1, *PLAN.patch_size)
        alone = copy.deepcopy(network)
        loss_of(alone(image)).backward()
        optimizer.zero_grad()
        loss_of(distributed(image)).backward()
        for (name, parameter), own in zip(network.named_parameters(), alone.parameters(), strict=True):
            assert own.grad is not None, f"{name} gets no gradient"
            expected = mean_over_processes(own.grad)
            torch.testing.assert_close(parameter.grad, expected, msg=lambda m, name=name: f"{name}: {m}")
        optimizer.step()
        for name, parameter in network.named_parameters():
            assert torch.equal(mean_over_processes(parameter.detach()), parameter), f"{name} differs between processes"


def process(rank: int, folder: str) -> None:
    """Trains all networks and writes what went wrong, by network and deep supervision."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=N_PROCESSES, timeout=timedelta(seconds=60)
    )
    complaints = {}
    for entry in registry():
        for deep_supervision in (True, False):
            try:
                train_together(entry, deep_supervision, rank)
            except (AssertionError, RuntimeError) as error:
                complaints[case(entry, deep_supervision)] = f"process {rank}: {error}"
            dist.barrier()
    Path(folder, f"{rank}.json").write_text(json.dumps(complaints))
    dist.destroy_process_group()


def case(entry: Entry, deep_supervision: bool) -> str:
    return f"{entry.network.__name__}-{'with' if deep_supervision else 'without'}"


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this PyTorch has no gloo backend")
def test_processes_average_their_gradients_and_stay_equal_with_and_without_deep_supervision(tmp_path):
    # All networks at once: starting a process takes longer than training them. nnU-Net's own U-Net stops here without
    # deep supervision: its unused heads get no gradient (nnUNet issue 2571).
    torch.multiprocessing.spawn(process, (str(tmp_path),), N_PROCESSES)
    for rank in range(N_PROCESSES):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {}
