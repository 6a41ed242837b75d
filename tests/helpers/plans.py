"""Plans of the kinds nnU-Net makes, small enough for a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_transformers.planning.network_arguments import network_arguments


@dataclass(frozen=True)
class Plan:
    name: str
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def dims(self) -> int:
        return len(self.patch_size)

    @property
    def total_stride(self) -> tuple[int, ...]:
        return tuple(math.prod(stride) for stride in zip(*self.strides, strict=True))

    @property
    def map_sizes(self) -> list[tuple[int, ...]]:
        """Spatial size at each stage, full resolution first."""
        sizes = [self.patch_size]
        for stride in self.strides[1:]:
            sizes.append(tuple(n // s for n, s in zip(sizes[-1], stride, strict=True)))
        return sizes

    def configuration(self) -> dict[str, Any]:
        """As a configuration of nnU-Net's plans, for its plain U-Net."""
        n_stages = len(self.strides)
        return {
            "patch_size": list(self.patch_size),
            "spacing": list(self.spacing),
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": n_stages,
                    "features_per_stage": [min(8 * 2**i, 80) for i in range(n_stages)],
                    "conv_op": f"torch.nn.modules.conv.Conv{self.dims}d",
                    "kernel_sizes": [
                        [
                            1 if max(self.spacing) > 3 * min(self.spacing) and i == 0 and a == 0 else 3
                            for a in range(self.dims)
                        ]
                        for i in range(n_stages)
                    ],
                    "strides": [list(stride) for stride in self.strides],
                    "n_conv_per_stage": [2] * n_stages,
                    "n_conv_per_stage_decoder": [2] * (n_stages - 1),
                    "conv_bias": True,
                    "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{self.dims}d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }


PLANS = [
    Plan("isotropic_3d", (32, 32, 32), (1, 1, 1), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))),
    # Scaled down from nnU-Net's 20×256×224 at 5×1.56×1.56 mm.
    Plan("anisotropic_3d", (20, 32, 28), (5, 1.56, 1.56), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 1))),
    Plan("odd_stages_3d", (32, 48, 32), (1, 1, 1), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))),
    Plan("shallow_3d", (16, 24, 16), (3, 3, 3), ((1, 1, 1), (2, 2, 2), (2, 2, 2))),
    Plan("plain_2d", (64, 48), (1, 1), ((1, 1), (2, 2), (2, 2), (2, 2))),
    Plan("deep_2d", (256, 128), (1, 1), ((1, 1), *((2, 2),) * 6)),
    Plan("two_stages_2d", (16, 12), (1, 1), ((1, 1), (2, 2))),
]


def paper_arguments(dims: int) -> dict[str, Any]:
    """The published convolution settings: no bias, norms without affine map, LeakyReLU 0.01."""
    return {
        "conv_op": (nn.Conv2d, nn.Conv3d)[dims - 2],
        "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 2],
        "conv_bias": False,
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def build_network(
    network_class: type[nn.Module],
    configuration: dict[str, Any],
    input_channels: int,
    num_classes: int,
    deep_supervision: bool,
    **changed: object,
) -> nn.Module:
    """A network as nnU-Net builds it from a configuration, with some arguments changed."""
    arguments, to_import = network_arguments(network_class, configuration)
    dotted = f"{network_class.__module__}.{network_class.__name__}"
    return get_network_from_plans(
        dotted, {**arguments, **changed}, to_import, input_channels, num_classes, deep_supervision=deep_supervision
    )
