"""What all networks share: how they are described, initialised and measured, and what they may ask of a plan."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_transformers.networks.layers.unet_decoder import UNetDecoder
from nnunet_transformers.networks.memory import elements_saved_for_backward


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


class PlannedNetwork(AbstractDynamicNetworkArchitectures):
    """Base of the networks.

    A subclass has the constructor of dynamic-network-architectures' `ResidualEncoderUNet`, which a plan fills, and
    keyword-only arguments of its own whose defaults are the published values. It sets `key_to_encoder`, `key_to_stem`
    and `keys_to_in_proj`, and has a `decoder` with `deep_supervision` and `seg_layers`.

    Attributes:
        paper: where the network is published.
        decoder: returns the logits.
    """

    paper: ClassVar[Paper]
    decoder: UNetDecoder
    keys_to_in_proj: tuple[str, ...]

    @classmethod
    @abstractmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        """The constructor's arguments that follow from a plan made for a U-Net, beside its topology and settings."""

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
