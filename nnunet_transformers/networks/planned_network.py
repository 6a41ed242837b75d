"""What all networks share: how they are described, initialised and measured, and what they may ask of a plan."""

from __future__ import annotations

import inspect
import operator
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.layers.unet_decoder import UNetDecoder
from nnunet_transformers.networks.memory import elements_saved_for_backward
from nnunet_transformers.networks.topology import PerAxis, Sizes, Topology, per_stage


@dataclass(frozen=True)
class Paper:
    """Where a network is published.

    Attributes:
        authors, title, venue: as a bibliography has them; venue with the year.
        arxiv: number of the preprint.
        family: where its Transformer stands, in the terms of Xiao et al., "Transformers in medical image
            segmentation: A review", Biomedical Signal Processing and Control 84, 2023.
    """

    authors: str
    title: str
    venue: str
    arxiv: str
    family: str


@dataclass(frozen=True)
class Configuration:
    """What a network may ask of a configuration of the plans, beside topology and convolution settings.

    Attributes:
        patch_size: in voxels.
        spacing: of the voxels, in mm.
        strides: stride into each stage, full resolution first.
        windows: attention window of each stage; it divides the stage's map of the patch where one can.
        relative_width: the plan's width at full resolution in units of nnU-Net's own 32, at most 1. A network has its
            published width at 1 and is narrower in proportion below.
    """

    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    strides: tuple[tuple[int, ...], ...]
    windows: tuple[tuple[int, ...], ...]
    relative_width: float

    def narrowed(self, published: int, step: int = 1) -> int:
        """A published width, narrowed with the plan to a multiple of step, at least one step."""
        return max(1, round(published * self.relative_width / step)) * step


@dataclass(frozen=True)
class Plan:
    """The constructor's arguments that every network takes from a plan, checked, one entry per stage.

    Attributes:
        input_channels: channels of the image.
        num_classes: segmentation channels.
        topology: strides and kernels.
        features_per_stage, n_blocks_per_stage: full resolution first.
        n_conv_per_stage_decoder: deepest first.
        settings: of the convolutions.
        deep_supervision: return the logits of every stage but the deepest.
    """

    input_channels: int
    num_classes: int
    topology: Topology
    features_per_stage: list[int]
    n_blocks_per_stage: list[int]
    n_conv_per_stage_decoder: list[int]
    settings: ConvSettings
    deep_supervision: bool


class PlannedNetwork(AbstractDynamicNetworkArchitectures):
    """Base of the networks, with the constructor of dynamic-network-architectures' `ResidualEncoderUNet`.

    The constructor is what a plan fills. A subclass is its `build`, whose keyword-only arguments become keyword
    arguments of the constructor; their defaults are the published values. It sets `key_to_encoder`, `key_to_stem`,
    `keys_to_in_proj` and a `decoder`.

    Args:
        input_channels: channels of the image.
        n_stages: resolutions.
        features_per_stage: width of each stage, full resolution first, an int or n_stages of them.
        conv_op: torch.nn.Conv2d or Conv3d.
        kernel_sizes: kernel of the convolutions at each stage, an int or one per axis.
        strides: stride into each stage, an int or one per axis; the first is 1.
        n_blocks_per_stage: blocks of each stage of the encoder, an int or n_stages of them.
        num_classes: segmentation channels.
        n_conv_per_stage_decoder: convolutions of each stage of the decoder, deepest first, an int or n_stages - 1.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
        deep_supervision: return the logits of every stage but the deepest, full resolution first.
        own: the network's own arguments.

    Attributes:
        paper: where the network is published.
        min_stages: resolutions it needs.
        total_stride: product of the strides, per axis; an image is a multiple of it.
        decoder: returns the logits.

    Raises:
        ValueError: a number of stages, a size or a stride that cannot be.
    """

    paper: ClassVar[Paper]
    min_stages: ClassVar[int] = 2
    total_stride: Sizes
    decoder: UNetDecoder
    keys_to_in_proj: tuple[str, ...]

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: int | Sequence[int],
        conv_op: type[nn.Module],
        kernel_sizes: int | Sequence[PerAxis],
        strides: int | Sequence[PerAxis],
        n_blocks_per_stage: int | Sequence[int],
        num_classes: int,
        n_conv_per_stage_decoder: int | Sequence[int],
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
        **own: Any,
    ) -> None:
        super().__init__()
        self.check_stages(n_stages)
        plan = Plan(
            input_channels=input_channels,
            num_classes=num_classes,
            topology=Topology.from_plan(conv_op, n_stages, strides, kernel_sizes),
            features_per_stage=per_stage("features_per_stage", features_per_stage, n_stages),
            n_blocks_per_stage=per_stage("n_blocks_per_stage", n_blocks_per_stage, n_stages),
            n_conv_per_stage_decoder=per_stage("n_conv_per_stage_decoder", n_conv_per_stage_decoder, n_stages - 1),
            settings=ConvSettings(
                conv_op, conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs
            ),
            deep_supervision=deep_supervision,
        )
        self.total_stride = plan.topology.stride_between(0, n_stages - 1)
        self.build(plan, **own)

    def __init_subclass__(cls) -> None:
        """The signature of the constructor names the network's own arguments."""
        super().__init_subclass__()
        shared = [
            p for p in inspect.signature(PlannedNetwork.__init__).parameters.values() if p.name not in ("self", "own")
        ]
        cls.__signature__ = inspect.Signature([*shared, *own_parameters(cls)])

    @classmethod
    def check_stages(cls, n_stages: int) -> None:
        """Refuse a plan of too few resolutions with a ValueError."""
        if n_stages < cls.min_stages:
            raise ValueError(
                f"{cls.__name__} needs at least {cls.min_stages} resolutions, the plan has n_stages={n_stages}; "
                "a larger patch has more, and `nnunet-transformers list` says how many each trainer needs"
            )

    @abstractmethod
    def build(self, plan: Plan) -> None:
        """Make the network's modules; a network adds its own arguments, keyword-only and with defaults."""

    @classmethod
    @abstractmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        """The constructor's arguments that follow from a plan made for a U-Net, beside its topology and settings."""

    def check_size(self, x: Tensor) -> None:
        """Refuse an image that the strides do not divide; every network's forward pass begins with this.

        For torch.compile it makes the sizes constants, once for the whole network: each size has a graph of its own and
        nothing in it is symbolic but the batch.

        Raises:
            ValueError: the image (B, C, *spatial) has other axes, or a size that is no multiple of the total stride.
        """
        size = tuple([operator.index(n) for n in x.shape[2:]])
        if len(size) != len(self.total_stride) or any(n % s for n, s in zip(size, self.total_stride, strict=True)):
            raise ValueError(
                f"{type(self).__name__} takes images whose sizes are multiples of {self.total_stride}, the strides of "
                f"its plan; got {size}. Pad the image, as nnU-Net's predictor does"
            )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of a convolution, as nnU-Net's; linear layers have theirs from construction."""
        InitWeights_He(1e-2)(module)

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Elements kept for the backward pass of one sample of this spatial size: the planner's measure of GPU memory.

        Without weights; attention counts as fused, which keeps no scores.
        """
        (in_channels,) = {self.get_submodule(key).weight.shape[1] for key in self.keys_to_in_proj}
        return elements_saved_for_backward(self, (in_channels, *input_size))


def own_parameters(network: type[PlannedNetwork]) -> list[inspect.Parameter]:
    """A network's own arguments: those of `build` beside the plan."""
    return [p for p in inspect.signature(network.build).parameters.values() if p.kind is p.KEYWORD_ONLY]
