from __future__ import annotations

import torch

from nnunet_transformers.networks.layers.made_once import made_once


def test_tensors_are_made_once_per_shape_and_are_no_inference_tensors():
    made = []

    @made_once(maxsize=2)
    def places(n: int, device: str) -> torch.Tensor:
        made.append(n)
        return torch.arange(n, device=device)

    with torch.inference_mode():
        first = places(3, "cpu")
    assert places(3, "cpu") is first
    assert not first.is_inference()
    assert places(4, "cpu").tolist() == [0, 1, 2, 3]
    assert made == [3, 4]
