"""How much of a forward pass a network keeps for its backward pass, without running it.

The pass is made on PyTorch's meta device, where tensors have shapes and no data, so it takes a fraction of a second and
is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def elements_saved_for_backward(network: nn.Module, sample_size: Sequence[int]) -> int:
    """Elements of the distinct tensors that one sample's training pass saves, the network's own tensors left out.

    Args:
        network: takes (B, C, *spatial); not changed.
        sample_size: (C, *spatial).
    """
    weights = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }
    own = {tensor.untyped_storage()._cdata for tensor in weights.values()}
    # A storage that is kept here keeps its address, so no other can be taken for it.
    saved: dict[int, tuple[torch.UntypedStorage, int]] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage._cdata not in own:
            saved[storage._cdata] = storage, storage.nbytes() // tensor.element_size()
        return tensor

    x = torch.empty(1, *sample_size, device="meta")
    with saved_tensors_hooks(count, lambda tensor: tensor):
        torch.func.functional_call(network, weights, (x,))
    return sum(elements for _, elements in saved.values())
