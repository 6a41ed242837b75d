"""The GPU's instance norm without a GPU: its kernels interpreted, compiled for one, and stepping aside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnunet_transformers.networks.layers import fused_norm
from nnunet_transformers.networks.layers.channels_last import norm

INTERPRETED = """
import torch, torch.nn.functional as F
from nnunet_transformers.networks.layers import fused_norm, fused_norm_kernels
assert fused_norm.are_right(torch.device("cpu"))
x = torch.randn(2, 3, 9, 11) * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 50  # one chunk, hardly filled, in 2D
ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
for y in (fused_norm.fused_norm(ours, None, None, 1e-5, 0.0), F.relu(F.instance_norm(theirs))):
    (y * torch.linspace(-1, 1, 11)).sum().backward()
torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)

fused_norm_kernels.forward = {(4, 10): lambda *_, **__: None}  # a kernel that writes nothing
assert not fused_norm.are_right.__wrapped__(torch.device("cpu"))
"""

COMPILED = """
import inspect
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nnunet_transformers.networks.layers import fused_norm, fused_norm_kernels as kernels

constants = {"CHUNK": fused_norm._CHUNK, "BLOCK": fused_norm._BLOCK}
types = {"n": "i32", "n_chunks": "i32", "slope": "fp32", "x": "*fp16", "y": "*fp16", "grad": "*fp16", "grad_x": "*fp16"}
for kernel in (kernels.moments, kernels.forward, kernels.sums, kernels.backward):
    given = {name: constants[name] for name in kernel.arg_names if name in constants}
    signature = {name: "constexpr" if name in given else types.get(name, "*fp32") for name in kernel.arg_names}
    named = "constexprs" if "constexprs" in inspect.signature(ASTSource.__init__).parameters else "constants"
    source = ASTSource(fn=kernel, signature=signature, **{named: given})
    for capability in (80, 90):
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
"""


def run(code: str, **variables: str) -> None:
    # Triton decides when it is imported whether it interprets.
    pytest.importorskip("triton")
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_interpreted_kernels_give_what_pytorch_gives_forward_and_backward():
    run(INTERPRETED, TRITON_INTERPRET="1")


def test_kernels_compile_for_a_gpu_that_is_not_there(tmp_path):
    run(COMPILED, TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize(
    ("nonlin", "slope"),
    [(nn.LeakyReLU(0.2), 0.2), (nn.ReLU(), 0.0), (nn.Identity(), 1.0), (None, 1.0), (nn.GELU(), 1.0)],
    ids=str,
)
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_takes_the_activation_that_it_can_into_its_passes(nonlin, slope, affine, monkeypatch):
    module, x = nn.InstanceNorm3d(2, affine=affine), torch.randn(1, 2, 4, 4, 4)
    expected = module(x) if nonlin is None else nonlin(module(x))
    slopes = []

    def twin(x, weight, bias, eps, slope):
        slopes.append(slope)
        return F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias, eps=eps), slope)

    monkeypatch.setattr(fused_norm, "is_used", lambda x: True)
    monkeypatch.setattr(fused_norm, "fused_norm", twin)
    torch.testing.assert_close(norm(module, x, nonlin), expected)
    assert slopes == [slope]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (lambda *_: False, "they differ from PyTorch's in torch.float32, torch.float16"),
        (lambda *_: 1 / 0, "ZeroDivision"),
    ],
    ids=["different", "error"],
)
def test_kernels_that_fail_or_differ_step_aside_with_one_line(failure, reason, monkeypatch, capsys):
    monkeypatch.setattr(fused_norm, "_is_right", failure)
    assert fused_norm.are_right.__wrapped__(torch.device("cpu")) is False
    (line,) = capsys.readouterr().out.splitlines()
    assert reason in line
