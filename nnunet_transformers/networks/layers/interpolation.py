"""Linear interpolation of maps, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, *spatial) to (B, C, *size), linearly, voxel centres of the two grids spread over the same extent."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[x.ndim], align_corners=False)
