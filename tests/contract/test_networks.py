"""What every network promises (docs/design.md, "The network contract"), over plans of every kind."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math

import pytest
import torch
from helpers import failing_backends
from helpers.plans import PLANS, Plan, build_network
from torch import nn
from torch._subclasses import FakeTensorMode

from nnunet_transformers.networks.cotr import CoTr
from nnunet_transformers.networks.layers import attention, relative_position, windows
from nnunet_transformers.networks.u_transformer import UTransformer
from nnunet_transformers.training.registry import registry

NETWORKS = [entry.network for entry in registry()]

every_network = pytest.mark.parametrize("network_class", NETWORKS, ids=lambda n: n.__name__)
every_network_and_plan = pytest.mark.parametrize(
    ("network_class", "plan"),
    [
        pytest.param(network, plan, id=f"{plan.name}-{network.__name__}")
        for plan in PLANS
        for network in NETWORKS
        if len(plan.strides) >= network.min_stages
    ],
)


def build(network_class: type[nn.Module], plan: Plan, deep_supervision: bool = False, **changed: object) -> nn.Module:
    torch.manual_seed(0)
    return build_network(network_class, plan.configuration(), 2, 3, deep_supervision, **changed)


def image(plan: Plan, batch: int = 2, factor: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 2, plan.patch_size[0] * factor, *plan.patch_size[1:])


@every_network_and_plan
def test_logits_have_the_size_of_the_image(network_class, plan):
    with torch.no_grad():
        assert build(network_class, plan)(image(plan)).shape == (2, 3, *plan.patch_size)


@every_network_and_plan
def test_deep_supervision_follows_the_plan_full_resolution_first(network_class, plan):
    with torch.no_grad():
        logits = build(network_class, plan, deep_supervision=True)(image(plan, batch=1))
    assert [tuple(x.shape[2:]) for x in logits] == plan.map_sizes[:-1]
    assert all(x.shape[1] == 3 for x in logits)


@every_network_and_plan
def test_the_first_head_is_the_inference_output(network_class, plan):
    network = build(network_class, plan, deep_supervision=True).eval()
    with torch.no_grad():
        first = network(image(plan, batch=1))[0]
        network.decoder.deep_supervision = False
        torch.testing.assert_close(network(image(plan, batch=1)), first, rtol=0, atol=0)


@every_network_and_plan
def test_training_and_inference_networks_have_the_same_weights(network_class, plan):
    training, inference = (build(network_class, plan, deep_supervision=ds) for ds in (True, False))
    assert training.state_dict().keys() == inference.state_dict().keys()
    inference.load_state_dict(training.state_dict())
    storages = [p.data_ptr() for p in training.state_dict().values()]
    assert len(set(storages)) == len(storages), "a tensor is stored twice"


@every_network_and_plan
def test_gradients_reach_every_parameter(network_class, plan):
    network = build(network_class, plan, deep_supervision=True)
    sum(x.square().mean() for x in network(image(plan))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    zero = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    assert not without
    assert not zero


@every_network
def test_without_deep_supervision_every_parameter_has_a_gradient_too(network_class):
    # What does not run has one of 0: DistributedDataParallel waits for it.
    plan = Plan("five_stages_2d", (32, 32), (1, 1), ((1, 1), *((2, 2),) * 4))
    network = build(network_class, plan)
    network(image(plan)).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def predict(network: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        network(x)


def run_without_data(network: nn.Module, x: torch.Tensor) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        copy.deepcopy(network)(x)


def export(network: nn.Module, x: torch.Tensor) -> None:
    exported = torch.export.export(network, (x,), strict=False)
    torch.testing.assert_close(exported.module()(x), network(x), rtol=1e-4, atol=1e-4)


def transform(network: nn.Module, x: torch.Tensor) -> None:
    # Whether or not a network can be transformed; no transform knows the gradient of an operator of our own.
    with contextlib.suppress(RuntimeError):
        torch.func.grad(lambda image: network(image).square().mean())(x)
    with contextlib.suppress(RuntimeError):
        torch.func.vmap(network)(x[:, None])


def fail_to_compile(network: nn.Module, x: torch.Tensor) -> None:
    torch._dynamo.reset()
    with pytest.raises(Exception, match="planted"):
        torch.compile(network, backend=failing_backends.in_forward)(x)


@every_network
@pytest.mark.parametrize("trace", [predict, run_without_data, export, transform, fail_to_compile])
def test_nothing_is_kept_from_a_trace(network_class, trace):
    plan = Plan("three_stages_2d", (16, 24), (1, 1), ((1, 1), (2, 2), (2, 2)))
    network, x = build(network_class, plan).eval(), image(plan)

    def forget() -> None:
        windows.window_layout.cache_clear()
        relative_position._index.cache_clear()

    forget()
    trace(network, x)
    after = network(x)
    after.square().mean().backward()  # what was made for a prediction serves a training too
    forget()
    assert type(after) is torch.Tensor
    assert torch.equal(network(x), after)


@every_network
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_size_that_the_strides_do_not_divide_is_refused_at_the_door(network_class, compiled):
    network = build(network_class, PLANS[3])
    called = torch.compile(network, backend="eager") if compiled else network
    with pytest.raises(ValueError, match=r"multiples of \(4, 4, 4\), the strides of its plan; got \(16, 18, 16\)"):
        called(torch.randn(1, 2, 16, 18, 16))
    with pytest.raises(ValueError, match=r"got \(16, 16\)"):
        called(torch.randn(1, 2, 16, 16))


@every_network_and_plan
def test_a_larger_image_than_the_patch_is_accepted(network_class, plan):
    network = build(network_class, plan).eval()
    size = tuple(n + s for n, s in zip(plan.patch_size, plan.total_stride, strict=True))
    with torch.no_grad():
        logits = network(torch.randn(1, 2, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


@every_network_and_plan
def test_samples_of_a_batch_do_not_influence_each_other(network_class, plan):
    network = build(network_class, plan).eval()
    x = image(plan, batch=3)
    with torch.no_grad():
        together, alone = network(x)[1:2], network(x[1:2])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@every_network
@pytest.mark.parametrize("plan", [PLANS[1], PLANS[4]], ids=lambda p: p.name)
def test_fused_attention_equals_its_explicit_twin_forward_and_backward(network_class, plan, monkeypatch):
    network = build(network_class, plan).double()
    x = image(plan).double()

    def logits_and_gradients() -> list[torch.Tensor]:
        logits = network(x)
        return [logits, *torch.autograd.grad(logits.square().mean(), list(network.parameters()), allow_unused=True)]

    fused = logits_and_gradients()
    with torch.no_grad():
        torch.testing.assert_close(network(x), fused[0], rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(attention, "fused", attention.explicit)
    monkeypatch.setattr(attention, "fused_in_windows", attention.explicit_in_windows)
    for a, b in zip(fused, logits_and_gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@every_network
@pytest.mark.parametrize("plan", [PLANS[3], PLANS[4]], ids=lambda p: p.name)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bfloat16_autocast_is_finite_and_close_to_float32(
    network_class, plan, training, convolutions_right_in_bfloat16
):
    network = build(network_class, plan).train(training)
    with torch.no_grad():
        expected = network(image(plan))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image(plan)).float()
    assert logits.isfinite().all()
    assert (logits - expected).abs().mean() < 0.05 * expected.abs().mean() + 0.05
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network(image(plan)).float().square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@every_network
def test_a_network_converted_to_bfloat16_trains(network_class, convolutions_right_in_bfloat16):
    network = build(network_class, PLANS[4], deep_supervision=True).to(torch.bfloat16)
    logits = network(image(PLANS[4]).to(torch.bfloat16))
    assert {x.dtype for x in logits} == {torch.bfloat16}
    sum(x.float().square().mean() for x in logits).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@every_network
@pytest.mark.parametrize("plan", [PLANS[0], PLANS[1], PLANS[4]], ids=lambda p: p.name)
def test_the_memory_measure_grows_with_the_image_and_leaves_the_weights_alone(network_class, plan):
    network = build(network_class, plan, deep_supervision=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    small, large = (network.compute_conv_feature_map_size([n * factor for n in plan.patch_size]) for factor in (1, 2))
    assert small > math.prod(plan.patch_size)
    assert 2 * small < large <= 2**plan.dims * small  # what does not grow: the windows' position biases
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@every_network
def test_transfer_keys_name_modules(network_class):
    network = build(network_class, PLANS[0])
    network.get_submodule(network.key_to_encoder)
    network.get_submodule(network.key_to_stem)
    for key in network.keys_to_in_proj:
        assert network.get_submodule(key).weight.shape[1] == 2


@every_network
def test_only_u_transformer_and_cotr_have_the_same_tensors_for_another_patch(network_class):
    # docs/networks.md says so: nnU-Net's -pretrained_weights asks for the same shapes.
    plan = PLANS[3]
    with torch.device("meta"):
        own, others = (
            build(network_class, dataclasses.replace(plan, patch_size=size)) for size in (plan.patch_size, (24, 24, 32))
        )
    shapes, other_shapes = ([tensor.shape for tensor in network.state_dict().values()] for network in (own, others))
    assert (shapes == other_shapes) == (network_class in (UTransformer, CoTr))


@every_network
def test_plans_with_too_few_stages_are_refused_with_the_remedy(network_class):
    n_stages = network_class.min_stages - 1
    plan = Plan("small_2d", (6, 6), (1, 1), ((1, 1), (2, 2))[:n_stages])
    with pytest.raises(ValueError, match=rf"at least \d resolutions.*n_stages={n_stages}; a larger patch has more"):
        build(network_class, plan)


@every_network
@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"n_stages": 1, "strides": [1], "kernel_sizes": 3}, r"at least \d resolutions"),
        ({"strides": [1, 2, 2]}, "strides needs 4 entries"),
        ({"strides": [2, 2, 2, 2]}, "full resolution"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_construction(network_class, changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(network_class, PLANS[0], **changed)
