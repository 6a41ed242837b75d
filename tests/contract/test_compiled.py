"""Compiled as nnU-Net compiles it, every network gives what it gives in eager mode, from the first training step to a
prediction: no graph break, one graph per mode and size.

`make test` runs one plan; the sessions of noxfile.py run all, on the oldest to the newest torch.
"""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.plans import PLANS, Plan, build_network
from side_by_side import SideBySide
from torch import nn

from nnunet_transformers.training.registry import registry

NETWORKS = {entry.network.__name__: entry.network for entry in registry()}
WINDOWED = ["SwinUNETR", "SwinUnet", "NNFormer"]

THREE_STAGES = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
# Windows whose token counts differ between stages and are no multiples of 8, and the published windows of 7.
UNEQUAL_WINDOWS = Plan("windows_of_300_and_150", (20, 20, 24), (1, 1, 1), THREE_STAGES)
WINDOWS_OF_7 = Plan("windows_of_343", (28, 28, 28), (1, 1, 1), THREE_STAGES)
ANISOTROPIC, PLAIN_2D = PLANS[1], PLANS[4]

fp32, fp16, bf16 = torch.float32, torch.float16, torch.bfloat16

# More blocks of a kind only take longer.
FEWER_BLOCKS = {"UNETR": {"num_layers": 3}, "TransUNet": {"num_layers": 2}, "CoTr": {"num_layers": 2}}


def case(network: str, plan: Plan, dtype: torch.dtype, backend: str, *marks: pytest.MarkDecorator) -> object:
    name = f"{network}-{plan.name}-{str(dtype).removeprefix('torch.')}-{backend}"
    return pytest.param(NETWORKS[network], plan, dtype, backend, id=name, marks=marks)


CASES = [
    *(case(network, UNEQUAL_WINDOWS, fp16, "aot_eager") for network in NETWORKS),
    *(case(network, PLAIN_2D, bf16, "aot_eager", pytest.mark.matrix) for network in NETWORKS),
    *(
        case(network, plan, fp16, "aot_eager", pytest.mark.matrix)
        for network in WINDOWED
        for plan in (ANISOTROPIC, WINDOWS_OF_7)
    ),
    # On CPU nnU-Net never compiles; this shows that inductor takes the operators. On torch 2.6 its C++ writes beyond
    # its buffers (with AVX-512), so there it is left out.
    case("SwinUNETR", UNEQUAL_WINDOWS, fp32, "inductor", pytest.mark.matrix, pytest.mark.inductor),
]


def build(network_class: type[nn.Module], plan: Plan) -> nn.Module:
    fewer = FEWER_BLOCKS.get(network_class.__name__, {})
    return build_network(network_class, plan.configuration(), 2, 3, deep_supervision=True, **fewer)


@pytest.fixture(autouse=True)
def right_convolutions(convolutions_right_in_bfloat16):
    """Both sides would be wrong, each in its own way."""


@pytest.mark.parametrize(("network_class", "plan", "dtype", "backend"), CASES)
def test_a_compiled_network_follows_the_users_path(network_class, plan, dtype, backend):
    torch._dynamo.reset()
    torch.manual_seed(0)
    network = build(network_class, plan)
    eager = copy.deepcopy(network)
    both = SideBySide(torch.compile(network, backend=backend), eager, dtype)
    larger = [n + s for n, s in zip(plan.patch_size, plan.total_stride, strict=True)]
    both.follow(torch.randn(2, 2, *plan.patch_size), torch.randn(1, 2, *larger))


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this PyTorch knows no CUDA device")
@pytest.mark.parametrize("network_class", NETWORKS.values(), ids=NETWORKS)
def test_the_graph_of_a_gpu_is_that_of_the_cpu(network_class):
    # Traced for a GPU that need not be there, so what was tested above on the CPU is what a GPU compiles.
    def operations(device: str) -> list[str]:
        graphs = []
        torch._dynamo.reset()
        with torch._subclasses.FakeTensorMode():
            with torch.device(device):
                network = build(network_class, UNEQUAL_WINDOWS)
            compiled = torch.compile(network, backend=lambda graph, _: graphs.append(graph) or graph, fullgraph=True)
            image = torch.randn(2, 2, *UNEQUAL_WINDOWS.patch_size, device=device)
            compiled(image)
        (graph,) = graphs
        return [f"{node.op} {node.target}" for node in graph.graph.nodes if node.op != "placeholder"]

    assert operations("cuda") == operations("cpu")
