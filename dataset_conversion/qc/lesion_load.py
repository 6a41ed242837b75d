"""Where the lesions of a dataset are: each mask on a coarse grid of cells, and in how many masks a cell has lesion.

The grid divides every volume into the same number of cells. So a cell is the same place in volumes that share a voxel
grid (a template's, say), and otherwise only the same relative position within the volume.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from dataset_conversion.qc.planes import ACROSS, turn

CELLS = (40, 48, 40)
"""Along right, anterior and superior: about 5 mm in a volume that holds a head."""
# White to dark blue: the order survives grey printing and every kind of colour blindness.
_COLOURS = ((255, 255, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))


def cell_bounds(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """First voxel of each cell along an axis of `size` voxels, and the one behind its last.

    Each voxel is in one cell; with fewer voxels than cells, neighbouring cells share a voxel.
    """
    edges = np.arange(cells + 1) * size // cells
    return edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)


def coarse(mask: np.ndarray) -> np.ndarray:
    """The cells that hold at least one lesion voxel.

    Args:
        mask: (i, j, k), right, anterior, superior; what is not 0 is lesion.

    Returns:
        `CELLS`.
    """
    lesion = mask.view(np.uint8) if mask.dtype.itemsize == 1 else (mask != 0).view(np.uint8)
    # One pass over the volume as it lies in memory: rows forwards, along the slowest axis. The rest is done in a box.
    strides = lesion.strides
    forwards = tuple(slice(None, None, -1 if stride < 0 else None) for stride in strides)
    lesion = lesion[forwards]
    order = sorted(range(3), key=lambda axis: -abs(strides[axis]))
    shadow = np.bitwise_or.reduce(lesion, axis=order[0], keepdims=True)
    if not shadow.any():
        return np.zeros(CELLS, np.bool_)
    box = list(bounding_box(shadow))
    box[order[0]] = slice(0, mask.shape[order[0]])
    pooled = lesion[tuple(box)]
    for axis in order:
        size = mask.shape[axis]
        starts, ends = cell_bounds(size, CELLS[axis])
        if strides[axis] < 0:
            starts, ends = size - ends[::-1], size - starts[::-1]
        inside = (box[axis].start, box[axis].stop)
        pooled = _pool(pooled, axis, np.clip(starts, *inside) - inside[0], np.clip(ends, *inside) - inside[0])
    return pooled[forwards] != 0


def bounding_box(lesion: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all of a lesion, which must not be empty."""
    axes = range(lesion.ndim)
    occupied = [np.flatnonzero(lesion.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(along[0]), int(along[-1]) + 1) for along in occupied)


def _pool(volume: np.ndarray, axis: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The union of the slices of each cell along one axis; 0 for a cell without any."""
    slices = np.moveaxis(volume, axis, 0)
    if slices.strides[0] == min(slices.strides):  # each slice would be gathered byte by byte
        slices = np.ascontiguousarray(slices)
    pooled = np.zeros_like(slices, shape=(len(starts), *slices.shape[1:]), order="K")
    for cell in np.flatnonzero(starts < ends):
        np.bitwise_or.reduce(slices[starts[cell] : ends[cell]], axis=0, out=pooled[cell])
    return np.moveaxis(pooled, 0, axis)


def occupancy(cells: np.ndarray) -> bytes:
    """`coarse` of a mask, packed to a few hundred bytes; equal masks give equal bytes."""
    return zlib.compress(np.packbits(cells).tobytes(), 1)


def load_map(occupancies: Iterable[bytes]) -> np.ndarray:
    """In how many masks each cell has lesion.

    Args:
        occupancies: what `occupancy` made of each mask.

    Returns:
        `CELLS`.
    """
    n_cells = int(np.prod(CELLS))
    counts = np.zeros(n_cells, np.int32)
    for packed in occupancies:
        counts += np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=n_cells)
    return counts.reshape(CELLS)


def projection(counts: np.ndarray, plane: str) -> np.ndarray:
    """(rows, columns) as `planes.cut` lays a slice out: the highest count along the line of sight."""
    return turn(counts.max(axis=ACROSS[plane]))


def colour_scale(steps: int) -> np.ndarray:
    """(steps, 3): the RGB colours from no lesion to the highest count."""
    stops = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(np.linspace(0, 1, steps), stops, channel) for channel in zip(*_COLOURS, strict=True)]
    return np.rint(channels).astype(np.uint8).T


def map_png(counts: np.ndarray, highest: int) -> bytes:
    """A picture of one projection, one pixel per cell, coloured from 0 to `highest`."""
    levels = np.rint(counts * (255 / max(highest, 1))).astype(np.uint8)
    picture = Image.fromarray(levels)
    picture.putpalette(colour_scale(256).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
