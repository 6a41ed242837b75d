from __future__ import annotations

from pathlib import Path

from helpers.results_folder import FOLDS, SWIN, write_model

from nnunet_transformers.comparison.nnunet.names import left_out, repetitions, short_names
from nnunet_transformers.comparison.nnunet.results import read_results


def test_names_leave_out_what_all_have_in_common(results: Path) -> None:
    assert list(short_names(read_results(results)).values()) == [
        "nnUNetTrainer",
        "nnUNetTrainerSwinUNETR",
        "ensemble of nnUNetTrainer + nnUNetTrainerSwinUNETR",
    ]


def test_names_tell_apart_what_differs(empty: Path) -> None:
    for name in ("nnUNetTrainer__nnUNetPlans__2d", "nnUNetTrainer__nnUNetPlans__3d_fullres", SWIN):
        write_model(empty, name, FOLDS)
    names = short_names(read_results(empty))
    assert len(set(names.values())) == 3
    assert names["nnUNetTrainer__nnUNetPlans__2d"] == "nnUNetTrainer · 2d"


def named(empty: Path, *trainers: str) -> tuple[list[str], str, list[str]]:
    for trainer in trainers:
        write_model(empty, f"{trainer}__nnUNetPlans__3d_fullres", FOLDS)
    results = read_results(empty)
    names = short_names(results)
    return sorted(names.values()), left_out(results), repetitions(names)


def test_the_same_recipe_is_left_out_whatever_the_order_of_its_parts(empty: Path) -> None:
    trainers = ("nnUNetTrainer_DA5_CE_5epochs", "nnUNetTrainerSwinUNETR_5epochs_CELoss_DA5")
    names, said, repeated = named(empty, *trainers)
    assert names == ["nnUNetTrainer", "nnUNetTrainerSwinUNETR"]
    assert said.endswith(
        "the same recipe, loss, augmentation and length, which is left out of them: "
        "loss CE, augmentation DA5, 5 epochs."
    )
    assert not repeated


def test_seeds_are_told_apart_and_said_to_be_repetitions(empty: Path) -> None:
    trainers = (
        "nnUNetTrainer_DA5_seed1",
        "nnUNetTrainer_seed2_DA5",
        "nnUNetTrainerDA5",
        "nnUNetTrainerUNETR_DA5_seed1",
    )
    names, said, repeated = named(empty, *trainers)
    assert names == ["nnUNetTrainer", "nnUNetTrainer · seed 1", "nnUNetTrainer · seed 2", "nnUNetTrainerUNETR · seed 1"]
    assert said.endswith("left out of them: augmentation DA5.")
    assert repeated == [
        "nnUNetTrainer · seed 1, nnUNetTrainer · seed 2 and nnUNetTrainer are repetitions of one training with other "
        "seeds: what differs between them is chance."
    ]


def test_what_only_some_names_say_stays_in_them(empty: Path) -> None:
    names, said, _ = named(empty, "nnUNetTrainer_CE_5epochs", "nnUNetTrainer_5epochs_DA5", "Mine_10iterations_5epochs")
    assert names == ["Mine · 10 iterations", "nnUNetTrainer · augmentation DA5", "nnUNetTrainer · loss CE"]
    assert said == "The names of all trainers say 5 epochs, which is left out of them."


def test_models_that_differ_in_the_order_of_parts_only_keep_their_full_names(empty: Path) -> None:
    trainers = ["nnUNetTrainerDA5_CE", "nnUNetTrainer_CE_DA5"]
    assert named(empty, *trainers)[0] == sorted(trainers)


def test_trainings_without_a_seed_are_no_repetitions(empty: Path) -> None:
    assert not named(empty, "nnUNetTrainerDA5", "nnUNetTrainer_DA5")[2]


def test_models_that_no_name_says_anything_of_are_not_remarked_on(empty: Path) -> None:
    assert named(empty, "nnUNetTrainer", "nnUNetTrainerUNETR")[1:] == ("", [])
