"""The operators that a compiler sees as one node: PyTorch's own checks of them, and their kernels."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import profile

from nnunet_transformers.networks.layers import attention, relative_position, windows
from nnunet_transformers.networks.layers.windows import MapWindows

# Padded, shifted, with several masks; of one window; 3D.
CUTS = [
    MapWindows((5, 6), (4, 4), (2, 2)),
    MapWindows((4, 3), (4, 3), (0, 0)),
    MapWindows((4, 4, 2), (2, 2, 2), (1, 1, 0)),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("batch", [1, 2])
def test_operators_are_what_they_say_to_a_compiler(cut, batch):
    def given(*size: int) -> torch.Tensor:
        return torch.randn(*size, requires_grad=True)

    rows, n_tokens = windows.n_windows(cut.map_size, cut.window) * batch, torch.Size(cut.window).numel()
    table = given(relative_position.table_rows((5, 5, 5)[: len(cut.window)]), 2)
    for operator, arguments in [
        (windows._to_windows, (given(batch, *cut.map_size, 3), cut.window, cut.shift)),
        (windows._from_windows, (given(rows, n_tokens, 3), *cut)),
        (relative_position._bias, (table, cut.window, (5, 5, 5)[: len(cut.window)])),
        (attention._window_attention, (given(rows, n_tokens, 3, 2, 4), given(2, n_tokens, n_tokens), *cut, 0.5)),
    ]:
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_window_attention_is_its_explicit_twin_forward_and_backward(cut, dtype):
    rows, n_tokens = windows.n_windows(cut.map_size, cut.window), torch.Size(cut.window).numel()
    results = []
    for attend in (attention.fused_in_windows, attention.explicit_in_windows):
        torch.manual_seed(0)
        qkv = torch.randn(rows, n_tokens, 3, 2, 8, dtype=dtype, requires_grad=True)
        bias = torch.randn(2, n_tokens, n_tokens, requires_grad=True)
        out = attend(qkv, bias, cut, 0.5)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), (qkv, bias))])
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).double().norm() < tolerance * theirs.double().norm()


def test_a_bias_that_asks_for_a_gradient_does_not_keep_attention_from_its_fused_kernel():
    cut = CUTS[1]
    qkv, bias = torch.randn(6, 12, 3, 2, 8, requires_grad=True), torch.randn(2, 12, 12, requires_grad=True)
    with profile() as recorded:
        attention.fused_in_windows(qkv, bias, cut, 0.5)
    names = {event.key for event in recorded.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_attention_math" not in names


def test_the_gradient_of_a_bias_does_not_overflow_in_float16():
    # 600 equal windows, so that their gradients, in the range of float16 each, add up to one outside.
    cut = MapWindows((40, 30), (2, 1), (0, 0))
    torch.manual_seed(0)
    one = torch.randn(1, 2, 3, 1, 8)
    qkv, bias = (
        one.half().expand(600, -1, -1, -1, -1).clone().requires_grad_(),
        torch.zeros(1, 2, 2, requires_grad=True),
    )
    factor = torch.randn(8) * 256
    (attention.fused_in_windows(qkv, bias, cut, 0.5).float() * factor).sum().backward()
    of_one, of_bias = one.requires_grad_(), torch.zeros(1, 2, 2, requires_grad=True)
    (attention.explicit_in_windows(of_one, of_bias, MapWindows((2, 1), (2, 1), (0, 0)), 0.5) * factor).sum().backward()
    torch.testing.assert_close(bias.grad, 600 * of_bias.grad, rtol=2e-2, atol=100)
    assert bias.grad.abs().max() > torch.finfo(torch.float16).max
