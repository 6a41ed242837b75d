"""nnFormer against the paper and against what the authors' code does otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.plans import paper_arguments
from torch import Tensor, nn

from nnunet_transformers.networks.layers import windows
from nnunet_transformers.networks.layers.relative_position import relative_position_index
from nnunet_transformers.networks.layers.skip_attention import SkipAttentionBlock, WindowCrossAttention
from nnunet_transformers.networks.nnformer import NNFormer
from nnunet_transformers.planning.network_arguments import network_arguments


def build(strides: list, dims: int = 2, input_channels: int = 1, num_classes: int = 2, **own: object) -> NNFormer:
    return NNFormer(
        input_channels=input_channels,
        n_stages=len(strides),
        features_per_stage=32,
        kernel_sizes=3,
        strides=strides,
        num_classes=num_classes,
        n_conv_per_stage_decoder=2,
        **{"n_blocks_per_stage": 2, **paper_arguments(dims), **own},
    )


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def written_out(network: NNFormer, x: Tensor) -> list[Tensor]:
    """The paper's section III for five stages of stride 2 in 2D, where each window is the whole map."""
    weights = network.state_dict()

    def of(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *of(name))

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(x.movedim(-1, 1), *of(f"{name}.conv"), stride=stride, padding=1).movedim(1, -1)

    def painted(name: str, x: Tensor, stride: int) -> Tensor:
        return F.conv_transpose2d(x.movedim(-1, 1), *of(name), stride=stride)

    def attention(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        table = weights[f"{name}.position_bias.table"]
        batch, n, _, dim = q.shape
        heads = table.shape[1]
        row, column = (c.flatten() for c in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
        down, right = (c[:, None] - c[None, :] + n - 1 for c in (row, column))
        bias = table[down * (2 * n - 1) + right].permute(2, 0, 1)
        q, k, v = (t.reshape(batch, n * n, heads, dim // heads).transpose(1, 2) for t in (q, k, v))
        p = (q @ k.transpose(-2, -1) / (dim // heads) ** 0.5 + bias).softmax(-1)
        return F.linear((p @ v).transpose(1, 2).reshape(batch, n, n, dim), *of(f"{name}.proj"))

    def plus_mlp(name: str, x: Tensor) -> Tensor:
        hidden = F.gelu(F.linear(norm(f"{name}.norm2", x), *of(f"{name}.mlp.fc1")))
        return x + F.linear(hidden, *of(f"{name}.mlp.fc2"))

    def swin(name: str, x: Tensor) -> Tensor:
        q, k, v = F.linear(norm(f"{name}.norm1", x), *of(f"{name}.attention.qkv")).chunk(3, dim=-1)
        return plus_mlp(name, x + attention(f"{name}.attention", q, k, v))

    def skip_attention(name: str, up: Tensor, skip: Tensor) -> Tensor:
        k, v = F.linear(norm(f"{name}.norm1", skip), *of(f"{name}.attention.kv")).chunk(2, dim=-1)
        return plus_mlp(name, up + skip + attention(f"{name}.attention", norm(f"{name}.norm1", up), k, v))

    start = "encoder.downsamplings.0"
    x = x.movedim(1, -1)
    for i, stride in [(0, 2), (3, 1), (6, 2)]:
        x = norm(f"{start}.{i + 2}", F.gelu(conv(f"{start}.{i}", x, stride)))
    x = norm(f"{start}.10", conv(f"{start}.9", x))
    skips = []
    for stage in range(3):
        if stage > 0:
            down = f"encoder.downsamplings.{stage}"
            x = conv(f"{down}.2", norm(f"{down}.1", F.gelu(x)), stride=2)
        x = swin(f"encoder.stages.{stage}.1", swin(f"encoder.stages.{stage}.0", x))
        skips.append(norm(f"encoder.norms.{stage}", x))
    x = skips.pop()
    maps = []
    for stage in range(2):
        up = f"decoder.upsamplings.{stage}"
        up = painted(f"{up}.1.conv", norm(f"{up}.0", x), 2).movedim(1, -1)
        x = swin(f"decoder.stages.{stage}.0", skip_attention(f"decoder.joins.{stage}", up, skips.pop()))
        maps.append(x)
    heads = [(3, maps[1], 4), (2, maps[0], 4), (1, maps[0], 2), (0, maps[0], 1)]
    return [painted(f"decoder.seg_layers.{i}", m, stride) for i, m, stride in heads]


def test_where_a_window_is_the_whole_map_the_network_is_the_papers_formula_written_out():
    torch.manual_seed(0)
    network = build([1, 2, 2, 2, 2], embed_dim=12, window_sizes=[8, 4, 2], deep_supervision=True).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "position_bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
        for logits, expected in zip(network(x), written_out(network, x), strict=True):
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


def test_skip_attention_asks_with_the_upsampled_tokens_and_looks_in_their_window_of_the_skip_only():
    torch.manual_seed(0)
    attention = WindowCrossAttention(dim=8, num_heads=2, window=(2, 4))
    x, context = torch.randn(2, 1, 4, 8, 8)

    def changed_where(changed_x: Tensor, changed_context: Tensor) -> list[list[int]]:
        difference = attention(changed_x, changed_context) - attention(x, context)
        return difference.abs().sum(-1)[0].nonzero().tolist()

    elsewhere = torch.zeros(1, 4, 8, 1)
    elsewhere[0, 3, 2] = 1
    with torch.no_grad():
        assert changed_where(x + elsewhere * torch.randn(8), context) == [[3, 2]]
        assert changed_where(x, context + elsewhere * torch.randn(8)) == [[i, j] for i in (2, 3) for j in range(4)]


def test_skip_attention_adds_to_the_sum_of_both_maps():
    block = SkipAttentionBlock(dim=8, num_heads=2, window=(4, 4))
    for layer in (block.attention.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
    deep, upsampled, skip = torch.randn(1, 2, 2, 16), torch.randn(1, 4, 4, 8), torch.randn(1, 4, 4, 8)
    torch.testing.assert_close(block(deep, upsampled, skip), upsampled + skip)


def authors_index(window: int) -> np.ndarray:
    """The authors' code steps from plane to plane of the table by 3w - 1 where it has (2w - 1)^2 rows a plane."""
    coordinates = np.indices((window,) * 3).reshape(3, -1)
    offsets = coordinates[:, :, None] - coordinates[:, None, :] + window - 1
    return offsets[0] * (3 * window - 1) + offsets[1] * (2 * window - 1) + offsets[2]


def test_each_offset_has_a_bias_of_its_own_unlike_in_the_authors_code():
    assert len(np.unique(authors_index(4))) == 115
    assert len(np.unique(relative_position_index((4, 4, 4), (4, 4, 4)))) == 343
    torch.manual_seed(0)
    attention = WindowCrossAttention(dim=6, num_heads=3, window=(4, 4, 4))
    bias = attention.position_bias((4, 4, 4))[0]
    # The authors' row for the offset (0, 1, 2) is that of (1, 0, -2).
    pairs = [((0, 1, 2), (0, 0, 0)), ((1, 0, 0), (0, 0, 2))]
    (a, b), (c, d) = ([np.ravel_multi_index(token, (4, 4, 4)) for token in pair] for pair in pairs)
    assert authors_index(4)[a, b] == authors_index(4)[c, d]
    assert bias[a, b] != bias[c, d]


def test_a_decoder_stage_has_the_heads_of_the_encoder_stage_of_its_width_unlike_in_the_authors_tumour_code():
    with torch.device("meta"):
        network = build([1, 2, 2, 2, 2, 2], dims=3)
    encoder = {stage[0].attention.proj.in_features: stage[0].attention.num_heads for stage in network.encoder.stages}
    assert encoder == {96: 3, 192: 6, 384: 12, 768: 24}
    for join, stage in zip(network.decoder.joins, network.decoder.stages, strict=True):
        for attention in (join.attention, stage[0].attention):
            assert attention.num_heads == encoder[attention.proj.in_features]


def test_windows_and_their_masks_are_made_once_per_shape_unlike_in_the_authors_code(monkeypatch):
    built = []
    build_window_layout = windows.build_window_layout

    def counted(*shape):
        built.append(shape)
        return build_window_layout(*shape)

    monkeypatch.setattr(windows, "build_window_layout", counted)
    windows.window_layout.cache_clear()
    network = build([1, 2, 2, 2, 2], embed_dim=12, window_sizes=2)
    for _ in range(2):
        network(torch.randn(1, 1, 64, 32))
    assert len(built) == len(set(built)) == 6  # three Swin stages, windows shifted and not; the decoder has the same


# Counts of github.com/282857341/nnFormer: nnFormer_synapse.py as it stands (14 classes), nnFormer_tumor.py as its
# trainer builds it (4 modalities, 4 classes); and how many of them are the heads'.
@pytest.mark.parametrize(
    ("own", "strides", "channels", "classes", "authors", "of_heads"),
    [
        ({"embed_dim": 192, "num_heads": 6}, [1, 2, (1, 2, 2), 2, 2, 2], 1, 14, 150_054_210, 602_154),
        ({}, [1, 2, 2, 2, 2, 2], 4, 4, 37_606_726, 24_580),
    ],
    ids=["organs", "brain tumours"],
)
def test_the_published_networks_have_the_authors_number_of_parameters(
    own, strides, channels, classes, authors, of_heads
):
    with torch.device("meta"):
        network = build(strides, 3, channels, classes, **own)
    # The tumour code's decoder has twice the heads, and so twice the rows of bias.
    doubled = sum(p.numel() for name, p in network.decoder.named_parameters() if "position_bias" in name)
    trunk = n_parameters(network) - n_parameters(network.decoder.seg_layers)
    assert trunk + (0 if own else doubled) == authors - of_heads
    assert n_parameters(network) == pytest.approx(authors, rel=0.02)
    if not own:
        assert n_parameters(network.decoder.seg_layers[-1]) == of_heads


def test_a_head_looks_from_two_stages_deeper_or_from_the_deepest_map_of_the_decoder():
    with torch.device("meta"):
        deep = build([1, (1, 2, 2), (1, 2, 2), 2, 2, (2, 2, 1)], dims=3, embed_dim=12, window_sizes=2)
        shallow = build([1, (1, 2, 2), 2], dims=3, embed_dim=12, window_sizes=2)
    full_resolution_first = [(head.in_channels, head.kernel_size) for head in deep.decoder.seg_layers][::-1]
    assert full_resolution_first == [
        (12, (1, 4, 4)), (24, (2, 4, 4)), (48, (4, 4, 4)), (48, (2, 2, 2)), (48, (1, 1, 1)),
    ]  # fmt: skip
    assert [head.kernel_size for head in shallow.decoder.seg_layers][::-1] == [(1, 2, 2), (1, 1, 1)]


def test_a_plan_gives_the_published_width_and_its_own_windows():
    configuration = {
        "patch_size": [128] * 3,
        "spacing": [1] * 3,
        "architecture": {
            "network_class_name": "",
            "_kw_requires_import": [],
            "arch_kwargs": {
                "n_stages": 6,
                "features_per_stage": [32, 64, 128, 256, 320, 320],
                "strides": [1, 2, 2, 2, 2, 2],
                "kernel_sizes": [3] * 6,
                "conv_op": "torch.nn.Conv3d",
            },
        },
    }
    own = network_arguments(NNFormer, configuration)[0]
    assert own["embed_dim"] == 96
    assert own["window_sizes"] == ((8, 8, 8), (8, 8, 8), (8, 8, 8), (4, 4, 4))
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = 8
    assert network_arguments(NNFormer, configuration)[0]["embed_dim"] == 24


def test_the_width_is_96_by_default_and_stops_doubling_at_768():
    with torch.device("meta"):
        network = build([1] + [2] * 7, window_sizes=4)
    assert [norm.normalized_shape for norm in network.encoder.norms] == [(96,), (192,), (384,), (768,), (768,), (768,)]


def test_drop_path_grows_along_the_encoder_and_again_along_the_decoder():
    network = build([1, 2, 2, 2, 2], embed_dim=12, window_sizes=2)

    def rates(blocks: list[nn.Module]) -> list[float]:
        return [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]

    encoder = [block for stage in network.encoder.stages for block in stage]
    decoder = [
        b for pair in zip(network.decoder.joins, network.decoder.stages, strict=True) for b in (pair[0], *pair[1])
    ]
    assert rates(encoder) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert rates(decoder) == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"embed_dim": 10}, "10 channels cannot be split into 3 heads"),
        ({"window_sizes": [4, 4, 4]}, "window_sizes needs 4"),
        ({"n_blocks_per_stage": [1, 1, 2, 2, 0, 2]}, "each Swin stage needs a block"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        build([1, 2, 2, 2, 2, 2], **changed)
