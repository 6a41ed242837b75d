from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_conversion.qc.lesion_load import CELLS, cell_bounds, coarse, load_map, map_png, occupancy, projection


@st.composite
def sparse_masks(draw: st.DrawFn) -> np.ndarray:
    """A few lesion voxels, in volumes with fewer and with more voxels than cells."""
    shape = draw(st.tuples(*[st.sampled_from([1, 7, 39, 40, 41, 63, 100])] * 3))
    voxel = st.tuples(*[st.integers(0, size - 1) for size in shape])
    mask = np.zeros(shape, np.uint8)
    for index in draw(st.lists(voxel, max_size=5)):
        mask[index] = draw(st.sampled_from([1, 2, 255]))
    return mask


def in_memory(mask: np.ndarray, order: tuple[int, ...], backwards: list[bool], dtype: str) -> np.ndarray:
    """The same mask, lying differently in memory."""
    steps = tuple(slice(None, None, -1 if back else None) for back in backwards)
    values = (
        mask.astype(int) * 256 if dtype == ">i2" else mask / 512 if dtype == "float64" else mask
    )  # not 0, but so as a byte
    stored = np.ascontiguousarray(values.astype(dtype)[steps].transpose(order))
    return stored.transpose(np.argsort(order))[steps]


@given(st.integers(1, 100), st.integers(1, 100))
def test_each_voxel_is_in_one_cell_or_fills_several(size: int, cells: int) -> None:
    starts, ends = cell_bounds(size, cells)
    assert np.all(starts < ends)
    times_covered = np.zeros(size, int)
    for start, end in zip(starts, ends, strict=True):
        times_covered[start:end] += 1
    assert times_covered.sum() == max(size, cells)
    assert times_covered.min() == 1 or size < cells
    assert times_covered.min() >= 1


@settings(deadline=None, max_examples=60)
@given(
    sparse_masks(),
    st.permutations(range(3)),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from(["uint8", "bool", ">i2", "float64"]),
)
def test_a_cell_is_set_where_it_holds_lesion_however_the_mask_lies_in_memory(mask, order, backwards, dtype) -> None:
    expected = np.zeros(CELLS, bool)
    bounds = [cell_bounds(size, cells) for size, cells in zip(mask.shape, CELLS, strict=True)]
    for voxel in np.argwhere(mask):
        touched = [(starts <= at) & (at < ends) for (starts, ends), at in zip(bounds, voxel, strict=True)]
        expected |= np.multiply.outer(np.multiply.outer(*touched[:2]), touched[2])
    np.testing.assert_array_equal(coarse(in_memory(mask, tuple(order), backwards, dtype)), expected)


@settings(deadline=None, max_examples=30)
@given(st.lists(sparse_masks(), max_size=4))
def test_the_load_map_counts_the_masks_with_lesion_in_a_cell(masks: list[np.ndarray]) -> None:
    expected = sum((coarse(mask).astype(int) for mask in masks), np.zeros(CELLS, int))
    np.testing.assert_array_equal(load_map(occupancy(coarse(mask)) for mask in masks), expected)


def test_a_mask_takes_little_room() -> None:
    mask = np.zeros((197, 233, 189), np.uint8)
    mask[20:90, 60:160, 50:140] = 1
    assert len(occupancy(coarse(mask))) < 1000


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_projection_shows_right_front_and_top_where_the_slices_do(plane: str) -> None:
    counts = np.zeros(CELLS, np.int32)
    counts[-1, -1, -1] = 3
    shown = projection(counts, plane)
    assert np.argwhere(shown).tolist() == [[0, 0]]
    assert shown[0, 0] == 3


def test_the_map_is_darker_where_there_are_more_lesions() -> None:
    counts = np.arange(6, dtype=np.int32).reshape(2, 3)
    with Image.open(io.BytesIO(map_png(counts, 5))) as picture:
        assert picture.size == (3, 2)
        brightness = np.asarray(picture.convert("RGB")).sum(axis=-1).ravel()
    assert np.all(np.diff(brightness.astype(int)) < 0)
