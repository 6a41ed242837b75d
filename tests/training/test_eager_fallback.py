"""Where compiling fails, the run goes on in eager mode from the same state and says so in one line."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers import failing_backends
from torch import Tensor, nn

from nnunet_transformers.training.eager_fallback import EagerFallback


class Tiny(nn.Module):
    """What may change in a forward pass beside gradients: a random state and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.norm(self.conv(x)), 0.5, self.training)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def guarded(network: nn.Module) -> tuple[EagerFallback, list[str]]:
    lines: list[str] = []
    fallback = EagerFallback(lines.append)
    fallback.guard(network)
    return fallback, lines


def step(network: nn.Module, x: Tensor) -> Tensor:
    network.zero_grad()
    loss = network(x).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
    return loss.detach()


BACKENDS = {
    "in_forward": failing_backends.in_forward,
    "as_it_runs": failing_backends.as_it_runs,
    "in_backward": failing_backends.in_backward,
    "in_backward_as_it_runs": failing_backends.in_backward_as_it_runs,
}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_a_training_step_that_fails_compiled_is_made_again_from_the_same_state(backend):
    network = Tiny()
    eager = copy.deepcopy(network)
    fallback, lines = guarded(network)
    compiled, x = torch.compile(network, backend=backend), torch.randn(2, 1, 6, 6)
    torch.manual_seed(3)
    losses = [fallback.tried(lambda: step(compiled, x), network, lambda: None) for _ in range(3)]
    torch.manual_seed(3)
    assert losses == [step(eager, x) for _ in range(3)]
    for name, tensor in eager.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    (line,) = lines
    assert "\n" not in line
    assert "planted over two lines" in line
    assert "eager mode" in line


def test_a_prediction_at_another_size_that_does_not_compile_is_made_in_eager_mode():
    network = Tiny().eval()
    _, lines = guarded(network)
    compiled = torch.compile(network, backend=failing_backends.at_another_size())
    with torch.inference_mode():
        for size in (6, 8, 6):
            x = torch.randn(1, 1, size, size)
            torch.testing.assert_close(compiled(x), network(x), rtol=0, atol=0)
    assert len(lines) == 1


def test_what_compiles_stays_compiled():
    network, calls = Tiny(), []
    fallback, lines = guarded(network)

    def backend(graph, _):
        return lambda *inputs: calls.append(1) or graph(*inputs)

    compiled = torch.compile(network, backend=backend, fullgraph=True)
    for _ in range(2):
        fallback.tried(lambda: step(compiled, torch.randn(2, 1, 6, 6)), network, lambda: None)
    with torch.no_grad():
        compiled.eval()(torch.randn(1, 1, 6, 6))
    assert len(calls) == 3
    assert not lines


@pytest.mark.parametrize("compiled", [True, False])
def test_a_fault_that_is_not_the_compilers_is_raised_as_it_is(compiled):
    network = Tiny().eval()
    fallback, lines = guarded(network)
    called = torch.compile(network, backend="eager") if compiled else network
    wrong = torch.randn(1, 5, 6, 6)
    with torch.no_grad(), pytest.raises(RuntimeError, match="5 channels"):
        called(wrong)
    with pytest.raises(RuntimeError, match="5 channels"):
        fallback.tried(lambda: step(called, wrong), network, lambda: None)
    assert not lines
    assert not fallback.is_eager


def test_full_memory_is_not_taken_for_a_failure_to_compile():
    network = Tiny()
    fallback, lines = guarded(network)
    tries = []

    def full() -> None:
        tries.append(1)
        raise torch.cuda.OutOfMemoryError("full")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        fallback.tried(full, network, lambda: None)
    assert len(tries) == 1
    assert not lines


def test_a_guarded_network_is_copied_and_pickled_as_any_other():
    network = Tiny().eval()
    guarded(network)
    x = torch.randn(1, 1, 6, 6)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(x), network(x))
    assert network.state_dict().keys() == Tiny().state_dict().keys()
