"""What a trainer's name says beside the trainer: loss, augmentation, length and seed, in any order.

nnUNetTrainerSwinUNETR_DiceTopK10_DA5_250epochs_seed2

Nothing here needs PyTorch or nnU-Net; `variants` makes the classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Literal

from nnunet_transformers.common.words import counted, joined, nearest

_STOCK = "nnUNetTrainer"
NAMELESS = "nnU-Net's"  # loss or augmentation


@dataclass(frozen=True)
class Piece:
    """A loss or an augmentation of nnU-Net's own.

    Attributes:
        trainer: the class of nnU-Net it is taken from.
        module: where that is, below nnunetv2.training.nnUNetTrainer.variants.
        changes: what it does instead of nnU-Net's default, in words.
    """

    kind: Literal["loss", "augmentation"]
    trainer: str
    module: str
    changes: str

    @property
    def name(self) -> str:
        """What makes the class's name: DiceTopK10 of nnUNetTrainerDiceTopK10Loss."""
        name = self.trainer.removeprefix(_STOCK).lstrip("_")
        return name.replace("Loss", "") if self.kind == "loss" else name

    @property
    def spellings(self) -> tuple[str, ...]:
        """As in a trainer's name: a loss with or without the word."""
        return tuple(dict.fromkeys([self.name, self.trainer.removeprefix(_STOCK).lstrip("_")]))

    @property
    def source(self) -> str:
        return f"nnunetv2/training/nnUNetTrainer/variants/{self.module.replace('.', '/')}.py"


_TOPK, _MIRROR = "loss.nnUNetTrainerTopkLoss", "data_augmentation.nnUNetTrainerNoMirroring"
_DA5, _ORDER_0 = "data_augmentation.nnUNetTrainerDA5", "data_augmentation.nnUNetTrainerDAOrd0"
PIECES = (
    Piece("loss", "nnUNetTrainerCELoss", "loss.nnUNetTrainerCELoss", "cross-entropy alone"),
    Piece("loss", "nnUNetTrainerDiceLoss", "loss.nnUNetTrainerDiceLoss", "Dice alone"),
    Piece(
        *("loss", "nnUNetTrainerDiceCELoss_noSmooth", "loss.nnUNetTrainerDiceLoss"),
        "Dice and cross-entropy, as by default, but for the smoothing term of Dice",
    ),
    Piece("loss", "nnUNetTrainerTopk10Loss", _TOPK, "cross-entropy of the worst 10 % of voxels"),
    Piece("loss", "nnUNetTrainerTopk10LossLS01", _TOPK, "Topk10, labels smoothed by 0.1"),
    Piece("loss", "nnUNetTrainerDiceTopK10Loss", _TOPK, "Dice and cross-entropy of the worst 10 % of voxels"),
    Piece("augmentation", "nnUNetTrainerDA5", _DA5, "more and stronger transforms"),
    Piece("augmentation", "nnUNetTrainerDA5ord0", _DA5, "DA5, image and labels by nearest neighbour"),
    Piece("augmentation", "nnUNetTrainerDA5Segord0", _DA5, "DA5, labels by nearest neighbour"),
    Piece("augmentation", "nnUNetTrainer_DASegOrd0", _ORDER_0, "the default, labels by nearest neighbour"),
    Piece("augmentation", "nnUNetTrainer_DASegOrd0_NoMirroring", _ORDER_0, "DASegOrd0 without mirroring"),
    Piece("augmentation", "nnUNetTrainerNoDA", "data_augmentation.nnUNetTrainerNoDA", "no augmentation"),
    Piece("augmentation", "nnUNetTrainerNoMirroring", _MIRROR, "the trainer's without mirroring, in prediction too"),
    Piece("augmentation", "nnUNetTrainer_onlyMirror01", _MIRROR, "the trainer's, mirrored along two axes (in 2D one)"),
    Piece(
        *("augmentation", "nnUNetTrainer_onlyMirror01_DASegOrd0", _MIRROR),
        "DASegOrd0, mirrored along two axes (in 2D one)",
    ),
    Piece(
        *("augmentation", "nnUNetTrainer_onlyMirror01_DA5", "competitions.aortaseg24"),
        "DA5, mirrored along two axes (in 2D one)",
    ),
    Piece(
        *("augmentation", "nnUNetTrainer_noDummy2DDA", "data_augmentation.nnUNetTrainer_noDummy2DDA"),
        "rotations in 3D for anisotropic patches too",
    ),
)
LOSSES = tuple(piece.name for piece in PIECES if piece.kind == "loss")
AUGMENTATIONS = tuple(piece.name for piece in PIECES if piece.kind == "augmentation")
OF_TRAINER = {piece.trainer: piece for piece in PIECES}
_BY_SPELLING = {spelling: piece for piece in PIECES for spelling in piece.spellings}

# A search finds the leftmost, so of DASegOrd0_NoMirroring the whole and not NoMirroring.
_LAST_PART = re.compile(
    rf"_(?:(?P<piece>{'|'.join(_BY_SPELLING)})|(?P<epochs>[1-9]\d*)epochs?|(?P<iterations>[1-9]\d*)iterations?"
    r"|seed(?P<seed>[1-9]\d*))$"
)


@dataclass(frozen=True)
class Parts:
    """A trainer's name, taken apart.

    Attributes:
        base: the trainer without them.
        loss, augmentation: names in `PIECES`; empty for the trainer's own.
        epochs, iterations, seed: None where the name does not say.
    """

    base: str
    loss: str = ""
    augmentation: str = ""
    epochs: int | None = None
    iterations: int | None = None
    seed: int | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The parts that there are."""
        return {field.name: value for field in fields(self)[1:] if (value := getattr(self, field.name))}

    @property
    def recipe(self) -> Parts:
        """Loss, augmentation and length: what two trainers may have in common."""
        return replace(self, base="", seed=None)

    def __str__(self) -> str:
        """In words: "loss DiceTopK10, augmentation DA5, 250 epochs of 20 iterations"; without the base."""
        _, loss, augmentation, epochs, iterations, seed = astuple(self)
        length = [counted(epochs, "epoch")] if epochs else []
        length += [counted(iterations, "iteration")] if iterations else []
        said = [f"loss {loss}" * bool(loss), f"augmentation {augmentation}" * bool(augmentation)]
        return ", ".join(filter(None, [*said, " of ".join(length), f"seed {seed}" * bool(seed)]))


def parts(name: str) -> Parts:
    """Take any trainer's name apart; nnU-Net's nnUNetTrainerDA5 is nnUNetTrainer with the augmentation DA5.

    A part of which the name has two is that of its end; the other stays in the base.
    """
    return list(_cuts(name))[-1]


def bases(name: str) -> Iterator[Parts]:
    """The name cut before its last part, before its last two, and so on: a class may be named like a part."""
    for cut in _cuts(name):
        if cut.base != name and name.startswith(cut.base + "_"):
            yield cut


def contradiction(name: str) -> str:
    """What a name says twice, "two losses", or nothing."""
    told = parts(name)
    twice = sorted(told.said.keys() & parts(told.base).said.keys())
    words = {"loss": "losses", "augmentation": "augmentations", "seed": "seeds"}
    return f"two {words.get(twice[0], 'lengths')}" if twice else ""


def unknown_parts(text: str) -> list[str]:
    """What of a name's end, _DA6_20epochs, is no part."""
    unknown: list[str] = []
    while text:
        if match := _LAST_PART.search(text):
            text = text[: match.start()]
        else:
            text, _, last = text.rpartition("_")
            unknown.insert(0, last)
    return unknown


def what_there_is(unknown: str) -> str:
    """The part most like an unknown one, and all that there are, as the end of a message."""
    return (
        f"{nearest(unknown, [*LOSSES, *AUGMENTATIONS]) or '.'} Losses: {joined(LOSSES)}; augmentations: "
        f"{joined(AUGMENTATIONS)}; lengths: <N>epochs, <N>iterations; repetitions: seed<N>"
    )


def as_text() -> str:
    """The parts with what they change and where they are from, to read in a terminal."""
    lines = [
        "A trainer's name may go on with one of each, in any order: nnUNetTrainerSwinUNETR_DiceTopK10_DA5_seed2",
        "",
    ]
    for kind in ("loss", "augmentation"):
        lines.append(f"{kind.capitalize()}, of nnU-Net's own:")
        for piece in PIECES:
            if piece.kind == kind:
                lines += [f"  {piece.name:22} {piece.changes}", f"{'':25}{piece.trainer}, {piece.source}"]
        lines.append("")
    lines += [
        "Length:",
        "  <N>epochs              instead of the trainer's, which are 1000",
        "  <N>iterations          of each epoch, instead of 250; a fifth as many for validation",
        "",
        "Repetition:",
        "  seed<N>                random numbers are drawn from this seed: another one is another training of the same",
    ]
    return "\n".join(lines)


def _cuts(name: str) -> Iterator[Parts]:
    """The name as it is, then with one part after the other taken from its end."""
    told = Parts(name)
    yield told
    while match := _LAST_PART.search(told.base):
        value = _part(match)
        if value.keys() & told.said.keys():
            return
        told = replace(told, base=told.base[: match.start()], **value)
        yield told
    stock = OF_TRAINER.get(told.base)
    if stock and stock.kind not in told.said:
        of_stock: dict[str, Any] = {stock.kind: stock.name}
        yield replace(told, base=_STOCK, **of_stock)


def _part(match: re.Match[str]) -> dict[str, Any]:
    """The field of `Parts` that a part of a name stands for, and its value."""
    if match["piece"]:
        piece = _BY_SPELLING[match["piece"]]
        return {piece.kind: piece.name}
    return {key: int(text) for key, text in match.groupdict().items() if text}
