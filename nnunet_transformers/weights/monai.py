"""MONAI's `SwinUNETR` weights in our `SwinUNETR`.

Merging: MONAI concatenates the voxels of a patch in another order than raster order, so the columns of the norm and the
projection move. Weights trained with MONAI before 1.5 have the same shapes but another meaning (two voxels of each
patch twice, two never); this module takes those of 1.5 and later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from nnunet_transformers.networks.swin_unetr import SwinUNETR

# Where each voxel of a patch, in raster order, stands in MONAI >= 1.5's PatchMerging ("merging"), by number of axes.
_PLACE_OF_VOXEL = {2: [0, 2, 1, 3], 3: [0, 3, 2, 6, 1, 5, 4, 7]}

_BLOCK = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "attn.relative_position_bias_table": "attention.position_bias.table",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}
_RESIDUAL = {"conv1.conv": "conv1", "conv2.conv": "conv2", "conv3.conv": "projection.conv"}


def load_monai_swin_unetr(network: SwinUNETR, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of MONAI's SwinUNETR (>= 1.5, `downsample="merging"`) into a network of the same settings.

    Args:
        network: six stages of stride 2, no convolution bias, norms without affine map.
        state_dict: MONAI's.

    Raises:
        ValueError: a tensor of either network has no counterpart, or not the same shape. The network is unchanged.
    """
    ours = network.state_dict()
    voxels = _PLACE_OF_VOXEL[ours["encoder.patch_embed.weight"].ndim - 2]
    translated = dict(_translate(n, tensor, voxels) for n, tensor in state_dict.items() if "position_index" not in n)
    # Deep-supervision heads exist only here, but for the one at full resolution.
    last_head = f"decoder.seg_layers.{len(network.decoder.seg_layers) - 1}."
    expected = {name for name in ours if ".seg_layers." not in name or name.startswith(last_head)}
    unplaced, missing = sorted(translated.keys() - expected), sorted(expected - translated.keys())
    wrong = sorted(n for n in expected & translated.keys() if ours[n].shape != translated[n].shape)
    if unplaced or missing or wrong:
        raise ValueError(
            "these are not the weights of this network; "
            f"without a place here: {unplaced}; missing: {missing}; of another shape: {wrong}. Nothing was loaded."
        )
    network.load_state_dict(translated, strict=False)


def _translate(name: str, tensor: Tensor, place_of_voxel: Sequence[int]) -> tuple[str, Tensor]:
    """A MONAI tensor's name and layout in our network; an unknown name is returned as it is."""
    if name.startswith("swinViT.patch_embed.proj."):
        return name.replace("swinViT.patch_embed.proj", "encoder.patch_embed"), tensor
    if match := re.fullmatch(r"swinViT\.layers(\d)\.0\.blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", name):
        stage, block, part, kind = match.groups()
        if part in _BLOCK:
            return f"encoder.stages.{int(stage) - 1}.{block}.{_BLOCK[part]}{kind or ''}", tensor
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
    if match := re.fullmatch(r"decoder(\d)\.(transp_conv|conv_block)\.(.+)\.weight", name):
        stage = 5 - int(match[1])
        if match[2] == "transp_conv":
            return f"decoder.upsamplings.{stage}.weight", tensor
        if match[3] in _RESIDUAL:
            return f"decoder.stages.{stage}.{_RESIDUAL[match[3]]}.weight", tensor
    if name.startswith("out.conv.conv."):
        return name.replace("out.conv.conv", "decoder.seg_layers.4"), tensor
    return name, tensor


def _raster_order(tensor: Tensor, place_of_voxel: Sequence[int]) -> Tensor:
    """Reorder the last axis, the voxels of a patch times channels, from MONAI's order of voxels to raster order."""
    return tensor.unflatten(-1, (len(place_of_voxel), -1))[..., place_of_voxel, :].flatten(-2)
