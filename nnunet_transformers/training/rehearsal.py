"""A training without data: a trainer made as nnU-Net makes it, for plans of nnU-Net's kind, on batches of noise.

Its steps are those of a real run on this machine: compiled where nnU-Net compiles, in the precision it trains in, with
its loss, optimiser and gradient scaling.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

_DATASET = "Dataset999_Rehearsal"
_NAMES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def plans_for(
    patch_size: Sequence[int], spacing: Sequence[float], width: int = 32, batch_size: int = 2, residual: bool = False
) -> dict[str, Any]:
    """Plans with one configuration, `rehearsal`, whose topology is the one nnU-Net's planner gives the patch.

    Args:
        patch_size: in voxels; 2D or 3D.
        spacing: of the voxels, in mm.
        width: features at full resolution; nnU-Net's is 32.
        batch_size: images of a batch.
        residual: for nnU-Net's residual encoder U-Net (ResEnc M) instead of its plain one.
    """
    dims = len(patch_size)
    _, strides, kernels, patch, _ = get_pool_and_conv_props(spacing, patch_size, 4, 999999)
    n_stages = len(strides)
    if residual:
        network, blocks = "ResidualEncoderUNet", {"n_blocks_per_stage": [1, 3, 4, *[6] * n_stages][:n_stages]}
    else:
        network, blocks = "PlainConvUNet", {"n_conv_per_stage": [2] * n_stages}
    configuration = {
        "data_identifier": "rehearsal",
        "batch_size": batch_size,
        "patch_size": [int(n) for n in patch],
        "spacing": list(spacing),
        "batch_dice": False,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": {
                "n_stages": n_stages,
                "features_per_stage": [min(width * 2**i, (512, 320)[dims - 2]) for i in range(n_stages)],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                "kernel_sizes": [list(kernel) for kernel in kernels],
                "strides": [list(stride) for stride in strides],
                "n_conv_per_stage_decoder": [1 if residual else 2] * (n_stages - 1),
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
                **blocks,
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": _DATASET,
        "plans_name": "nnUNetPlans",
        "transpose_forward": list(range(dims)),
        "transpose_backward": list(range(dims)),
        "label_manager": "LabelManager",
        "configurations": {"rehearsal": configuration},
        "continue_training": False,
    }


@contextlib.contextmanager
def rehearsal(
    trainer_class: type[nnUNetTrainer], plans: dict[str, Any], device: torch.device, channels: int = 1
) -> Iterator[nnUNetTrainer]:
    """A trainer, initialised and ready for `train_step`, in temporary folders; what nnU-Net prints is not shown.

    Args:
        trainer_class: ours or nnU-Net's.
        plans: of `plans_for`.
        device: to train on.
        channels: of the images.
    """
    before = {name: os.environ.get(name) for name in _NAMES}
    dataset_json = {
        "channel_names": {str(i): f"channel {i}" for i in range(channels)},
        "labels": {"background": 0, "lesion": 1},
        "file_ending": ".nii.gz",
    }
    with tempfile.TemporaryDirectory() as folder:
        preprocessed = Path(folder, "nnUNet_preprocessed", _DATASET, "rehearsal")
        preprocessed.mkdir(parents=True)
        (preprocessed / "case.b2nd").touch()  # tells nnU-Net how the dataset would be stored
        os.environ.update({name: str(Path(folder, name)) for name in _NAMES})
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                trainer = trainer_class(plans, "rehearsal", 0, dataset_json, device)
                trainer.initialize()
                trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
                trainer.network.train()
            yield trainer
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def random_batch(trainer: nnUNetTrainer, seed: int = 0) -> dict[str, Any]:
    """A batch as the trainer's data loader gives it: noise, and a mask in which every tenth voxel is lesion."""
    patch_size = trainer.configuration_manager.patch_size
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(trainer.batch_size, trainer.num_input_channels, *patch_size, generator=generator)
    mask = (torch.rand(trainer.batch_size, 1, *patch_size, generator=generator) < 0.1).float()
    scales = trainer._get_deep_supervision_scales()
    if scales is None:
        return {"data": image, "target": mask}
    sizes = [tuple(int(n) for n in np.round(np.array(patch_size) * scale)) for scale in scales]
    return {"data": image, "target": [nn.functional.interpolate(mask, size) for size in sizes]}
