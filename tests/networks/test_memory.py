from __future__ import annotations

import torch
from torch import nn

from nnunet_transformers.networks.layers.swin_block import ShiftedWindowAttention
from nnunet_transformers.networks.layers.transformer_block import SelfAttention
from nnunet_transformers.networks.memory import elements_saved_for_backward


def test_what_two_operations_keep_counts_once_and_weights_do_not():
    # The first convolution keeps its input, the ReLU its output, which the second convolution keeps too.
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1))
    assert elements_saved_for_backward(network, (3, 4, 6)) == (3 + 5) * 4 * 6


def test_the_measure_is_what_a_pass_on_the_cpu_keeps():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.LeakyReLU(), nn.Conv3d(4, 2, 1))
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(1, 1, 6, 4, 4))
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    expected = sum(tensor.numel() for address, tensor in kept.items() if address not in weights)
    assert elements_saved_for_backward(network, (1, 6, 4, 4)) == expected


def test_attention_keeps_no_scores():
    # Of n tokens: x, q, k, v, the output and what the projection sees; scores would grow with n squared.
    small, large = (elements_saved_for_backward(SelfAttention(8, 2), (n, 8)) for n in (64, 128))
    assert large == 2 * small
    windows = ShiftedWindowAttention(8, 2, (4, 4), (0, 0))
    bias = 2 * 16 * 16
    small, large = (elements_saved_for_backward(windows, (n, 8, 8)) - bias for n in (8, 16))
    assert large == 2 * small
