from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

from nnunet_transformers.planning.windows import MAX_EDGE, MAX_TOKENS, choose_window, choose_windows

edges = st.sampled_from([3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96])


@given(st.lists(edges, min_size=2, max_size=3), st.floats(0.3, 3))
def test_windows_divide_maps_of_equal_spacing(map_size, spacing):
    window = choose_window(map_size, [spacing] * len(map_size))
    assert all(n % w == 0 for n, w in zip(map_size, window, strict=True))
    assert math.prod(window) <= MAX_TOKENS
    assert max(window) <= MAX_EDGE


@given(st.lists(st.integers(1, 130), min_size=1, max_size=3), st.data())
def test_any_map_has_a_window(map_size, data):
    spacing = [data.draw(st.floats(0.1, 10)) for _ in map_size]
    window = choose_window(map_size, spacing)
    assert all(1 <= w <= n for n, w in zip(map_size, window, strict=True))
    assert math.prod(window) <= MAX_TOKENS


@given(st.sampled_from([(1, 1, 1), (5, 1.56, 1.56), (3, 0.7, 0.7), (1, 1)]), st.data())
def test_windows_divide_every_map_of_a_patch_that_nnunet_plans(spacing, data):
    patch = [data.draw(st.sampled_from([20, 28, 40, 56, 64, 96, 112, 128, 160, 192, 224])) for _ in spacing]
    _, strides, _, patch, _ = get_pool_and_conv_props(spacing, patch, 4, 999999)
    size = list(patch)
    for stride, window in zip(strides, choose_windows(patch, spacing, strides), strict=True):
        size = [n // s for n, s in zip(size, stride, strict=True)]
        assert all(n % w == 0 for n, w in zip(size, window, strict=True)), (patch, strides, size, window)


@pytest.mark.parametrize(
    ("map_size", "spacing", "window"),
    [
        ((64, 64, 64), (2, 2, 2), (8, 8, 8)),
        ((4, 4, 4), (32, 32, 32), (4, 4, 4)),
        ((80, 96, 80), (2, 2, 2), (8, 8, 8)),
        ((20, 24, 20), (8, 8, 8), (5, 8, 10)),
        ((5, 16, 14), (20, 25, 25), (5, 8, 7)),
        ((32, 32), (1, 1), (16, 16)),
        ((11, 11, 11), (1, 1, 1), (6, 6, 6)),  # no divisor will do: padded to 12
    ],
)
def test_windows_of_known_maps(map_size, spacing, window):
    assert choose_window(map_size, spacing) == window


def test_a_patch_that_its_strides_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"cannot be divided.*patch \(30, 32\)"):
        choose_windows((30, 32), (1, 1), [(1, 1), (2, 2), (2, 2)])
