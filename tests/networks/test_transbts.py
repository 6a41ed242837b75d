"""TransBTS against the paper and the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch
from helpers.plans import paper_arguments
from torch import nn

from nnunet_transformers.networks.planned_network import Configuration
from nnunet_transformers.networks.transbts import TransBTS, choose_token_stage


def small(deep_supervision: bool = False, **changed: object) -> TransBTS:
    torch.manual_seed(0)
    arguments = {
        "input_channels": 2, "n_stages": 4, "features_per_stage": 32, "kernel_sizes": 3, "strides": [1, 2, 2, 2],
        "n_blocks_per_stage": [1, 2, 2, 4], "num_classes": 3, "n_conv_per_stage_decoder": 2, "feature_size": 4,
        "hidden_size": 16, "num_heads": 2, "num_layers": 2, "grid_size": 4, **paper_arguments(2), **changed,
    }  # fmt: skip
    return TransBTS(deep_supervision=deep_supervision, **arguments).eval()


def image(*size: int) -> torch.Tensor:
    return torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))


def test_the_output_is_logits_not_the_authors_probabilities():
    with torch.no_grad():
        network, x = small(), image(32, 32)
        logits = network(x)
        probabilities = logits.softmax(1)  # what the authors' network returns
        assert logits.min() < 0
        assert (logits.sum(1) - 1).abs().max() > 0.1
        # Logits follow their last bias one for one; behind a softmax a bias of all classes has no effect.
        network.decoder.seg_layers[-1].bias += 3
        torch.testing.assert_close(network(x), logits + 3)
        torch.testing.assert_close(network(x).softmax(1), probabilities)


def test_inference_is_deterministic_unlike_the_authors():
    # Their F.dropout3d of the first map has no `training`, so it drops channels of every image in inference too.
    authors = nn.functional.dropout3d(torch.ones(1, 64, 1, 1, 1), 0.2)
    assert (authors == 0).any()
    with torch.no_grad():
        network, x = small(), image(32, 32)
        torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)
        network.train()
        torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)


def test_the_plans_dropout_is_kept_for_training():
    with torch.no_grad():
        network, x = small(dropout_op=nn.Dropout2d, dropout_op_kwargs={"p": 0.5}), image(32, 32)
        for part in (network, lambda x: network.encoder(x)[-1]):
            network.eval()
            torch.testing.assert_close(part(x), part(x), rtol=0, atol=0)
            network.train()
            assert not torch.allclose(part(x), part(x))


def test_no_layer_is_without_effect_unlike_two_of_the_authors():
    # Their linear_encoding and pre_head_ln get no gradient.
    network = small(deep_supervision=True)
    sum(logits.square().mean() for logits in network(image(32, 32))).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_the_published_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = TransBTS(
            4, 4, 32, kernel_sizes=3, strides=[1, 2, 2, 2], n_blocks_per_stage=[1, 2, 2, 4], num_classes=4,
            n_conv_per_stage_decoder=2, **paper_arguments(3) | {"conv_bias": True, "norm_op": nn.BatchNorm3d},
        )  # fmt: skip
    heads = sum(p.numel() for p in network.decoder.seg_layers[:-1].parameters())
    ours = sum(p.numel() for p in network.parameters()) - heads
    # The authors' model at 4 channels and 128^3 has 32,987,588, of which two layers without effect have 263,680.
    assert ours == 32_987_588 - 512 * 513 - 2 * 512
    assert ours == pytest.approx(32.99e6, rel=0.02)


def test_a_block_of_the_encoder_begins_with_its_norm_and_one_of_the_decoder_ends_with_it():
    network = small()
    first, second = network.encoder.stages[0][0], network.decoder.stages[-1].convs.convs
    relu, norm = nn.functional.leaky_relu, nn.functional.instance_norm
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        expected = x + first.conv2(relu(norm(first.conv1(relu(norm(x))))))
        torch.testing.assert_close(first(x), expected, rtol=0, atol=1e-5)
        expected = x + relu(norm(second[1].conv(relu(norm(second[0].conv(x))))))
        torch.testing.assert_close(network.decoder.stages[-1].convs(x), expected, rtol=0, atol=1e-5)


STANDARD = ((1, 1, 1), *((2, 2, 2),) * 5)


@pytest.mark.parametrize(
    ("patch_size", "strides", "stage"),
    [
        pytest.param((128, 128, 128), STANDARD, 3, id="published"),
        pytest.param((128, 128, 128), STANDARD[:4], 3, id="published, four stages"),
        pytest.param((64, 64, 64), STANDARD[:3], 2, id="no stage at 1/8"),
        pytest.param((160, 192, 160), STANDARD, 3, id="9600 tokens"),
        pytest.param((256, 256, 256), STANDARD, 4, id="too many tokens at 1/8"),
        pytest.param((20, 256, 224), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)), 3, id="anisotropic"),
        pytest.param((16, 512, 512), ((1, 1, 1), *((1, 2, 2),) * 6), 4, id="anisotropic, too many tokens at 1/8"),
        pytest.param((512, 448), ((1, 1), *((2, 2),) * 6), 3, id="2d"),
        pytest.param((512, 512), ((1, 1), (16, 16), (2, 2)), 1, id="no patch of at most 8"),
        pytest.param((1024, 1024, 1024), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), 2, id="too many tokens everywhere"),
    ],
)
def test_the_tokens_are_at_one_eighth_where_a_plan_allows(patch_size, strides, stage):
    assert choose_token_stage(patch_size, strides) == stage


def test_nnu_nets_plan_gives_the_published_network():
    plan = Configuration((128,) * 3, (1,) * 3, STANDARD, windows=(), relative_width=1)
    own = TransBTS.own_arguments(plan)
    assert own == {"n_blocks_per_stage": [1, 2, 2, 4, 0, 0], "feature_size": 16, "hidden_size": 512,
                   "token_stage": 3, "grid_size": [16, 16, 16]}  # fmt: skip


def test_stages_below_the_tokens_are_supervised_on_means_of_their_map():
    network, x = small(n_stages=6, strides=[1, *[2] * 5], n_blocks_per_stage=2, deep_supervision=True), image(64, 32)
    with torch.no_grad():
        logits = network(x)
        assert [tuple(m.shape[2:]) for m in logits] == [(64, 32), (32, 16), (16, 8), (8, 4), (4, 2)]
        tokens = network.bottleneck(network.encoder(x)[-1])
        mean = nn.functional.avg_pool2d(tokens, 2)
        for stage, expected in ((3, tokens), (4, mean)):
            head = network.decoder.seg_layers[len(logits) - 1 - stage]
            torch.testing.assert_close(logits[stage], head(expected))
        # They change nothing else: the same weights in a network of four stages give the same finer logits.
        four = small(deep_supervision=True, n_blocks_per_stage=2)
        weights = {k: v for k, v in network.state_dict().items() if not k.startswith("decoder.")}
        for k, v in network.decoder.state_dict().items():
            module, position, *rest = k.split(".")
            if int(position) >= 2:
                weights[".".join(["decoder", module, str(int(position) - 2), *rest])] = v
        four.load_state_dict(weights)
        for a, b in zip(four(x), logits, strict=False):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_any_image_is_accepted_where_the_authors_hard_code_4096_tokens():
    network = small()
    embedding = network.bottleneck.transformer.position_embedding
    assert embedding.table.shape == (1, 16, 4, 4)
    with torch.no_grad():
        assert network(image(24, 40)).shape == (1, 3, 24, 40)
        resized = embedding(torch.zeros(1, 3, 5, 16))[0].movedim(-1, 0)
    expected = nn.functional.interpolate(embedding.table, size=(3, 5), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resized, expected)


def test_the_width_stops_doubling_at_eight_times():
    network = small(n_stages=6, strides=[1, *[2] * 5], n_blocks_per_stage=1, token_stage=5, grid_size=2)
    assert [conv.out_channels for conv in network.encoder.downsamplings] == [8, 16, 32, 32, 32]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"token_stage": 4}, "none of the stages 1 to 3"),
        ({"token_stage": 0}, "none of the stages 1 to 3"),
        ({"hidden_size": 15}, "heads"),
        ({"grid_size": (4, 4, 4)}, "grid_size needs 2"),
        ({"norm_op": None}, "norm_op"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        small(**changed)
