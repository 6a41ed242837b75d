from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_transformers.networks.layers.patch_merging import PatchMerging


def silent_voxels(merge: nn.Module, size: tuple[int, ...], dim: int) -> int:
    """How many voxels of a map have no influence on the merged map."""
    torch.manual_seed(0)
    x = torch.randn(1, *size, dim, requires_grad=True)
    (grad,) = torch.autograd.grad(merge(x).square().sum(), x)
    return int((grad.abs().sum(-1) == 0).sum())


class MergingOfMonai14(nn.Module):
    """The order of voxels in MONAI up to 1.4, in which two of the eight come twice and two never."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(8 * dim), nn.Linear(8 * dim, 2 * dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
        return self.reduction(self.norm(torch.cat([x[:, i::2, j::2, k::2] for i, j, k in corners], -1)))


def test_every_voxel_counts_unlike_in_monai_up_to_1_4():
    assert silent_voxels(PatchMerging(4, 8, (2, 2, 2)), (4, 6, 2), 4) == 0
    assert silent_voxels(MergingOfMonai14(4), (4, 6, 2), 4) == 4 * 6 * 2 // 4


@pytest.mark.parametrize(("stride", "size"), [((2, 2), (4, 6)), ((1, 2, 2), (3, 4, 2)), ((3, 1, 2), (6, 5, 4))])
def test_a_patch_is_its_voxels_in_raster_order_normed_and_projected(stride, size):
    torch.manual_seed(0)
    merge, x = PatchMerging(4, 6, stride), torch.randn(2, *size, 4)
    first = x[(slice(None), *(slice(0, s) for s in stride))].flatten(1)
    last = x[(slice(None), *(slice(-s, None) for s in stride))].flatten(1)
    merged = merge(x).flatten(1, -2)
    torch.testing.assert_close(merged[:, 0], merge.reduction(merge.norm(first)))
    torch.testing.assert_close(merged[:, -1], merge.reduction(merge.norm(last)))
