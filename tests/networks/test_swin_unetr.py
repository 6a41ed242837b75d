"""Swin UNETR and its second version against the papers and against MONAI's implementation."""

from __future__ import annotations

import pytest
import torch
from helpers.plans import paper_arguments
from monai.networks.nets import SwinUNETR as MonaiSwinUNETR
from torch import nn

from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.networks.swin_unetr_v2 import SwinUNETRV2
from nnunet_transformers.weights.monai import load_monai_swin_unetr


def published(
    dims: int,
    feature_size: int,
    window: int,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    network: type[SwinUNETR] = SwinUNETR,
) -> SwinUNETR:
    return network(
        input_channels=1,
        n_stages=6,
        features_per_stage=32,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2, 2],
        n_blocks_per_stage=[0, *depths, 0],
        num_classes=2,
        n_conv_per_stage_decoder=2,
        feature_size=feature_size,
        window_sizes=window,
        **paper_arguments(dims),
    ).eval()


def pair(
    dims: int,
    feature_size: int,
    window: int,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    network: type[SwinUNETR] = SwinUNETR,
) -> tuple[nn.Module, SwinUNETR]:
    """MONAI's network and ours with the same weights, all of them far from their initial values."""
    torch.manual_seed(0)
    monai = MonaiSwinUNETR(1, 2, feature_size=feature_size, window_size=window, depths=depths, spatial_dims=dims,
                           use_v2=network is SwinUNETRV2).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in monai.named_parameters():
            if parameter.ndim == 1 or "bias_table" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    ours = published(dims, feature_size, window, depths, network)
    load_monai_swin_unetr(ours, monai.state_dict())
    return monai, ours


# Sizes where MONAI is right: windows divide every map and none is clipped to a smaller one.
WHERE_MONAI_IS_RIGHT = [
    pytest.param(3, 12, 4, (2, 2, 2, 2), (64, 64, 64), id="3d"),
    pytest.param(3, 12, 2, (1, 2, 3, 1), (32, 64, 32), id="3d, other depths"),
    pytest.param(2, 24, 7, (2, 2, 2, 2), (224, 224), id="2d, window 7 as published"),
    pytest.param(2, 24, 4, (2, 2, 2, 2), (128, 64), id="2d, not square"),
]


@pytest.mark.parametrize("network", [SwinUNETR, SwinUNETRV2])
@pytest.mark.parametrize(("dims", "feature_size", "window", "depths", "size"), WHERE_MONAI_IS_RIGHT)
def test_monais_weights_give_monais_output(dims, feature_size, window, depths, size, network):
    monai, ours = pair(dims, feature_size, window, depths, network)
    x = torch.randn(2, 1, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), monai(x), rtol=0, atol=1e-5)
        for a, b in zip(ours.encoder(x), monai.swinViT(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=3e-5)


def test_monais_weights_give_monais_gradients():
    monai, ours = (network.double() for network in pair(3, 12, 2))
    x = torch.randn(1, 1, 64, 32, 32, dtype=torch.float64)
    grad = torch.randn(1, 2, 64, 32, 32, dtype=torch.float64)
    for network in (monai, ours):
        (network(x) * grad).sum().backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    load_monai_swin_unetr(ours, {name: p.grad for name, p in monai.named_parameters()})
    for name, expected in ours.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], expected.data, rtol=1e-8, atol=1e-8, msg=name)


def test_where_a_window_is_clipped_monai_takes_the_bias_of_other_offsets_and_we_do_not():
    # A window of 4 on the last stage's 4×2 map: MONAI slices its index, we agree with a network made for 4×2 there.
    monai, ours = pair(2, 12, 4)
    x = torch.randn(1, 1, 64, 32)
    with torch.no_grad():
        assert (ours(x) - monai(x)).abs().max() > 1e-3
    fitted = SwinUNETR(
        input_channels=1, n_stages=6, features_per_stage=32, kernel_sizes=3, strides=[1, 2, 2, 2, 2, 2],
        n_blocks_per_stage=2, num_classes=2, n_conv_per_stage_decoder=2, feature_size=12,
        window_sizes=[4, 4, 4, (4, 2)], **paper_arguments(2),
    ).eval()  # fmt: skip
    weights = ours.state_dict()
    for name in [name for name in weights if name.startswith("encoder.stages.3.") and name.endswith("table")]:
        heads = weights[name].shape[1]
        weights[name] = weights[name].view(7, 7, heads)[:, 2:5].reshape(21, heads)
    fitted.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), fitted(x), rtol=0, atol=1e-5)


def test_tokens_outside_the_image_have_no_say_unlike_monai():
    # Windows of 4 on a map of 6, padded to 8: each window must see its real tokens only.
    torch.manual_seed(0)
    block = published(2, 12, 4).encoder.stages[0][0]
    x = torch.randn(1, 6, 6, 12)
    with torch.no_grad():
        whole = block(x)
        # The upper left window lies inside the map: the block computes it as if the map ended there.
        torch.testing.assert_close(whole[:, :4, :4], block(x[:, :4, :4].contiguous()), rtol=0, atol=1e-6)
        # The lower right one holds 2×2 real tokens: as a map of their own they give the same.
        torch.testing.assert_close(whole[:, 4:, 4:], block(x[:, 4:, 4:].contiguous()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("network", "millions"), [(SwinUNETR, 62.19), (SwinUNETRV2, 72.76)])
def test_the_published_network_has_the_published_number_of_parameters(network, millions):
    with torch.device("meta"):
        ours = published(3, 48, 7, network=network)
    monai = MonaiSwinUNETR(1, 2, feature_size=48, use_v2=network is SwinUNETRV2)
    heads = sum(p.numel() for p in ours.decoder.seg_layers[:-1].parameters())
    parameters = sum(p.numel() for p in ours.parameters()) - heads
    assert parameters == sum(p.numel() for p in monai.parameters()) == pytest.approx(millions * 1e6, rel=1e-3)


def test_the_width_is_48_by_default_and_stops_doubling_at_768():
    network = SwinUNETR(1, 8, 32, nn.Conv2d, 3, [1, *[2] * 7], 2, 2, 2, norm_op=nn.InstanceNorm2d, nonlin=nn.LeakyReLU)
    assert network.encoder.features == (48, 96, 192, 384, 768, 768, 768)
    assert [stage[0].attention.num_heads for stage in network.encoder.stages] == [3, 6, 12, 24, 48, 48]


def test_drop_path_grows_along_the_blocks_and_acts_in_training_only():
    network = SwinUNETR(
        1, 4, 32, nn.Conv2d, 3, [1, 2, 2, 2], 2, 2, 2, norm_op=nn.InstanceNorm2d, nonlin=nn.LeakyReLU,
        feature_size=12, window_sizes=4, drop_path_rate=0.9,
    )  # fmt: skip
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for stage in network.encoder.stages for b in stage]
    assert rates == pytest.approx([0, 0.3, 0.6, 0.9])
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_weights_of_another_network_are_refused_and_nothing_is_loaded():
    monai, ours = pair(2, 12, 4)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    other = published(2, 24, 4)
    with pytest.raises(ValueError, match=r"of another shape.*patch_embed"):
        load_monai_swin_unetr(other, monai.state_dict())
    state = dict(monai.state_dict())
    state["surprise.weight"] = state.pop("swinViT.patch_embed.proj.weight")
    with pytest.raises(ValueError, match=r"surprise\.weight.*missing: \['encoder\.patch_embed\.weight'\]"):
        load_monai_swin_unetr(ours, state)
    torch.testing.assert_close(dict(ours.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"feature_size": 10}, "multiple of num_heads"),
        ({"window_sizes": [[4, 4], [4, 4]]}, "window_sizes needs 4"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        SwinUNETR(1, 6, 32, kernel_sizes=3, strides=[1, *[2] * 5], n_blocks_per_stage=2, num_classes=2,
                  n_conv_per_stage_decoder=2, **paper_arguments(2), **changed)  # fmt: skip
