from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nnunet_transformers.networks.layers.channels_last import norm, pointwise_conv, to_channels_last
from nnunet_transformers.networks.layers.instance_norm import instance_norm_channels_last


@pytest.mark.parametrize("size", [(2, 5, 6, 8), (2, 5, 6, 8, 4), (1, 3, 2, 2, 2)], ids=["2d", "3d", "eight voxels"])
def test_values_and_gradients_equal_pytorchs(size):
    torch.manual_seed(0)
    x = to_channels_last(torch.randn(size, dtype=torch.float64)).requires_grad_()
    weight, bias, grad = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in (size[1], size[1], size))
    arguments = (x, weight, bias)
    ours = instance_norm_channels_last(x, weight, bias, 1e-5)
    reference = F.instance_norm(x, weight=weight, bias=bias, eps=1e-5)
    torch.testing.assert_close(ours, reference)
    for a, b in zip(
        torch.autograd.grad(ours, arguments, grad), torch.autograd.grad(reference, arguments, grad), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_mean_far_from_zero_costs_no_digits():
    # Group norm's channels-last kernel is wrong by 0.2 here.
    torch.manual_seed(0)
    x = to_channels_last(5 + 0.1 * torch.randn(1, 8, 32, 32, 32))
    reference = F.instance_norm(x.double())
    torch.testing.assert_close(instance_norm_channels_last(x, None, None, 1e-5).double(), reference, rtol=0, atol=1e-4)


def test_the_layout_is_kept():
    x = to_channels_last(torch.randn(2, 8, 4, 4, 4))
    for y in (norm(torch.nn.InstanceNorm3d(8), x), pointwise_conv(torch.nn.Conv3d(8, 3, 1), x)):
        assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("module", [torch.nn.InstanceNorm3d(8, track_running_stats=True), torch.nn.BatchNorm3d(8)])
def test_other_norms_run_as_they_are(module):
    x = to_channels_last(torch.randn(2, 8, 4, 4, 4))
    module.eval()
    torch.testing.assert_close(norm(module, x), module(x))


def test_a_pointwise_convolution_equals_the_module():
    x, conv = to_channels_last(torch.randn(2, 8, 4, 6, 5)), torch.nn.Conv3d(8, 3, 1)
    torch.testing.assert_close(pointwise_conv(conv, x), conv(x))
