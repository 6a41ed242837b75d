from __future__ import annotations

import inspect
import itertools
import os
import pickle
import pkgutil
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer import variants as nnunets
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

from nnunet_transformers.plugin.autostart import TRAINER_FOLDER, VARIABLE
from nnunet_transformers.training import trainers
from nnunet_transformers.training.rehearsal import plans_for, random_batch, rehearsal
from nnunet_transformers.training.variant_names import AUGMENTATIONS, LOSSES, PIECES, Piece
from nnunet_transformers.training.variants import VariantError, recipe_of, stock_class

SWIN = trainers.nnUNetTrainerSwinUNETR
AUGMENTING = ("configure_rotation_dummyDA_mirroring_and_inital_patch_size", "get_training_transforms")

NAMES = [
    ("nnUNetTrainerSwinUNETR_7epochs", SWIN),
    ("nnUNetTrainerSwinUNETR_3epochs_20iterations", SWIN),
    ("nnUNetTrainer_3epochs_20iterations", nnUNetTrainer),
    ("nnUNetTrainer_7epochs", nnUNetTrainer),
    ("nnUNetTrainerSwinUNETR_seed2_20iterations_DA5_DiceTopK10Loss_7epochs", SWIN),
    ("nnUNetTrainer_DiceTopK10_DA5", nnUNetTrainer),
    ("nnUNet_PrimusV3S_Trainer_NoDA_CE_seed1", trainers.find_trainer("nnUNet_PrimusV3S_Trainer")),
    ("nnUNetTrainer_250epochs_NoMirroring_seed1", trainers.find_trainer("nnUNetTrainer_250epochs_NoMirroring")),
]

MINE = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

class MyTrainer(nnUNetTrainer): pass
class nnUNetTrainerV2_MedNeXt_S_kernel3(nnUNetTrainer): pass
class MyTrainer_DA5_big(nnUNetTrainer): pass
class MyTrainer_CE(nnUNetTrainer): pass
class OwnLoss(nnUNetTrainer):
    def _build_loss(self): return None
class OwnLossFromNnunets(nnUNetTrainer):
    def _build_loss(self): return super()._build_loss()
class OwnRotation(nnUNetTrainer):
    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self): return (0, 0), False, None, (0, 1, 2)
class OwnInitialize(nnUNetTrainer):
    def initialize(self): self.loss = None
class OwnInitializeOnTop(nnUNetTrainer):
    def initialize(self): nnUNetTrainer.initialize(self)
class WithDA5(nnUNetTrainerDA5): pass
class WithoutMirroring(nnUNetTrainerNoMirroring): pass
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers in a folder of the user's, which stands after a missing one and before ours."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setenv(VARIABLE, os.pathsep.join(["", str(tmp_path / "missing"), str(tmp_path), TRAINER_FOLDER]))
    trainers._variant.cache_clear()


@pytest.mark.parametrize(("name", "base"), NAMES)
def test_nnunet_finds_a_variant_under_its_own_name(name, base):
    trainer = find(name)
    assert base in trainer.__bases__
    assert trainer.__name__ == trainer.__qualname__ == name
    assert list(inspect.signature(trainer).parameters) == list(inspect.signature(nnUNetTrainer).parameters)
    assert find(name) is trainer
    assert trainers.find_trainer(name) is trainer
    assert pickle.loads(pickle.dumps(trainer)) is trainer


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("MyTrainer_2epochs_5iterations", "MyTrainer"),
        ("MyTrainer_DiceTopK10_DA5_seed2", "MyTrainer"),
        ("nnUNetTrainerV2_MedNeXt_S_kernel3_DA5_5epochs", "nnUNetTrainerV2_MedNeXt_S_kernel3"),
        ("MyTrainer_DA5_big_seed1", "MyTrainer_DA5_big"),
        ("MyTrainer_CE_seed1", "MyTrainer_CE"),  # theirs, and not a variant of MyTrainer
        ("MyTrainer_Dice_seed1", "MyTrainer"),
        ("OwnLoss_DA5", "OwnLoss"),
        ("OwnRotation_NoMirroring", "OwnRotation"),  # it asks the trainer first
        ("OwnRotation_CE", "OwnRotation"),
        ("OwnInitializeOnTop_CE", "OwnInitializeOnTop"),
        ("WithDA5_NoMirroring", "WithDA5"),
    ],
)
def test_a_users_own_trainer_has_variants_too_whatever_it_is_called(name, base, mine):
    trainer = find(name)
    assert trainer.__bases__[-1].__name__ == base
    assert pickle.loads(pickle.dumps(trainer)) is trainer


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainer_5epochs", "nnUNetTrainerDiceTopK10Loss", "nnUNetTrainerDA5", "nnUNetTrainer_onlyMirror01_DA5"],
)
def test_nnunets_own_variants_stay_its_own(name):
    assert find(name).__module__.startswith("nnunetv2.")
    assert not hasattr(trainers, name)


def test_a_trainer_in_a_folder_after_ours_comes_before_a_variant_of_its_name(mine, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, os.pathsep.join([TRAINER_FOLDER, str(tmp_path)]))
    for name in ("MyTrainer_CE", "MyTrainer_DA5_big", "MyTrainer"):
        assert find(name).__module__ == "mine"


def test_a_copy_of_our_folder_from_another_environment_does_no_harm(tmp_path, monkeypatch):
    copy = shutil.copytree(TRAINER_FOLDER, tmp_path / "copy")
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(copy), TRAINER_FOLDER]))
    trainers._variant.cache_clear()
    assert issubclass(find("nnUNetTrainerSwinUNETR_DA5_9epochs"), SWIN)
    with pytest.raises(VariantError):
        find("nnUNetTrainerSwinUNETR_DA6_9epochs")


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerNobody", "nnUNetTrainerNobody_3epochs", "Nobody_DA5", "get_patch_size_CE"]
)
def test_variants_of_nobody_are_not_found(name):
    with pytest.raises(RuntimeError, match="Could not find") as raised:
        find(name)
    assert raised.type is RuntimeError
    assert not hasattr(trainers, name)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nnUNetTrainer_0epochs", "UNKNOWN_VARIANT", "nnUNetTrainer is there, but 0epochs is no part"),
        ("nnUNetTrainerSwinUNETR_epochs", "UNKNOWN_VARIANT", "but epochs is no part"),
        ("nnUNetTrainerSwinUNETR_DA6_5epochs", "UNKNOWN_VARIANT", "but DA6 is no part of a name; did you mean DA5?"),
        ("nnUNetTrainer_DiceTopk10", "UNKNOWN_VARIANT", "did you mean DiceTopK10? Losses: CE, Dice, "),
        ("nnUNetTrainer_DA5_NoDA", "TWO_VARIANTS", "names two augmentations"),
        ("nnUNetTrainerDA5_NoDA", "TWO_VARIANTS", "names two augmentations"),
        ("nnUNetTrainer_5epochs_20epochs", "TWO_VARIANTS", "names two lengths"),
        ("MyTrainer_seed1_seed2", "TWO_VARIANTS", "names two seeds"),
        ("MyTrainer_DA7", "UNKNOWN_VARIANT", "MyTrainer is there, but DA7"),
        ("WithDA5_DA5", "TWO_VARIANTS", "WithDA5 has the augmentation DA5 already"),
        ("WithoutMirroring_NoMirroring_CE", "TWO_VARIANTS", "has the augmentation NoMirroring already"),
        ("OwnLoss_CE", "VARIANT_UNDOES", "CE would undo OwnLoss's own _build_loss"),
        ("OwnLossFromNnunets_CE", "VARIANT_UNDOES", "CE would undo OwnLossFromNnunets's own _build_loss"),
        ("OwnRotation_DA5", "VARIANT_UNDOES", "DA5 would undo OwnRotation's own configure_rotation"),
        ("WithDA5_NoDA", "VARIANT_UNDOES", "NoDA would undo nnUNetTrainerDA5's own get_training_transforms"),
        (
            "OwnInitialize_CE",
            "VARIANT_WITHOUT_EFFECT",
            "OwnInitialize's own initialize does not call _build_loss",
        ),
    ],
)
def test_a_name_that_cannot_be_is_explained(name, code, said, mine):
    with pytest.raises(VariantError) as raised:
        find(name)
    assert isinstance(raised.value, RuntimeError)  # as what nnU-Net raises for a trainer that is not there
    assert said in str(raised.value)
    assert raised.value.code == code
    assert str(raised.value).endswith(f"[{code}]")
    assert not hasattr(trainers, name)


def test_a_piece_that_the_installed_nnunet_lacks_is_named():
    with pytest.raises(VariantError, match=r"nnunetv2 [\d.]+ has no nnUNetTrainerDiceFocalLoss"):
        stock_class(Piece("loss", "nnUNetTrainerDiceFocalLoss", "loss.nnUNetTrainerFocal", "focal"))


def test_every_loss_and_augmentation_of_nnunets_is_a_piece_and_changes_nothing_else():
    folder = Path(nnunets.__path__[0])
    found = set()
    for kind in ("loss", "data_augmentation", "competitions"):
        for module in pkgutil.iter_modules([str(folder / kind)]):
            imported = pkgutil.resolve_name(f"{nnunets.__name__}.{kind}.{module.name}")
            found |= {c for c in vars(imported).values() if inspect.isclass(c) and c.__module__ == imported.__name__}
    with_length = {c for c in found if "__init__" in vars(c)}
    assert {stock_class(piece) for piece in PIECES} == found - with_length
    for piece in PIECES:
        below = itertools.takewhile(lambda c: c is not nnUNetTrainer, stock_class(piece).__mro__)
        overridden = {name for c in below for name, value in vars(c).items() if not name.startswith("__")}
        assert overridden <= ({"_build_loss"} if piece.kind == "loss" else set(AUGMENTING))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_and_augmentation_is_nnunets_own_on_our_trainer(loss):
    plans = plans_for((32, 32), (1, 1), width=8)
    of_loss = next(stock_class(piece) for piece in PIECES if piece.name == loss)
    for augmentation in AUGMENTATIONS:
        of_augmentation = next(stock_class(piece) for piece in PIECES if piece.name == augmentation)
        variant = find(f"nnUNetTrainerSwinUNETR_{augmentation}_{loss}")
        with rehearsal(variant, dict(plans), torch.device("cpu")) as trainer:
            batch = random_batch(trainer)
            with torch.no_grad():
                output = trainer.network(batch["data"])
                assert torch.isfinite(trainer.loss(output, batch["target"]))
                expected = of_loss._build_loss(trainer)(output, batch["target"])
            assert torch.equal(trainer.loss(output, batch["target"]), expected)
            assert recipe_of(variant)[0] == loss
            assert variant.get_training_transforms is of_augmentation.get_training_transforms
            *_, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            assert (mirror is None) == (augmentation in ("NoDA", "NoMirroring", "DASegOrd0_NoMirroring"))
            assert trainer.inference_allowed_mirroring_axes == mirror


def test_private_names_are_not_taken_for_trainers():
    assert not hasattr(trainers, "__wrapped__")


@pytest.mark.parametrize(
    ("name", "epochs", "iterations", "validation"),
    [
        ("nnUNetTrainerSwinUNETR_3epochs_20iterations", 3, 20, 4),
        ("nnUNetTrainerSwinUNETR_2iterations_DA5", 1000, 2, 1),
        ("nnUNetTrainerSwinUNETR_CE_7epoch", 7, 250, 50),
    ],
)
def test_a_length_is_what_the_name_says(name, epochs, iterations, validation):
    with rehearsal(find(name), plans_for((32, 32), (1, 1), width=8), torch.device("cpu")) as trainer:
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (epochs, iterations)
        assert trainer.num_val_iterations_per_epoch == validation
        assert trainer.lr_scheduler.num_epochs == epochs


def test_a_seed_decides_the_weights_that_a_training_begins_with():
    def weights(name: str) -> list[float]:
        with rehearsal(find(name), plans_for((32, 32), (1, 1), width=8), torch.device("cpu")) as trainer:
            return torch.nn.utils.parameters_to_vector(trainer.network.parameters()).tolist()

    of_seed_2 = weights("nnUNetTrainerSwinUNETR_seed2")
    assert weights("nnUNetTrainerSwinUNETR_seed2_CE") == of_seed_2
    assert weights("nnUNetTrainerSwinUNETR_seed3") != of_seed_2


@pytest.mark.parametrize("loss", LOSSES)
def test_on_plans_of_two_stages_a_loss_is_finite_as_the_trainers_own_is(loss):
    plans = plans_for((8, 8), (1, 1), width=8)
    with rehearsal(find(f"nnUNetTrainerUTransformer_{loss}"), plans, torch.device("cpu")) as trainer:
        assert not trainer.enable_deep_supervision
        assert np.isfinite(trainer.train_step(random_batch(trainer))["loss"])
