"""The trainers that nnU-Net finds by name (`nnUNetv2_train ... -tr NAME`), and variants of these and of all others
that nnU-Net finds: another loss, augmentation, length or seed."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import nnunetv2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_transformers.networks.cotr import CoTr
from nnunet_transformers.networks.nnformer import NNFormer
from nnunet_transformers.networks.swin_unet import SwinUnet
from nnunet_transformers.networks.swin_unetr import SwinUNETR
from nnunet_transformers.networks.swin_unetr_v2 import SwinUNETRV2
from nnunet_transformers.networks.transbts import TransBTS
from nnunet_transformers.networks.transunet import TransUNet
from nnunet_transformers.networks.u_transformer import UTransformer
from nnunet_transformers.networks.unetr import UNETR
from nnunet_transformers.networks.unetr_pp import UNETRPP
from nnunet_transformers.training.recipe import Recipe
from nnunet_transformers.training.transformer_trainer import TransformerTrainer
from nnunet_transformers.training.variants import VariantError, variant

_ASKS_US = "nnunet_transformers_trainers.py"  # in the folder of this package, and of a copy of it elsewhere


class nnUNetTrainerUNETR(TransformerTrainer):
    """UNETR (Hatamizadeh et al. 2022). Recipe: as `nnUNetTrainerSwinUNETR`; the same source gives the same values."""

    architecture = UNETR
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


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


class nnUNetTrainerSwinUnet(TransformerTrainer):
    """Swin-Unet (Cao et al. 2022).

    Recipe: AdamW with learning rate 1e-4, which nnU-Net's authors found it to need in nnU-Net, whose own SGD with 1e-2
    gave a user NaN (MIC-DKFZ/nnUNet issue 2197); weight decay, warm-up and clipping as `nnUNetTrainerSwinUNETR`.
    """

    architecture = SwinUnet
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerUTransformer(TransformerTrainer):
    """U-Transformer (Petit et al. 2021).

    Recipe: that of `nnUNetTrainerSwinUNETR`; 1e-4 is also the learning rate of the nnU-Net Revisited authors' trainers
    for convolutional networks with a Transformer inside, TransUNet and TransBTS.
    """

    architecture = UTransformer
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerTransBTS(TransformerTrainer):
    """TransBTS (Wang et al. 2021).

    Recipe: AdamW with the learning rate and weight decay of the nnU-Net Revisited authors' TransBTS trainer, half the
    rate of the paper's Adam; warm-up and clipping as `nnUNetTrainerSwinUNETR`.
    """

    architecture = TransBTS
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerTransUNet(TransformerTrainer):
    """3D TransUNet, encoder variant (Chen et al. 2023).

    Recipe: AdamW with the learning rate and weight decay of the nnU-Net Revisited authors' TransUNet trainer, a third
    of the rate that the authors of 3D TransUNet give a pre-trained Transformer; warm-up and clipping as
    `nnUNetTrainerSwinUNETR`.
    """

    architecture = TransUNet
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerNNFormer(TransformerTrainer):
    """nnFormer (Zhou et al. 2023).

    Recipe: learning rate of the nnU-Net Revisited comparison for this network at patches of 128^3 (Isensee et al.,
    MICCAI 2024, the authors' trainers), half that of Swin UNETR there; the rest that of `nnUNetTrainerSwinUNETR`.
    """

    architecture = NNFormer
    recipe = Recipe(lr=5e-5, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerCoTr(TransformerTrainer):
    """CoTr (Xie et al. 2021).

    Recipe: AdamW with the learning rate and weight decay of the nnU-Net Revisited authors' CoTr trainer, which has deep
    supervision too; warm-up and clipping as `nnUNetTrainerSwinUNETR`.
    """

    architecture = CoTr
    recipe = Recipe(lr=5e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


class nnUNetTrainerUNETRPP(TransformerTrainer):
    """UNETR++ (Shaker et al. 2024).

    Recipe: AdamW with the learning rate of the nnU-Net Revisited authors' UNETR trainer and the weight decay of theirs
    and of UNETR++'s own; warm-up and clipping as `nnUNetTrainerSwinUNETR`. UNETR++'s authors train with SGD at 1e-2.
    """

    architecture = UNETRPP
    recipe = Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)


def trainer_names() -> list[str]:
    """The names of the trainers of this package."""
    return [
        name for name, value in globals().items() if name.startswith("nnUNetTrainer") and value is not nnUNetTrainer
    ]


def find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """A trainer of this package, of nnU-Net or of a folder in nnUNet_extTrainer, or a variant of one, by its name.

    Raises:
        VariantError: the trainer is there, and the rest of the name cannot be.
    """
    return _written_trainer(name) or _variant(name)


def find_variant(name: str) -> type[nnUNetTrainer] | None:
    """A variant that nnU-Net does not find elsewhere; raises as `find_trainer` does."""
    return None if _written_trainer(name) else _variant(name)


def __getattr__(name: str) -> type[nnUNetTrainer]:
    try:
        trainer = None if name.startswith("_") else find_variant(name)
    except VariantError as error:
        raise AttributeError(str(error)) from error
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return trainer


@functools.cache
def _variant(name: str) -> type[nnUNetTrainer] | None:
    return variant(name, _written_trainer, module=__name__)


def _written_trainer(name: str) -> type[nnUNetTrainer] | None:
    """A trainer that somebody wrote under this name."""
    if name in trainer_names():
        return globals()[name]
    nnunet = nnunetv2.__path__[0]
    found = recursive_find_python_class(
        str(Path(nnunet, "training", "nnUNetTrainer")), name, "nnunetv2.training.nnUNetTrainer", nnunet
    )
    for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep):
        if found is None and os.path.isdir(folder) and not os.path.exists(os.path.join(folder, _ASKS_US)):
            found = recursive_find_python_class(folder, name, None, folder, cleanup_imports_from_base_folder=True)
    return found if isinstance(found, type) and issubclass(found, nnUNetTrainer) else None
