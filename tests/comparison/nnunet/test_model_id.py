from __future__ import annotations

import pytest

from nnunet_transformers.comparison.nnunet.model_id import ModelId


def test_a_folder_name_and_its_model_are_one() -> None:
    name = "nnUNetTrainer_5epochs__nnUNetPlans__3d_fullres"
    assert str(ModelId.parse(name)) == name
    assert ModelId.parse("ensembles") is None


@pytest.mark.parametrize(
    ("trainer", "length"),
    [
        ("nnUNetTrainer", (None, None)),
        ("nnUNetTrainer_1epoch", (1, None)),
        ("nnUNetTrainerSwinUNETR_5epochs_100iterations", (5, 100)),
        ("nnUNetTrainer_DA5_250epochs_seed2", (250, None)),
        ("MyTrainer_250epochs_CE_10iterations", (250, 10)),
        ("nnUNetTrainer_5epochsmore", (None, None)),
    ],
)
def test_a_trainers_name_says_how_long_it_trains(trainer: str, length: tuple[int | None, int | None]) -> None:
    told = ModelId(trainer, "nnUNetPlans", "2d").parts
    assert (told.epochs, told.iterations) == length
