"""CoTr against the paper and the facts of the authors' implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.plans import paper_arguments
from torch import nn

from nnunet_transformers.networks.cotr import CoTr, UpsampledHead
from nnunet_transformers.networks.layers.interpolation import resize
from nnunet_transformers.networks.layers.level_position import LevelPositionEmbedding, sine_encoding
from nnunet_transformers.networks.planned_network import Configuration

PUBLISHED_STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))


def network(strides, **changed: object) -> CoTr:
    """With the published convolutions: no bias, InstanceNorm with affine map, LeakyReLU."""
    dims = len(strides[0])
    arguments = {
        "input_channels": 1,
        "n_stages": len(strides),
        "features_per_stage": 32,
        "kernel_sizes": 3,
        "strides": strides,
        "n_blocks_per_stage": [1, 1, 3, 3, 2][: len(strides)],
        "num_classes": 2,
        "n_conv_per_stage_decoder": 2,
        "norm_op_kwargs": {"affine": True},
        **paper_arguments(dims),
    }
    return CoTr(**{**arguments, **changed})


def narrow(strides=PUBLISHED_STRIDES, **changed: object) -> CoTr:
    return network(strides, **{"widths": (4, 8, 12), "num_layers": 2, "dropout": 0.0, **changed}).eval()


def configuration(strides, relative_width: float = 1.0) -> Configuration:
    dims = len(strides[0])
    return Configuration((64,) * dims, (1.0,) * dims, strides, ((4,) * dims,) * len(strides), relative_width)


def test_the_published_network_has_the_number_of_parameters_of_the_authors_code():
    # Measured on U_ResTran3D(norm_cfg="IN", activation_cfg="LeakyReLU", num_classes=2), its four heads included.
    with torch.device("meta"):
        published = network(PUBLISHED_STRIDES)
    assert sum(p.numel() for p in published.parameters()) == 41_864_008
    assert sum(p.numel() for p in published.transformer.parameters()) == 9_316_992
    assert sum(p.numel() for p in published.encoder.parameters()) == 20_500_800


def test_the_published_plan_gives_the_published_maps_and_settings():
    own = CoTr.own_arguments(configuration(PUBLISHED_STRIDES))
    assert own == {
        "n_blocks_per_stage": [1, 1, 3, 3, 2],
        "widths": [64, 192, 384],
        "num_levels": 2,
        "dropout": 0.0,
    }
    with torch.device("meta"):
        maps = network(PUBLISHED_STRIDES, **own).encoder(torch.empty(1, 1, 48, 192, 192))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 48, 96, 96),
        (192, 24, 48, 48),
        (384, 12, 24, 24),
        (384, 6, 12, 12),
    ]


@pytest.mark.parametrize(
    ("n_stages", "widths", "num_levels"),
    [
        (3, [64, 384], 1),
        (4, [64, 384, 384], 2),
        (5, [64, 192, 384, 384], 2),
        (6, [64, 192, 384, 384, 384], 3),
        (8, [64, 192, 384, 384, 384, 384, 384], 5),
    ],
)
def test_tokens_are_the_published_stages_and_all_deeper_ones_and_two_at_least(n_stages, widths, num_levels):
    strides = ((1, 1), *[(2, 2)] * (n_stages - 1))
    own = CoTr.own_arguments(configuration(strides))
    assert own["num_levels"] == num_levels
    with torch.device("meta"):
        planned = network(strides, **own)
        assert [m.shape[1] for m in planned.encoder(torch.empty(1, 1, 256, 256))] == widths
        assert len(planned.transformer.position_embedding.levels) == num_levels


def test_the_stem_does_not_convolve_across_slices_where_the_plan_does_not():
    thick = narrow(kernel_sizes=[(1, 3, 3), *[(3, 3, 3)] * 4])
    assert thick.encoder.stem.conv.weight.shape[2:] == (1, 7, 7)
    assert narrow().encoder.stem.conv.weight.shape[2:] == (7, 7, 7)


def test_it_runs_on_the_device_of_its_input_unlike_the_authors_code():
    # There, the position encoding and the masks call .cuda().
    x = torch.empty(2, 1, 8, 32, 32, device="meta")
    logits = narrow().to("meta")(x)
    assert logits.device == x.device
    assert logits.shape == (2, 2, 8, 32, 32)


def test_tokens_of_each_map_look_at_the_others():
    transformer = narrow().transformer
    maps = [torch.randn(1, 12, *size, requires_grad=True) for size in ((4, 8, 8), (2, 4, 4))]
    for out in transformer(maps):
        for gradient in torch.autograd.grad(out[:, 0].sum(), maps, retain_graph=True):
            assert gradient.any()


def test_the_transformer_keeps_maps_apart_and_in_order():
    # Without blocks each map comes back as it went in.
    transformer = narrow(num_layers=0).transformer
    maps = [torch.randn(2, 12, *size) for size in ((4, 8, 6), (2, 4, 3))]
    for out, expected in zip(transformer(maps), maps, strict=True):
        torch.testing.assert_close(out, expected, rtol=0, atol=0)


def test_the_decoder_adds_the_transformers_maps():
    torch.manual_seed(0)
    whole = narrow(deep_supervision=True)
    x = torch.randn(1, 1, 16, 32, 32)
    seen = []
    whole.decoder.joins[0].register_forward_hook(lambda module, args, out: seen.extend([*args, out]))
    with torch.no_grad():
        whole(x)
        *_, finer, deepest = whole.encoder(x)
        finer, deepest = whole.transformer([finer, deepest])
    deep, upsampled, skip, joined = seen
    torch.testing.assert_close(deep, deepest)
    torch.testing.assert_close(skip, finer)
    torch.testing.assert_close(joined, upsampled + finer)


@pytest.mark.parametrize("stride", [(2, 2), (1, 2, 2)])
def test_logits_of_the_up_sampled_map_are_up_sampled_logits(stride):
    dims = len(stride)
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2](8, 3, 1).double()
    x = torch.randn(2, 8, *(4, 5, 6)[:dims]).double()
    upsampled = resize(x, [n * s for n, s in zip(x.shape[2:], stride, strict=True)])
    torch.testing.assert_close(UpsampledHead(conv, stride)(x), conv(upsampled), rtol=0, atol=1e-12)


def test_the_sine_encoding_is_the_papers_along_each_axis():
    encoding = sine_encoding((4, 6, 5), 36).numpy()
    assert encoding.shape == (4, 6, 5, 36)
    for axis, n in enumerate((4, 6, 5)):
        of_axis = np.moveaxis(encoding[..., 12 * axis : 12 * axis + 12], axis, 0)
        assert np.ptp(of_axis.reshape(n, -1, 12), axis=1).max() == 0  # the same wherever the other axes stand
        angle = 2 * math.pi * (np.arange(n) + 0.5) / n
        for channel, wave in enumerate([np.sin, np.cos, np.sin]):
            np.testing.assert_allclose(of_axis[:, 0, 0, channel], wave(angle), rtol=0, atol=1e-12)
        for channel, wave in enumerate([np.cos, np.sin, np.cos], start=9):
            np.testing.assert_allclose(of_axis[:, 0, 0, channel], wave(angle * 10000 ** (-9 / 12)), rtol=0, atol=1e-12)


def test_the_sine_encoding_tells_all_tokens_apart_whatever_the_channels():
    for size, dim in [((4, 6), 8), ((4, 6), 7), ((3, 4, 2), 10), ((3, 4, 2), 12)]:
        rows = sine_encoding(size, dim).reshape(-1, dim).numpy()
        assert len(np.unique(rows.round(6), axis=0)) == math.prod(size)


def test_a_token_knows_its_map():
    embedding = LevelPositionEmbedding(2, 12)
    first, second = embedding(((2, 3), (2, 3))).split(6)
    torch.testing.assert_close(second - first, (embedding.levels[1] - embedding.levels[0]).expand(6, -1))


def test_dropout_acts_in_training_only():
    planned = narrow(dropout=0.5)
    # Of the attention's output and both layers of the MLP, in each of two blocks.
    assert [m.p for m in planned.modules() if isinstance(m, nn.Dropout)] == [0.5] * 3 * 2
    x = torch.randn(1, 1, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(planned(x), planned(x))
        planned.train()
        assert not torch.equal(planned(x), planned(x))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"num_levels": 4}, "num_levels=4"),
        ({"num_levels": 0}, "num_levels=0"),
        ({"widths": (4, 12)}, "widths needs 3 entries"),
        ({"n_blocks_per_stage": [1, 1, 3, 0, 2]}, "needs a block"),
        ({"widths": (4, 8, 16)}, "16 channels cannot be split into 6 heads"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        narrow(**changed)
