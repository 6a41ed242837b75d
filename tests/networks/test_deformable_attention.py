"""Deformable attention against its definition, written out, and against what can be told in advance."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from nnunet_transformers.networks.layers import deformable_attention
from nnunet_transformers.networks.layers.deformable_attention import DeformableAttention, sample

SIZES = pytest.mark.parametrize("size", [(4, 6), (3, 4, 5)], ids=["2d", "3d"])


def coordinates(size: tuple[int, ...]) -> Tensor:
    """The index of each voxel along each axis, (1, dims, *size)."""
    return torch.stack(torch.meshgrid(*[torch.arange(n).double() for n in size], indexing="ij"))[None]


def looking_at(offset: Tensor, num_levels: int = 1) -> DeformableAttention:
    """One head and one point per map, at this offset for every token and of equal weights; values as they are."""
    dims = len(offset)
    attention = DeformableAttention(dims, 1, num_levels, 1, dims).double()
    with torch.no_grad():
        for linear, weight in (
            (attention.value, torch.eye(dims)),
            (attention.proj, torch.eye(dims)),
            (attention.sampling_offsets, torch.zeros(num_levels * dims, dims)),
            (attention.attention_weights, torch.zeros(num_levels, dims)),
        ):
            linear.weight.copy_(weight)
        attention.sampling_offsets.bias.copy_(offset.repeat(num_levels))
    return attention


def tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


@SIZES
def test_a_point_has_the_value_interpolated_between_voxel_centres(size):
    # A map that holds its own coordinates: linear interpolation gives the point's.
    torch.manual_seed(0)
    extent = torch.tensor(size).double()
    expected = torch.rand(1, 7, 2, len(size), dtype=torch.double) * (extent - 1)
    values = sample(coordinates(size), (expected + 0.5) / extent)
    torch.testing.assert_close(values, expected.movedim(-1, 1), rtol=0, atol=1e-12)


@SIZES
def test_outside_the_map_there_is_nothing(size):
    points = torch.full((1, 1, 2, len(size)), 0.5, dtype=torch.double)
    points[0, 0, 0, 0], points[0, 0, 1, -1] = -0.5, 1.5
    assert not sample(torch.ones(1, 2, *size, dtype=torch.double), points).any()


@SIZES
def test_without_offsets_a_token_sees_itself_unlike_the_authors_code(size, monkeypatch):
    x = tokens(coordinates(size))
    attention = looking_at(torch.zeros(len(size)))
    torch.testing.assert_close(attention(x, torch.zeros_like(x[0]), (size,)), x, rtol=0, atol=1e-6)
    # There, points are (z, x, y) and are read as (x, y, z).
    wrong = [*range(1, len(size)), 0] if len(size) == 3 else [1, 0]
    monkeypatch.setattr(deformable_attention, "sample", lambda maps, points: sample(maps, points[..., wrong]))
    assert (attention(x, torch.zeros_like(x[0]), (size,)) - x).abs().max() > 1


@SIZES
def test_an_offset_of_whole_tokens_shifts_the_map(size):
    maps = torch.randn(2, len(size), *size, dtype=torch.double)
    offset = torch.tensor([1, -1, 2])[: len(size)]
    x = tokens(maps)
    out = looking_at(offset.double())(x, torch.zeros_like(x[0]), (size,))
    padded = nn.functional.pad(maps, [2] * (2 * len(size)))
    for axis, (n, shift) in enumerate(zip(size, offset.tolist(), strict=True), start=2):
        padded = padded.narrow(axis, 2 + shift, n)
    torch.testing.assert_close(out, tokens(padded), rtol=0, atol=1e-6)


def test_offsets_are_in_tokens_of_the_map_they_look_at():
    # Both maps hold the place along their second axis, from 0 to 1; a point one token further on is 1/8 further in the
    # large map and 1/4 in the small one, and the two weigh the same.
    sizes = ((8, 8), (4, 4))
    x = torch.cat([tokens((coordinates(size) + 0.5) / size[0]) for size in sizes], dim=1)
    out = looking_at(torch.tensor([0.0, 1.0]), num_levels=2)(x, torch.zeros_like(x[0]), sizes)
    place, seen = (t[0, :64, 1].view(8, 8)[2:6, 2:5] for t in (x, out))
    torch.testing.assert_close(seen, place + (1 / 8 + 1 / 4) / 2, rtol=0, atol=1e-6)


@SIZES
def test_weights_sum_to_one(size):
    # A constant stays what it is, whatever the weights, for tokens that look at no border.
    torch.manual_seed(0)
    dims = len(size)
    attention = looking_at(torch.zeros(dims), num_levels=2)
    nn.init.normal_(attention.attention_weights.weight)
    finer = tuple(2 * n for n in size)
    n_tokens = math.prod(size) + math.prod(finer)
    x = torch.randn(dims, dtype=torch.double).expand(1, n_tokens, -1)
    out = attention(x, torch.randn(n_tokens, dims, dtype=torch.double), (size, finer))
    out = out[:, : math.prod(size)]
    torch.testing.assert_close(out, x[:, : math.prod(size)], rtol=0, atol=1e-6)


def test_at_the_start_each_head_looks_one_to_four_tokens_along_a_direction_of_its_own():
    for dims in (2, 3):
        steps = DeformableAttention(24, 6, 2, 4, dims).sampling_offsets.bias.detach().view(6, 2, 4, dims)
        assert steps.abs().amax(-1).sub(torch.arange(1.0, 5.0)).abs().max() < 1e-6
        directions = steps[:, 0, 0]
        assert torch.pdist(directions).min() > 0.1
        torch.testing.assert_close(steps, directions[:, None, None] * torch.arange(1.0, 5.0)[:, None].expand(2, 4, 1))


def written_out(attention: DeformableAttention, x: Tensor, position: Tensor, sizes: tuple[tuple[int, ...], ...]):
    """Equation 3 of Deformable DETR for one sample, token by token."""
    heads, dims = attention.num_heads, len(sizes[0])
    starts = [0, *itertools.accumulate(math.prod(size) for size in sizes)]
    queries, values = x + position, attention.value(x).unflatten(-1, (heads, -1))
    shape = (heads, attention.num_levels, attention.num_points)
    offsets = attention.sampling_offsets(queries).unflatten(-1, (*shape, dims))
    weights = attention.attention_weights(queries).unflatten(-1, (heads, -1)).softmax(-1).unflatten(-1, shape[1:])
    centres = [
        [(i + 0.5) / n for i, n in zip(index, size, strict=True)]
        for size in sizes
        for index in itertools.product(*map(range, size))
    ]
    out = torch.zeros_like(values)
    for token, head, level, point in itertools.product(range(len(x)), *map(range, shape)):
        size, offset = sizes[level], offsets[token, head, level, point]
        at = [c * n + o - 0.5 for c, n, o in zip(centres[token], size, offset, strict=True)]
        for corner in itertools.product(*[(math.floor(a), math.floor(a) + 1) for a in at]):
            if all(0 <= c < n for c, n in zip(corner, size, strict=True)):
                flat = 0
                for c, n in zip(corner, size, strict=True):
                    flat = flat * n + c
                part = math.prod(1 - abs(a - c) for a, c in zip(at, corner, strict=True))
                out[token, head] += weights[token, head, level, point] * part * values[starts[level] + flat, head]
    return attention.proj(out.flatten(1))


@pytest.mark.parametrize("sizes", [((3, 4), (2, 2)), ((2, 3, 2), (1, 2, 1))], ids=["2d", "3d"])
def test_it_is_the_sum_over_heads_maps_and_points(sizes):
    torch.manual_seed(0)
    attention = DeformableAttention(8, 2, 2, 2, len(sizes[0])).double()
    nn.init.normal_(attention.sampling_offsets.weight, std=0.3)
    nn.init.normal_(attention.attention_weights.weight)
    n_tokens = sum(math.prod(size) for size in sizes)
    x, position = torch.randn(2, n_tokens, 8).double(), torch.randn(n_tokens, 8).double()
    with torch.no_grad():
        out = attention(x, position, sizes)
        for sample_out, sample_x in zip(out, x, strict=True):
            expected = written_out(attention, sample_x, position, sizes)
            torch.testing.assert_close(sample_out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", [((3, 2), (2, 1)), ((2, 2, 3), (1, 1, 2))], ids=["2d", "3d"])
def test_gradients_are_those_of_finite_differences(sizes):
    torch.manual_seed(0)
    attention = DeformableAttention(4, 2, 2, 1, len(sizes[0])).double()
    # Away from whole tokens, where linear interpolation has a kink.
    nn.init.uniform_(attention.sampling_offsets.bias, 0.2, 0.4)
    n_tokens = sum(math.prod(size) for size in sizes)
    x = torch.randn(1, n_tokens, 4, dtype=torch.double, requires_grad=True)
    position = torch.randn(n_tokens, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: attention(a, b, sizes), (x, position))


def test_points_keep_their_place_in_bfloat16_unlike_in_the_authors_code(monkeypatch):
    # bfloat16 has 8 bits for a coordinate: not enough to tell 600 tokens apart. The values themselves fit into it.
    size = (2, 600)
    x = torch.randint(0, 100, (1, 1200, 2)).float()
    attention = looking_at(torch.zeros(2)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(attention(x, torch.zeros(1200, 2), (size,)).float(), x, rtol=0, atol=0.5)
        monkeypatch.setattr(
            deformable_attention, "sample", lambda maps, points: sample(maps, points.bfloat16().float())
        )
        assert (attention(x, torch.zeros(1200, 2), (size,)).float() - x).abs().max() > 5


def test_channels_that_cannot_be_split_into_heads_are_refused():
    with pytest.raises(ValueError, match="10 channels cannot be split into 4 heads"):
        DeformableAttention(10, 4, 1, 1, 2)
