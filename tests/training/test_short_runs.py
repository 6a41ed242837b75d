from __future__ import annotations

import inspect
import os
import pickle

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

from nnunet_transformers.plugin.autostart import TRAINER_FOLDER, VARIABLE
from nnunet_transformers.training import trainers

NAMES = [
    ("nnUNetTrainerSwinUNETR_7epochs", trainers.nnUNetTrainerSwinUNETR),
    ("nnUNetTrainerSwinUNETR_3epochs_20iterations", trainers.nnUNetTrainerSwinUNETR),
    ("nnUNetTrainer_3epochs_20iterations", nnUNetTrainer),
    ("nnUNetTrainer_7epochs", nnUNetTrainer),
]


@pytest.mark.parametrize(("name", "base"), NAMES)
def test_nnunet_finds_a_short_trainer_under_its_own_name(name, base):
    trainer = find(name)
    assert issubclass(trainer, base)
    assert trainer.__name__ == name
    assert list(inspect.signature(trainer).parameters) == list(inspect.signature(nnUNetTrainer).parameters)
    assert find(name) is trainer
    assert pickle.loads(pickle.dumps(trainer)) is trainer


def test_stock_variants_can_be_shortened_too():
    assert find("nnUNetTrainerNoMirroring_2epochs").__mro__[1].__name__ == "nnUNetTrainerNoMirroring"


def test_a_users_own_trainer_in_another_folder_can_be_shortened_too(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerMine(nnUNetTrainer): pass\n"
    )
    monkeypatch.setenv(VARIABLE, os.pathsep.join(["", str(tmp_path / "missing"), str(tmp_path), TRAINER_FOLDER]))
    trainer = find("nnUNetTrainerMine_2epochs_5iterations")
    assert trainer.__mro__[1].__name__ == "nnUNetTrainerMine"
    assert pickle.loads(pickle.dumps(trainer)) is trainer


def test_nnunets_own_short_trainers_stay_its_own():
    assert find("nnUNetTrainer_5epochs").__module__.startswith("nnunetv2.")


@pytest.mark.parametrize(
    "name",
    ["nnUNetTrainerNobody", "nnUNetTrainerNobody_3epochs", "nnUNetTrainer_0epochs", "nnUNetTrainerSwinUNETR_epochs"],
)
def test_other_names_are_not_found(name):
    with pytest.raises(RuntimeError, match="Could not find"):
        find(name)
    assert not hasattr(trainers, name)


def test_private_names_are_not_taken_for_trainers():
    assert not hasattr(trainers, "__wrapped__")
