"""MONAI's `SwinUNETR` and `UNETR` weights in ours.

Patch merging: MONAI concatenates the voxels of a patch in another order than raster order, so the columns of the norm
and the projection move. Weights trained with MONAI before 1.5 have the same shapes but another meaning (two voxels of
each patch twice, two never); this module takes those of 1.5 and later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from nnunet_transformers.networks.planned_network import PlannedNetwork
from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.networks.unetr import UNETR

# Where each voxel of a patch, in raster order, stands in MONAI >= 1.5's PatchMerging ("merging"), by number of axes.
_PLACE_OF_VOXEL = {2: [0, 2, 1, 3], 3: [0, 3, 2, 6, 1, 5, 4, 7]}

_SWIN_BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "attn.relative_position_bias_table": "attention.position_bias.table",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_TRANSFORMER_BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.out_proj": "attention.proj",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
}
_RESIDUAL = {"conv1.conv": "conv1", "conv2.conv": "conv2", "conv3.conv": "projection.conv"}


def load_monai_swin_unetr(network: SwinUNETR, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of MONAI's SwinUNETR (>= 1.5, `downsample="merging"`) into a network of the same settings.

    Args:
        network: six stages of stride 2, no convolution bias, norms without affine map; a `SwinUNETRV2` for weights made
            with `use_v2=True`.
        state_dict: MONAI's.

    Raises:
        ValueError: a tensor of either network has no counterpart, or not the same shape. The network is unchanged.
    """
    voxels = _PLACE_OF_VOXEL[network.state_dict()["encoder.patch_embed.weight"].ndim - 2]
    learnt = {name: tensor for name, tensor in state_dict.items() if "relative_position_index" not in name}
    _load(network, dict(_swin_unetr(name, tensor, voxels) for name, tensor in learnt.items()))


def load_monai_unetr(network: UNETR, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of MONAI's UNETR (`proj_type="conv"`) into a network of the same settings.

    Args:
        network: five stages of stride 2, no convolution bias, norms without affine map, `grid_size` that of MONAI's
            image.
        state_dict: MONAI's.

    Raises:
        ValueError: a tensor of either network has no counterpart, or not the same shape. The network is unchanged.
    """
    grid = network.encoder.position_embedding.table.shape[2:]
    # MONAI's blocks hold parameters of cross-attention that its ViT does not use.
    _load(network, dict(_unetr(n, tensor, grid) for n, tensor in state_dict.items() if "cross_attn" not in n))


def _load(network: PlannedNetwork, weights: Mapping[str, Tensor]) -> None:
    ours = network.state_dict()
    # Deep-supervision heads exist only here, but for the one at full resolution.
    last_head = f"decoder.seg_layers.{len(network.decoder.seg_layers) - 1}."
    weights = {name.replace("out.conv.conv.", last_head): tensor for name, tensor in weights.items()}
    expected = {name for name in ours if ".seg_layers." not in name or name.startswith(last_head)}
    unplaced, missing = sorted(weights.keys() - expected), sorted(expected - weights.keys())
    wrong = sorted(n for n in expected & weights.keys() if ours[n].shape != weights[n].shape)
    if unplaced or missing or wrong:
        raise ValueError(
            "these are not the weights of this network; "
            f"without a place here: {unplaced}; missing: {missing}; of another shape: {wrong}. Nothing was loaded."
        )
    network.load_state_dict(weights, strict=False)


def _unetr(name: str, tensor: Tensor, grid: Sequence[int]) -> tuple[str, Tensor]:
    """A tensor of MONAI's UNETR by its name and layout in ours; an unknown name is returned as it is."""
    if name == "vit.patch_embedding.position_embeddings":
        fits = tensor.shape[1] == math.prod(grid)
        return "encoder.position_embedding.table", tensor.mT.unflatten(-1, grid) if fits else tensor
    if name.startswith("vit.patch_embedding.patch_embeddings."):
        return name.replace("vit.patch_embedding.patch_embeddings", "encoder.patch_embed"), tensor
    if match := re.fullmatch(r"vit\.blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        block, part, kind = match.groups()
        return f"encoder.blocks.{block}.{_TRANSFORMER_BLOCK.get(part, part)}.{kind}", tensor
    if name.startswith("vit.norm."):
        return name.replace("vit.norm", "encoder.norm"), tensor
    if match := re.fullmatch(r"encoder(\d)\.(.+)\.weight", name):
        return f"skip_blocks.{int(match[1]) - 1}.{_upsampled_tap_part(match[2])}.weight", tensor
    return _decoder(name, tensor)


def _upsampled_tap_part(part: str) -> str:
    """Of `UnetrBasicBlock` or `UnetrPrUpBlock`, in which a transposed convolution stands before pairs of another one
    and a block."""
    if match := re.fullmatch(r"blocks\.(\d)\.0\.conv", part):
        return str(1 + 2 * int(match[1]))
    if (match := re.fullmatch(r"blocks\.(\d)\.1\.(.+)", part)) and match[2] in _RESIDUAL:
        return f"{2 + 2 * int(match[1])}.{_RESIDUAL[match[2]]}"
    return "0" if part == "transp_conv_init.conv" else _RESIDUAL.get(part.removeprefix("layer."), part)


def _swin_unetr(name: str, tensor: Tensor, place_of_voxel: Sequence[int]) -> tuple[str, Tensor]:
    """A tensor of MONAI's SwinUNETR by its name and layout in ours; an unknown name is returned as it is."""
    if name.startswith("swinViT.patch_embed.proj."):
        return name.replace("swinViT.patch_embed.proj", "encoder.patch_embed"), tensor
    if match := re.fullmatch(r"swinViT\.layers(\d)\.0\.blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", name):
        stage, block, part, kind = match.groups()
        if part in _SWIN_BLOCK:
            return f"encoder.stages.{int(stage) - 1}.{block}.{_SWIN_BLOCK[part]}{kind or ''}", tensor
    if match := re.fullmatch(r"swinViT\.layers(\d)\.0\.downsample\.(reduction|norm)\.(weight|bias)", name):
        stage, part, kind = match.groups()
        return f"encoder.merges.{int(stage) - 1}.{part}.{kind}", _raster_order(tensor, place_of_voxel)
    match = re.fullmatch(r"swinViT\.layers(\d)c\.0\.layer\.(.+)\.weight", name)  # of use_v2
    if match and match[2] in _RESIDUAL:
        return f"encoder.convolutions.{int(match[1]) - 1}.{_RESIDUAL[match[2]]}.weight", tensor
    if match := re.fullmatch(r"encoder(\d+)\.layer\.(.+)\.weight", name):
        stage = {"1": 0, "2": 1, "3": 2, "4": 3, "10": 5}.get(match[1])
        if stage is not None and match[2] in _RESIDUAL:
            return f"skip_blocks.{stage}.{_RESIDUAL[match[2]]}.weight", tensor
    return _decoder(name, tensor)


def _decoder(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """A tensor of either network's decoder, whose first block is called `decoder5`."""
    match = re.fullmatch(r"decoder(\d)\.(transp_conv|conv_block)\.(.+)\.weight", name)
    if match and match[2] == "transp_conv":
        return f"decoder.upsamplings.{5 - int(match[1])}.weight", tensor
    if match and match[3] in _RESIDUAL:
        return f"decoder.stages.{5 - int(match[1])}.{_RESIDUAL[match[3]]}.weight", tensor
    return name, tensor


def _raster_order(tensor: Tensor, place_of_voxel: Sequence[int]) -> Tensor:
    """Reorder the last axis, the voxels of a patch times channels, from MONAI's order of voxels to raster order."""
    return tensor.unflatten(-1, (len(place_of_voxel), -1))[..., place_of_voxel, :].flatten(-2)
