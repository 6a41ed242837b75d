from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.networks.layers.relative_position import RelativePositionBias, relative_position_index

windows = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(windows, st.data())
def test_two_pairs_share_an_entry_exactly_when_they_share_an_offset(window, data):
    table = [w + data.draw(st.integers(0, 3)) for w in window]
    index = relative_position_index(window, table)
    tokens = list(itertools.product(*map(range, window)))
    row_of_offset: dict[tuple[int, ...], int] = {}
    for i, query in enumerate(tokens):
        for j, key in enumerate(tokens):
            offset = tuple(q - k for q, k in zip(query, key, strict=True))
            assert row_of_offset.setdefault(offset, index[i, j]) == index[i, j]
    assert len(set(row_of_offset.values())) == len(row_of_offset)
    assert max(row_of_offset.values()) < np.prod([2 * t - 1 for t in table])


def test_a_clipped_window_uses_the_entries_of_its_own_offsets_unlike_monai():
    ours = relative_position_index((4, 4, 4), (7, 7, 7))
    large = relative_position_index((7, 7, 7), (7, 7, 7))
    inside = [np.ravel_multi_index(t, (7, 7, 7)) for t in itertools.product(range(4), repeat=3)]
    assert np.array_equal(ours, large[np.ix_(inside, inside)])
    # MONAI cuts the first 64 rows and columns out of the large window's index instead.
    assert (ours != large[:64, :64]).sum() == 3886


def test_a_window_larger_than_the_table_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        relative_position_index((8, 4), (7, 7))


def test_the_bias_is_the_table_entry_of_each_head_and_offset():
    bias = RelativePositionBias((3, 4), num_heads=2)
    out = bias((2, 3))
    assert out.shape == (2, 6, 6)
    index = relative_position_index((2, 3), (3, 4))
    torch.testing.assert_close(out[1, 0, 5], bias.table[index[0, 5], 1])
