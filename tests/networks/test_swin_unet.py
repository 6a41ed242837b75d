"""Swin-Unet against the paper, against timm's Swin Transformer, and against its own equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.plans import PLANS
from timm.layers import DropPath
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from nnunet_transformers.networks.layers.patch_expanding import PatchExpanding
from nnunet_transformers.networks.layers.swin_block import SwinBlock
from nnunet_transformers.networks.swin_unet import SwinUnet
from nnunet_transformers.planning.network_arguments import network_arguments


def published(conv_op: type[nn.Module] = nn.Conv2d, n_stages: int = 6, **changed: object) -> SwinUnet:
    arguments = {
        "input_channels": 3, "features_per_stage": 32, "kernel_sizes": 3, "strides": [1, *[2] * (n_stages - 1)],
        "n_blocks_per_stage": 2, "num_classes": 9, "n_conv_per_stage_decoder": 2, "deep_supervision": True,
    }  # fmt: skip
    return SwinUnet(conv_op=conv_op, n_stages=n_stages, **{**arguments, **changed})


def far_from_initial_values(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "bias_table" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_encoder_is_timms_swin_transformer():
    torch.manual_seed(0)
    timm = SwinTransformer(224, 4, embed_dim=24, depths=(2, 2, 2, 2), window_size=7, num_classes=0, drop_path_rate=0)
    timm = far_from_initial_values(timm).eval()
    encoder = published(embed_dim=24).eval().encoder
    state = {}
    for name, tensor in timm.state_dict().items():
        name = name.replace("attn.relative_position_bias_table", "attention.position_bias.table")
        name = name.replace("attn.", "attention.").replace("patch_embed.proj", "patch_embed")
        name = name.replace("patch_embed.norm", "patch_norm").replace(".blocks", "").replace("layers.", "stages.")
        if "downsample" in name:
            # timm concatenates a patch's tokens column by column, we row by row.
            stage = int(name.split(".")[1])
            name = name.replace(f"stages.{stage}.downsample", f"merges.{stage - 1}")
            if "norm" in name or "reduction.weight" in name:
                tensor = tensor.unflatten(-1, (2, 2, -1)).transpose(-3, -2).flatten(-3)
        state[name] = tensor
    encoder.load_state_dict(state)
    entering = []
    for stage in timm.layers:
        stage.blocks.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = timm.forward_features(x)
        *skips, deepest = encoder(x)
    torch.testing.assert_close(deepest, expected, rtol=0, atol=1e-5)
    for skip, enters in zip(skips, entering, strict=False):
        torch.testing.assert_close(skip, enters, rtol=0, atol=1e-5)
    assert len(skips) == 3


def expanded(layer: PatchExpanding, x: Tensor) -> Tensor:
    """Patch expanding written as a transposed convolution and a layer norm, on (B, C, *spatial)."""
    weight = layer.expansion.weight.unflatten(0, (*layer.stride, -1)).movedim((-1, -2), (0, 1))
    up = (F.conv_transpose2d, F.conv_transpose3d)[x.ndim - 4](x, weight, stride=layer.stride)
    return F.layer_norm(up.movedim(1, -1), up.shape[1:2], layer.norm.weight, layer.norm.bias).movedim(-1, 1)


@pytest.mark.parametrize("stride", [(2, 2), (4, 4), (1, 2, 3)])
def test_patch_expanding_is_a_transposed_convolution_that_does_not_overlap(stride):
    torch.manual_seed(0)
    layer = far_from_initial_values(PatchExpanding(6, 4, stride))
    x = torch.randn(2, 6, *range(3, 3 + len(stride)))
    torch.testing.assert_close(layer(x.movedim(1, -1)).movedim(-1, 1), expanded(layer, x), rtol=0, atol=1e-5)


def test_the_decoder_expands_concatenates_projects_and_attends():
    torch.manual_seed(0)
    network = far_from_initial_values(published(embed_dim=12, num_classes=2)).eval()
    decoder = network.decoder
    with torch.no_grad():
        maps = network.encoder(torch.randn(1, 3, 96, 64))
        x = maps[-1].movedim(-1, 1)
        expected = []
        for i, skip in enumerate(maps[-2::-1]):
            both = torch.cat((expanded(decoder.upsamplings[i], x), skip.movedim(-1, 1)), dim=1).movedim(1, -1)
            join = decoder.joins[i].projection
            x = decoder.stages[i](both @ join.weight.T + join.bias).movedim(-1, 1)
            norm = decoder.norms[i]
            normed = F.layer_norm(x.movedim(1, -1), x.shape[1:2], norm.weight, norm.bias).movedim(-1, 1)
            expected.append(decoder.seg_layers[i](normed))
        for i in range(2):
            expected.append(decoder.seg_layers[3 + i](expanded(decoder.expansions[i], normed)))
        for logits, by_hand in zip(decoder(maps), expected[::-1], strict=True):
            torch.testing.assert_close(logits, by_hand, rtol=0, atol=1e-5)


def test_the_published_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = published()
    decoder = network.decoder
    for_deep_supervision = [*decoder.seg_layers[:-1], *decoder.norms[:-1], decoder.expansions[0]]
    # The authors' SwinTransformerSys with 9 classes (github.com/HuCaoFighting/Swin-Unet at f48f623), counted.
    assert n_parameters(network) - sum(map(n_parameters, for_deep_supervision)) == 27_168_900


def test_in_3d_it_has_31_million_parameters():
    with torch.device("meta"):
        network = published(nn.Conv3d, input_channels=1, num_classes=2, window_sizes=[8, 8, 8, 4])
    assert n_parameters(network) == 31_068_348


def test_widths_and_heads_double_up_to_768_channels():
    with torch.device("meta"):
        stages = published(n_stages=8).encoder.stages
    assert [stage[0].norm1.normalized_shape[0] for stage in stages] == [96, 192, 384, 768, 768, 768]
    assert [stage[0].attention.num_heads for stage in stages] == [3, 6, 12, 24, 24, 24]


@pytest.mark.parametrize(
    ("plan", "patch", "n_token_stages", "expansions"),
    [
        (PLANS[0], (4, 4, 4), 2, [(2, 2, 2), (4, 4, 4)]),
        (PLANS[1], (2, 4, 4), 2, [(2, 2, 2), (2, 4, 4)]),
        (PLANS[2], (4, 4, 4), 3, [(2, 2, 2), (4, 4, 4)]),
        (PLANS[3], (2, 2, 2), 2, [(2, 2, 2)]),
        (PLANS[5], (4, 4), 5, [(2, 2), (4, 4)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_patch_is_the_plans_first_strides(plan, patch, n_token_stages, expansions):
    arguments, _ = network_arguments(SwinUnet, plan.configuration())
    arguments.update(conv_op=(nn.Conv2d, nn.Conv3d)[plan.dims - 2], norm_op=None, nonlin=None)
    with torch.device("meta"):
        network = SwinUnet(input_channels=1, num_classes=2, **arguments)
    assert network.encoder.patch_embed.stride == patch
    assert len(network.encoder.stages) == n_token_stages
    assert [layer.stride for layer in network.decoder.expansions] == expansions


@pytest.mark.parametrize(
    "strides",
    [
        ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
        ((1, 1, 1), (2, 2, 2), (2, 2, 1)),
        ((1, 1), *((2, 2),) * 3, (1, 2), (2, 1), (2, 2)),
    ],
    ids=lambda strides: f"{len(strides)} stages",
)
def test_an_image_as_small_as_the_total_stride_is_accepted(strides):
    dims = len(strides[0])
    network = published((nn.Conv2d, nn.Conv3d)[dims - 2], len(strides), strides=strides, embed_dim=12)
    sizes = [torch.tensor(strides).prod(0).tolist()]
    for stride in strides[1:-1]:
        sizes.append([n // s for n, s in zip(sizes[-1], stride, strict=True)])
    with torch.no_grad():
        logits = network(torch.randn(1, 3, *sizes[0]))
    assert [list(x.shape[2:]) for x in logits] == sizes
    assert all(x.isfinite().all() for x in logits)


def test_a_window_that_covers_one_axis_is_still_shifted_along_the_other_unlike_the_authors():
    # The bottleneck of a 224×448 image has two windows; the authors shift neither axis when one of them is covered.
    torch.manual_seed(0)
    ours = published(embed_dim=12).encoder.stages[-1].eval()
    authors = nn.Sequential(*(SwinBlock(96, 24, (7, 7), (0, 0)) for _ in range(2))).eval()
    authors.load_state_dict(ours.state_dict())
    x = torch.randn(1, 7, 14, 96)
    changed = x.clone()
    changed[:, :, :7] += torch.randn(96)
    with torch.no_grad():
        assert torch.equal(authors(x)[:, :, 7:], authors(changed)[:, :, 7:])
        assert not torch.isclose(ours(x)[:, :, 7:], ours(changed)[:, :, 7:]).all()


def test_a_block_of_the_decoder_is_dropped_as_often_as_its_twin_in_the_encoder():
    network = published(embed_dim=12, drop_path_rate=0.7)

    def rates(stages: nn.ModuleList) -> list[list[float]]:
        return [[getattr(block.drop_path, "drop_prob", 0.0) for block in stage] for stage in stages]

    encoder = rates(network.encoder.stages)
    assert [rate for stage in encoder for rate in stage] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    for stage, twin in zip(rates(network.decoder.stages), encoder[-2::-1], strict=True):
        assert stage == pytest.approx(twin)


def test_the_published_stochastic_depth_acts_in_training_only():
    network = published(embed_dim=12)
    assert max(m.drop_prob for m in network.modules() if isinstance(m, DropPath)) == pytest.approx(0.2)
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(network(x)[0], network(x)[0])
        network.eval()
        assert torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"embed_dim": 10}, "multiple of num_heads"),
        ({"window_sizes": [[7, 7], [7, 7]]}, "window_sizes needs 4"),
        ({"n_blocks_per_stage": [2, 2]}, "n_blocks_per_stage needs 6"),
        ({"n_stages": 2, "strides": 1}, "at least 3 resolutions"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        published(**changed)
