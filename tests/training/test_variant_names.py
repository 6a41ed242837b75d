from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.training.variant_names import PIECES, Parts, as_text, contradiction, parts, unknown_parts

BASES = [
    "nnUNetTrainer",
    "nnUNetTrainerSwinUNETR",
    "nnUNet_Primus_M_Trainer",
    "nnUNetTrainerV2_MedNeXt_S_kernel3",
    "Mine",
]


@given(
    base=st.sampled_from(BASES),
    pieces=st.fixed_dictionaries(
        {},
        optional={
            kind: st.sampled_from(
                [(piece.name, text) for piece in PIECES if piece.kind == kind for text in piece.spellings]
            )
            for kind in ("loss", "augmentation")
        },
    ),
    numbers=st.fixed_dictionaries(
        {}, optional={kind: st.integers(1, 9999) for kind in ("epochs", "iterations", "seed")}
    ),
    data=st.data(),
)
def test_any_order_of_parts_says_the_same(base, pieces, numbers, data) -> None:
    said = [text for _, text in pieces.values()]
    said += [f"seed{number}" if kind == "seed" else f"{number}{kind}" for kind, number in numbers.items()]
    name = "_".join([base, *data.draw(st.permutations(said))])
    assert parts(name) == Parts(base, **{kind: name for kind, (name, _) in pieces.items()}, **numbers)
    assert not contradiction(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nnUNetTrainer", Parts("nnUNetTrainer")),
        ("nnUNetTrainer_1epoch", Parts("nnUNetTrainer", epochs=1)),
        ("nnUNetTrainerDiceTopK10Loss", Parts("nnUNetTrainer", loss="DiceTopK10")),
        ("nnUNetTrainerCELoss_5epochs", Parts("nnUNetTrainer", loss="CE", epochs=5)),
        ("nnUNetTrainer_DASegOrd0_NoMirroring", Parts("nnUNetTrainer", augmentation="DASegOrd0_NoMirroring")),
        ("nnUNetTrainerDA5_seed3", Parts("nnUNetTrainer", augmentation="DA5", seed=3)),
        ("nnUNetTrainer_0epochs", Parts("nnUNetTrainer_0epochs")),
        ("nnUNetTrainer_seed0", Parts("nnUNetTrainer_seed0")),
        ("nnUNetTrainer_5epochsmore", Parts("nnUNetTrainer_5epochsmore")),
        ("MyDA5", Parts("MyDA5")),
        ("A_5epochs_20epochs", Parts("A_5epochs", epochs=20)),
        ("", Parts("")),
    ],
)
def test_names_of_nnunets_and_others_are_taken_apart(name: str, expected: Parts) -> None:
    assert parts(name) == expected


@pytest.mark.parametrize(
    ("name", "twice"),
    [
        ("A_DA5_NoMirroring", "two augmentations"),
        ("A_NoMirroring_DASegOrd0", "two augmentations"),
        ("nnUNetTrainerDA5_DA5", "two augmentations"),
        ("A_CE_seed1_DiceLoss", "two losses"),
        ("A_5epochs_DA5_20epochs", "two lengths"),
        ("A_seed1_seed2", "two seeds"),
        ("A_DASegOrd0_NoMirroring", ""),
    ],
)
def test_what_a_name_says_twice_is_told(name: str, twice: str) -> None:
    assert contradiction(name) == twice


def test_what_is_no_part_is_told_between_those_that_are() -> None:
    assert unknown_parts("_DA6_20epochs_TopK_seed1") == ["DA6", "TopK"]


def test_the_parts_are_explained_with_their_sources() -> None:
    text = as_text()
    assert "nnUNetTrainerDiceTopK10Loss, nnunetv2/training/nnUNetTrainer/variants/loss/nnUNetTrainerTopkLoss.py" in text
    assert all(f"  {piece.name} " in text and piece.changes in text for piece in PIECES)


def test_taking_names_apart_needs_no_pytorch() -> None:
    code = "import sys, nnunet_transformers.training.variant_names; print({'torch', 'nnunetv2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
