from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.networks.layers import windows as windows_module
from nnunet_transformers.networks.layers.swin_block import SwinBlock
from nnunet_transformers.networks.layers.windows import MapWindows, build_window_layout, clip_window


@st.composite
def layouts(draw):
    dims = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, (60, 13, 7)[dims - 1]), min_size=dims, max_size=dims))
    windows = [draw(st.integers(1, n)) for n in sizes]
    shifts = [draw(st.integers(0, w - 1)) for w in windows]
    return tuple(sizes), tuple(windows), tuple(shifts)


@given(layouts(), st.integers(1, 3))
def test_every_token_goes_into_a_window_and_comes_back(layout, batch):
    size = layout[0]
    windows = MapWindows(*layout)
    x = torch.arange(batch * math.prod(size) * 2, dtype=torch.float64).view(batch, *size, 2)
    assert torch.equal(windows.from_windows(windows.to_windows(x)), x)


@given(layouts())
def test_tokens_see_each_other_exactly_when_they_are_neighbours_in_the_shifted_map(layout):
    size, window, shift = layout
    built = build_window_layout(size, window, shift)
    sees = torch.zeros(math.prod(size), math.prod(size), dtype=torch.bool)
    for group in built.groups:
        for w in range(group.start, group.stop):
            real = torch.ones_like(built.source[w], dtype=torch.bool) if built.padding is None else ~built.padding[w]
            allowed = torch.ones(len(real), len(real), dtype=torch.bool) if group.mask is None else group.mask == 0
            sources = built.source[w][real]
            sees[sources[:, None], sources[None]] = allowed[real][:, real]
    # Along an axis, position p lies in window (p - shift) // window of the rolled map; what was rolled round is apart.
    cells = [[(p - s) // w if p >= s else -1 for p in range(n)] for n, w, s in zip(size, window, shift, strict=True)]
    cell = list(itertools.product(*cells))
    cell_number = {one: number for number, one in enumerate(sorted(set(cell)))}
    numbers = torch.tensor([cell_number[one] for one in cell])
    expected = numbers[:, None] == numbers[None]
    assert torch.equal(sees, expected)


@given(layouts())
def test_no_padded_token_is_ever_a_key_of_a_real_one(layout):
    built = build_window_layout(*layout)
    for group in built.groups:
        for w in range(group.start, group.stop):
            if built.padding is not None and built.padding[w].any():
                assert group.mask is not None
                assert torch.isinf(group.mask[~built.padding[w]][:, built.padding[w]]).all()
                assert (group.mask == 0).any(dim=1).all(), "a query without any key gives NaN"


def test_masks_are_stored_by_kind_of_window_at_most_eight_in_3d():
    layout = build_window_layout((32, 32, 32), (8, 8, 8), (4, 4, 4))
    assert len(layout.groups) == 8
    assert layout.padding is None


def test_gradients_pass_the_partition_unchanged_and_padding_receives_none():
    windows = MapWindows((5, 6), (4, 4), (2, 2))
    x = torch.randn(2, 5, 6, 3, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(2, 5, 6, 3, dtype=torch.float64)
    (windows.from_windows(3 * windows.to_windows(x)) * factor).sum().backward()
    torch.testing.assert_close(x.grad, 3 * factor)
    rows = windows.to_windows(x.detach()).requires_grad_()
    windows.from_windows(rows).sum().backward()
    assert torch.equal(rows.grad, windows.to_windows(torch.ones_like(x)))
    assert (rows.grad == 0).any()


def test_a_window_as_large_as_the_map_is_not_shifted():
    assert clip_window((4, 16), (8, 8), (4, 4)) == ((4, 8), (0, 4))


@pytest.mark.parametrize(("window", "shift"), [((9, 4), (0, 0)), ((4, 4), (4, 0)), ((0, 4), (0, 0))])
def test_windows_that_do_not_fit_are_refused(window, shift):
    with pytest.raises(ValueError, match="do not fit"):
        build_window_layout((8, 8), window, shift)


def test_a_network_asks_for_the_windows_of_a_shape_once_unlike_monai():
    block = SwinBlock(4, 1, (2, 2), (1, 1))
    windows_module.window_layout.cache_clear()
    with torch.no_grad():
        for batch in (1, 2):
            block(torch.randn(batch, 4, 6, 4))
    assert windows_module.window_layout.cache_info().misses == 1


def test_window_and_shift_are_left_as_given_and_eval_drops_nothing_unlike_torchvision():
    # torchvision's shifted_window_attention sets entries of the caller's shift to 0 and applies dropout in eval.
    window, shift = [4, 2], [2, 1]
    block = SwinBlock(4, 1, window, shift, drop_path=0.5).eval()
    x = torch.randn(2, 4, 6, 4)
    with torch.no_grad():
        assert torch.equal(block(x), block(x))
    assert (window, shift) == ([4, 2], [2, 1])
    assert (block.attention.window, block.attention.shift) == ((4, 2), (2, 1))
