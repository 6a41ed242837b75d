"""The constructor arguments of one of our networks, from a configuration of any nnU-Net plans."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping
from typing import Any

from torch import nn

from nnunet_transformers.planning.windows import choose_windows

# What a plan says about a network that holds for any network; blocks per stage are the planned network's own affair.
_SHARED = (
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "norm_op",
    "norm_op_kwargs",
    "dropout_op",
    "dropout_op_kwargs",
    "nonlin",
    "nonlin_kwargs",
)

_PUBLISHED_BLOCKS = 2
_PUBLISHED_FEATURE_SIZE = 48
_PLANNED_FEATURES = 32  # nnU-Net's width at full resolution
_FEATURE_SIZE_STEP = 12  # four channels for each of the three heads of the first stage


def network_arguments(
    architecture: type[nn.Module], configuration: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The arguments for `get_network_from_plans`: keyword arguments, and those of them that name something to import.

    Plans that were made for the network are followed to the letter. From plans of another network it takes topology,
    kernels and convolution settings, has its published depth and width, and windows that divide the patch's maps; a
    plan narrower than nnU-Net's own makes it narrower in proportion.

    Args:
        architecture: one of our networks.
        configuration: a configuration of the plans, as a dictionary.

    Raises:
        ValueError: the plans' network has no strides to follow.
    """
    planned = configuration["architecture"]
    arguments, to_import = dict(planned["arch_kwargs"]), list(planned["_kw_requires_import"])
    if pydoc.locate(planned["network_class_name"]) is architecture:
        return arguments, to_import
    missing = [name for name in ("n_stages", "strides", "kernel_sizes", "conv_op") if name not in arguments]
    if missing:
        raise ValueError(
            f"{architecture.__name__} takes its topology from the plans, and the plans' network "
            f"{planned['network_class_name']} does not state {', '.join(missing)}; "
            "use plans made for a U-Net, such as nnUNetPlans"
        )
    shared = {name: arguments[name] for name in _SHARED if name in arguments}
    dims = len(configuration["patch_size"])
    strides = [(s,) * dims if isinstance(s, int) else tuple(s) for s in arguments["strides"]]
    windows = choose_windows(configuration["patch_size"], configuration["spacing"], strides)
    own = {
        "n_blocks_per_stage": _PUBLISHED_BLOCKS,
        "feature_size": _feature_size(arguments["features_per_stage"]),
        "window_sizes": windows[1:-1],
    }
    return {**shared, **own}, [name for name in to_import if name in shared]


def _feature_size(features_per_stage: Any) -> int:
    base = features_per_stage if isinstance(features_per_stage, int) else features_per_stage[0]
    steps = round(_PUBLISHED_FEATURE_SIZE * min(1, base / _PLANNED_FEATURES) / _FEATURE_SIZE_STEP)
    return max(1, steps) * _FEATURE_SIZE_STEP
