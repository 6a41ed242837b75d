"""Where a token stands in the image, as sines and cosines of its coordinates.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5; channels shared out between the axes as in
Parmar et al., "Image Transformer", ICML 2018, section 3.1. Nothing is learnt, so a map may have any size. Coordinates
are in mm: distances along the axes of an anisotropic map compare, and maps of two resolutions agree on where a place
is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# As published. The shortest wavelength is 2 pi mm.
_LONGEST_WAVELENGTH = 2 * math.pi * 10000


def sine_position(positions: Sequence[Tensor], dim: int) -> Tensor:
    """Encodes each place of a grid.

    Args:
        positions: coordinate of each token, for each axis (n,), in mm.
        dim: channels. Each axis has an equal number of pairs of a sine and a cosine, the first axes one more where they
            do not divide; an odd channel at the end is 0.

    Returns:
        (*spatial, dim): for each axis its sines, then its cosines, from short to long wavelengths.
    """
    sizes = [len(position) for position in positions]
    n_axes, n_pairs = len(positions), dim // 2
    encoded = []
    for axis, position in enumerate(positions):
        pairs = n_pairs // n_axes + (axis < n_pairs % n_axes)
        exponents = torch.arange(pairs, dtype=position.dtype, device=position.device) / max(pairs, 1)
        phase = position[:, None] * (2 * math.pi / _LONGEST_WAVELENGTH) ** exponents
        along_axis = torch.cat((phase.sin(), phase.cos()), dim=1)
        shape = [sizes[a] if a == axis else 1 for a in range(n_axes)]
        encoded.append(along_axis.view(*shape, 2 * pairs).expand(*sizes, 2 * pairs))
    return torch.cat([*encoded, encoded[0].new_zeros(*sizes, dim % 2)], dim=-1)


def sine_position_of_map(size: tuple[int, ...], voxel: tuple[float, ...], dim: int, device: str) -> Tensor:
    """`sine_position` of the voxel centres of a map, measured from the image's corner.

    Args:
        size: of the map, per axis.
        voxel: size of its voxels per axis, in mm.
        dim: channels.
        device: where it is needed.

    Returns:
        (1, *spatial, dim), float32.
    """
    # In double precision: a phase may be many turns.
    place = with_doubles(torch.device(device))
    centres = [(torch.arange(n, dtype=torch.float64, device=place) + 0.5) * v for n, v in zip(size, voxel, strict=True)]
    return sine_position(centres, dim)[None].to(device, torch.float32)


def with_doubles(device: torch.device) -> torch.device:
    """The device, or the CPU in the place of one that has no float64."""
    return torch.device("cpu") if device.type == "mps" else device
