"""The trainers that nnU-Net finds by name (`nnUNetv2_train ... -tr NAME`), and shorter runs of these and of nnU-Net's
own."""

from __future__ import annotations

import functools
from pathlib import Path

import nnunetv2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.networks.swin_unetr_v2 import SwinUNETRV2
from nnunet_transformers.training.recipe import Recipe
from nnunet_transformers.training.short_runs import short_trainer
from nnunet_transformers.training.transformer_trainer import TransformerTrainer


class nnUNetTrainerSwinUNETR(TransformerTrainer):
    """Swin UNETR (Hatamizadeh et al. 2021).

    Recipe: AdamW, learning rate and weight decay of the nnU-Net Revisited comparison at patches of 128^3 (Isensee et
    al., MICCAI 2024, the authors' trainers); warm-up of 5 % of the epochs and clipping at 1 as Primus (Wald et al.
    2025).
    """

    architecture = SwinUNETR
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerSwinUNETRV2(TransformerTrainer):
    """Swin UNETR V2 (He et al. 2023). Recipe: that of `nnUNetTrainerSwinUNETR`."""

    architecture = SwinUNETRV2
    recipe = nnUNetTrainerSwinUNETR.recipe


def trainer_names() -> list[str]:
    """The names of the trainers of this package."""
    return [
        name for name, value in globals().items() if name.startswith("nnUNetTrainer") and value is not nnUNetTrainer
    ]


def find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """A trainer of this package or of nnU-Net by its name."""
    if name in trainer_names():
        return globals()[name]
    folder = Path(nnunetv2.__path__[0], "training", "nnUNetTrainer")
    return recursive_find_python_class(str(folder), name, "nnunetv2.training.nnUNetTrainer", nnunetv2.__path__[0])


def __getattr__(name: str) -> type[nnUNetTrainer]:
    trainer = _short_trainer(name)
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return trainer


@functools.cache
def _short_trainer(name: str) -> type[nnUNetTrainer] | None:
    return short_trainer(name, find_trainer, module=__name__)
