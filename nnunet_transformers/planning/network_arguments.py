"""The constructor arguments of one of our networks, from a configuration of any nnU-Net plans."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping
from typing import Any

from nnunet_transformers.networks.planned_network import Configuration, PlannedNetwork
from nnunet_transformers.networks.topology import per_stage_and_axis
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

_PLANNED_FEATURES = 32  # nnU-Net's width at full resolution


def network_arguments(
    architecture: type[PlannedNetwork], configuration: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The arguments for `get_network_from_plans`: keyword arguments, and those of them that name something to import.

    Plans that were made for the network are followed to the letter. From plans of another network it takes topology,
    kernels and convolution settings, and derives the rest from the patch, the spacing and the plan's width
    (`own_arguments` of the network).

    Args:
        architecture: one of our networks.
        configuration: a configuration of the plans, as a dictionary.

    Raises:
        ValueError: the plans' network has no strides to follow, or too few stages.
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
    architecture.check_stages(arguments["n_stages"])
    shared = {name: arguments[name] for name in _SHARED if name in arguments}
    own = architecture.own_arguments(_digest(configuration, arguments))
    return {"n_blocks_per_stage": 2, **shared, **own}, [name for name in to_import if name in shared]


def _digest(configuration: Mapping[str, Any], arguments: Mapping[str, Any]) -> Configuration:
    patch_size, spacing = tuple(configuration["patch_size"]), tuple(configuration["spacing"])
    strides = per_stage_and_axis("strides", arguments["strides"], arguments["n_stages"], len(patch_size))
    features = arguments["features_per_stage"]
    return Configuration(
        patch_size=patch_size,
        spacing=spacing,
        strides=strides,
        windows=tuple(choose_windows(patch_size, spacing, strides)),
        relative_width=min(1, (features if isinstance(features, int) else features[0]) / _PLANNED_FEATURES),
    )
