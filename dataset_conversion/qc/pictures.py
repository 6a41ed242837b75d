"""One small picture of a case: three planes through its lesion, a row for each image, with the outline of the mask."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from dataset_conversion.qc.lesion_load import CELLS, bounding_box, cell_bounds, coarse
from dataset_conversion.qc.planes import ACROSS, LEFT_SIDE, PLANES, cut

OUTLINE = (230, 159, 0)
"""RGB: the orange of Okabe and Ito, which stands out from grey for colour-blind readers too."""
# Pixels along the longest side of the volume: its own voxels between these, else scaled.
_SMALLEST, _LARGEST = 160, 256
_GAP = 4
_JPEG_QUALITY = 75
# Greys up to 254, and the outline.
_WHITE, _OUTLINE_LEVEL = 254, 255
_PALETTE = bytes([*(level for level in range(_WHITE + 1) for _ in range(3)), *OUTLINE])
# 5 × 7 pixels, one number per row: a picture keeps its sides when it is copied elsewhere.
_LETTERS = {"R": (30, 17, 17, 30, 20, 18, 17), "A": (14, 17, 17, 31, 17, 17, 17)}

Index = tuple[int, int, int]
Grey = np.ndarray
Bools = np.ndarray


def montage(
    images: Mapping[str, np.ndarray],
    mask: np.ndarray | None,
    spacing: Sequence[float],
    cells: np.ndarray | None = None,
) -> bytes:
    """Axial, coronal and sagittal slices side by side, one row per image, as a JPEG of about 20 kB per row.

    The planes go through `lesion_slices`, or the middle of the volume where there is no lesion. Sides are as in
    `planes`; the grey scale of a row spans the 1st to the 99.5th percentile of what it shows.

    Args:
        images: (i, j, k) each, right, anterior, superior, all of one shape; any real values, also NaN.
        mask: on the same grid; what is not 0 is lesion. None: the case has no mask.
        spacing: mm along i, j, k.
        cells: `lesion_load.coarse` of the mask, where it is known already.

    Returns:
        The bytes of the JPEG file.

    Raises:
        ValueError: without an image, or when images or mask differ in shape.
    """
    shapes = {image.shape for image in images.values()} | ({mask.shape} if mask is not None else set())
    if not images or len(shapes) > 1:
        raise ValueError(f"a montage needs images and a mask of one shape, got {sorted(shapes)}")
    shape = shapes.pop()
    lesion_at = lesion_slices(mask, cells) if mask is not None else None
    at = lesion_at or tuple(size // 2 for size in shape)
    sizes = _panel_sizes(shape, spacing)
    greys = [_to_grey([cut(image, plane, at[ACROSS[plane]]) for plane in PLANES]) for image in images.values()]
    panels = [[_resized(section, size) for section, size in zip(row, sizes, strict=True)] for row in greys]
    for row in panels:
        for panel, plane in zip(row, PLANES, strict=True):
            _write(LEFT_SIDE[plane], panel)
    canvas = _tiled(panels)
    if mask is not None and lesion_at:
        sections = [cut(mask, plane, at[ACROSS[plane]]) != 0 for plane in PLANES]
        outlines = [_outline(section, size) for section, size in zip(sections, sizes, strict=True)]
        canvas[_tiled([outlines] * len(images))] = _OUTLINE_LEVEL
    picture = Image.fromarray(canvas)
    picture.putpalette(_PALETTE)
    file = io.BytesIO()
    # Colour at full resolution: halved, as is usual, it would smear an outline of one pixel.
    picture.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def lesion_slices(mask: np.ndarray, cells: np.ndarray | None = None) -> Index | None:
    """Along each axis the slice with most lesion, within the box around the largest lesion; None for an empty mask.

    Lesions are told apart on the cells of `lesion_load.coarse`, so that those a few mm apart count as one.

    Args:
        mask: (i, j, k); what is not 0 is lesion.
        cells: its `lesion_load.coarse`, where it is known already.
    """
    cells = coarse(mask) if cells is None else cells
    if not cells.any():
        return None
    occupied = bounding_box(cells)
    labels, _ = ndimage.label(cells[occupied], structure=np.ones((3, 3, 3)))
    n_cells = np.bincount(labels.ravel())
    n_cells[0] = 0
    largest = labels == n_cells.argmax()
    extent = bounding_box(largest)
    largest = largest[extent]
    # First and last voxel of each cell along the three sides of the box around the largest lesion.
    bounds = []
    for axis in range(3):
        first = occupied[axis].start + extent[axis].start
        cells_inside = slice(first, first + largest.shape[axis])
        starts, ends = cell_bounds(mask.shape[axis], CELLS[axis])
        bounds.append((starts[cells_inside], ends[cells_inside]))
    box = [slice(starts[0], ends[-1]) for starts, ends in bounds]
    index = []
    for axis, (starts, ends) in enumerate(bounds):
        cell = _middle_of_highest(largest.sum(axis=_others(axis)))
        slab = [*box]
        slab[axis] = slice(starts[cell], ends[cell])
        voxels = [np.count_nonzero(section) for section in np.moveaxis(mask[tuple(slab)], axis, 0)]
        index.append(int(starts[cell]) + _middle_of_highest(np.array(voxels)))
    return index[0], index[1], index[2]


def _others(axis: int) -> tuple[int, int]:
    return (1, 2) if axis == 0 else (0, 2) if axis == 1 else (0, 1)


def _middle_of_highest(profile: np.ndarray) -> int:
    highest = np.flatnonzero(profile == profile.max())
    return int(highest[len(highest) // 2])


def _panel_sizes(shape: Sequence[int], spacing: Sequence[float]) -> list[tuple[int, int]]:
    """(width, height) in pixels of each plane; a pixel has the same size in mm everywhere."""
    extents = [size * step for size, step in zip(shape, spacing, strict=True)]
    longest = max(extents)
    mm_per_pixel = longest / min(max(longest / min(spacing), _SMALLEST), _LARGEST)
    pixels = [max(1, round(extent / mm_per_pixel)) for extent in extents]
    return [(pixels[columns], pixels[rows]) for columns, rows in (_others(ACROSS[plane]) for plane in PLANES)]


def _to_grey(sections: Sequence[np.ndarray]) -> list[Grey]:
    """Slices of one image on one grey scale."""
    values = [section.astype(np.float32) for section in sections]
    low, high = _window(values)
    if not low < high:
        return [np.full(section.shape, 127, np.uint8) for section in values]
    scale = _WHITE / (high - low)
    return [np.fmin(np.fmax((section - low) * scale, 0), _WHITE).astype(np.uint8) for section in values]


def _window(sections: Sequence[np.ndarray]) -> tuple[float, float]:
    """What to show as black and as white."""
    sample = np.concatenate([section[::3, ::3].ravel() for section in sections])
    sample = sample[np.isfinite(sample)]
    if sample.size:
        low, high = np.percentile(sample, (1, 99.5))
        if low < high:
            return float(low), float(high)
    # A few bright voxels on an even background, or the same value everywhere.
    finite = np.concatenate([section[np.isfinite(section)] for section in sections])
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _resized(section: Grey, size: tuple[int, int]) -> Grey:
    """(height, width) of `size`, interpolated; never a view of the section."""
    if section.shape == (size[1], size[0]):
        return section.copy()
    return np.array(Image.fromarray(section).resize(size, Image.Resampling.BILINEAR))


def _outline(lesion: Bools, size: tuple[int, int]) -> Bools:
    """The pixels just outside the lesion, so that nothing of it is covered."""
    if lesion.shape != (size[1], size[0]):
        # Of several voxels in one pixel, one of lesion is enough: a small lesion stays to be seen.
        shrunk = Image.fromarray(np.multiply(lesion, 255, dtype=np.uint8)).resize(size, Image.Resampling.BOX)
        lesion = np.asarray(shrunk) != 0
    grown = lesion.copy()
    grown[1:] |= lesion[:-1]
    grown[:-1] |= lesion[1:]
    grown[:, 1:] |= lesion[:, :-1]
    grown[:, :-1] |= lesion[:, 1:]
    return grown & ~lesion


def _write(letter: str, panel: Grey) -> None:
    """In white on black at the middle of the left edge, where the panel has room for it."""
    bitmap = np.unpackbits(np.array(_LETTERS[letter], np.uint8)[:, None], axis=1)[:, 2:]
    bitmap = np.pad(bitmap, 1).repeat(2, axis=0).repeat(2, axis=1)
    height, width = bitmap.shape
    top = (panel.shape[0] - height) // 2
    if top >= 0 and panel.shape[1] >= width:
        panel[top : top + height, :width] = bitmap * np.uint8(_WHITE)


def _tiled(panels: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of panels on black (or False), each panel in the middle of its row."""
    heights = [max(panel.shape[0] for panel in row) for row in panels]
    width = sum(panel.shape[1] + _GAP for panel in panels[0]) - _GAP
    canvas = np.zeros((sum(heights) + _GAP * (len(panels) - 1), width), panels[0][0].dtype)
    top = 0
    for row, row_height in zip(panels, heights, strict=True):
        left = 0
        for panel in row:
            height, width = panel.shape
            start = top + (row_height - height) // 2
            canvas[start : start + height, left : left + width] = panel
            left += width + _GAP
        top += row_height + _GAP
    return canvas
