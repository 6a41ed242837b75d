from __future__ import annotations

import copy

import pytest
from helpers.plans import PLANS

from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.planning.network_arguments import network_arguments


def configuration(base_width: int = 32) -> dict:
    planned = PLANS[0].configuration()
    planned["architecture"]["arch_kwargs"]["features_per_stage"] = [base_width * 2**i for i in range(4)]
    return planned


@pytest.mark.parametrize(("base_width", "feature_size"), [(32, 48), (64, 48), (16, 24), (8, 12), (2, 12)])
def test_the_width_is_the_published_one_and_narrows_with_the_plan(base_width, feature_size):
    assert network_arguments(SwinUNETR, configuration(base_width))[0]["feature_size"] == feature_size


def test_topology_is_the_plans_and_depth_the_papers():
    planned = configuration()
    arguments, to_import = network_arguments(SwinUNETR, planned)
    for name in ("n_stages", "strides", "kernel_sizes", "norm_op", "conv_bias"):
        assert arguments[name] == planned["architecture"]["arch_kwargs"][name]
    assert arguments["n_blocks_per_stage"] == 2
    assert "n_conv_per_stage" not in arguments
    assert set(to_import) == {"conv_op", "norm_op", "dropout_op", "nonlin"}
    assert len(arguments["window_sizes"]) == 2


def test_plans_made_for_the_network_are_followed_to_the_letter():
    planned = configuration()
    own = {
        "network_class_name": "nnunet_transformers.networks.swin_unetr.SwinUNETR",
        "_kw_requires_import": ["conv_op"],
    }
    planned["architecture"] = {**planned["architecture"], **own}
    planned["architecture"]["arch_kwargs"]["window_sizes"] = [[4, 4, 4], [2, 2, 2]]
    before = copy.deepcopy(planned)
    arguments, to_import = network_arguments(SwinUNETR, planned)
    assert arguments == before["architecture"]["arch_kwargs"]
    assert to_import == ["conv_op"]
    arguments["n_stages"] = 99
    assert planned == before


def test_plans_without_a_topology_are_refused_with_the_remedy():
    planned = configuration()
    del planned["architecture"]["arch_kwargs"]["strides"]
    with pytest.raises(ValueError, match=r"PlainConvUNet does not state strides; use plans made for a U-Net"):
        network_arguments(SwinUNETR, planned)
