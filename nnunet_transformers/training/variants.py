"""Any trainer with another loss, augmentation, length or seed, made when its name is asked for.

nnU-Net's own classes of losses and augmentations come before the trainer in the order in which methods are looked up,
as nnU-Net combines them itself (`nnUNetTrainer_onlyMirror01_DA5`): what they do not override is the trainer's.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib import metadata

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_transformers.common.words import joined
from nnunet_transformers.training.seeds import SeededTrainer
from nnunet_transformers.training.short_runs import ShortTrainer
from nnunet_transformers.training.variant_names import (
    NAMELESS,
    OF_TRAINER,
    PIECES,
    Piece,
    bases,
    contradiction,
    unknown_parts,
    what_there_is,
)

_AUGMENTATION = ("configure_rotation_dummyDA_mirroring_and_inital_patch_size", "get_training_transforms")
# The methods that the pieces override, and the method of nnU-Net that asks for each.
_ASKED_FOR_BY = {"_build_loss": "initialize", **dict.fromkeys(_AUGMENTATION, "get_dataloaders")}


class VariantError(RuntimeError):
    """The trainer is there, and the rest of the name cannot be; of the kind that nnU-Net raises for unknown trainers.

    Args:
        problem: what is wrong with the name, and what there is.
        code: to search for.
    """

    def __init__(self, problem: str, code: str) -> None:
        super().__init__(f"{problem} [{code}]")
        self.problem, self.code = problem, code


def variant(
    name: str, find_trainer: Callable[[str], type[nnUNetTrainer] | None], module: str
) -> type[nnUNetTrainer] | None:
    """The trainer of a name such as `nnUNetTrainerSwinUNETR_DiceTopK10_20epochs_seed2`; None without such a trainer.

    Args:
        name: the name nnU-Net was asked for.
        find_trainer: gives the trainer that is written under a name.
        module: the module where the class will be found under its name, so that it can be pickled.

    Raises:
        VariantError: a part of the name is unknown, there twice, or would undo what the trainer does itself.
    """
    found = next(((cut, base) for cut in bases(name) if (base := find_trainer(cut.base))), None)
    if found is None or contradiction(name):
        _raise_if_wrong(name, find_trainer)
        return None
    cut, base = found
    namespace: dict[str, object] = {"__module__": module, "__doc__": f"{base.__name__} with {cut}."}
    mixins: list[type[nnUNetTrainer]] = []
    if cut.seed:
        mixins.append(SeededTrainer)
        namespace["seed_by_name"] = cut.seed
    if cut.epochs or cut.iterations:
        mixins.append(ShortTrainer)
        namespace |= {"epochs_by_name": cut.epochs, "iterations_by_name": cut.iterations}
    for piece in PIECES:
        if piece.name in (cut.loss, cut.augmentation):
            mixins.append(_piece_for(base, piece))
    return type(name, (*mixins, base), namespace)


def recipe_of(trainer: type[nnUNetTrainer]) -> tuple[str, str]:
    """Loss and augmentation: the names of nnU-Net's pieces, or of the class that has its own."""

    def told(methods: Sequence[str]) -> str:
        owners = dict.fromkeys(next(c for c in trainer.__mro__ if m in vars(c)) for m in methods)
        names = [c.__name__ for c in owners if c is not nnUNetTrainer]
        return " and ".join(OF_TRAINER[each].name if each in OF_TRAINER else f"{each}'s own" for each in names)

    return told(["_build_loss"]) or NAMELESS, told(_AUGMENTATION) or NAMELESS


def stock_class(piece: Piece) -> type[nnUNetTrainer]:
    """nnU-Net's class of a loss or an augmentation.

    Raises:
        VariantError: the installed nnU-Net has none.
    """
    try:
        module = importlib.import_module(f"nnunetv2.training.nnUNetTrainer.variants.{piece.module}")
        return getattr(module, piece.trainer)
    except (ImportError, AttributeError) as error:
        raise VariantError(
            f"nnunetv2 {metadata.version('nnunetv2')} has no {piece.trainer}, which {piece.name} is taken from",
            "UNKNOWN_VARIANT",
        ) from error


def _piece_for(base: type[nnUNetTrainer], piece: Piece) -> type[nnUNetTrainer]:
    """The class of a piece, if the trainer loses nothing by it and uses all of it."""
    stock = stock_class(piece)
    if issubclass(base, stock):
        raise VariantError(f"{base.__name__} has the {piece.kind} {piece.name} already: leave it out", "TWO_VARIANTS")
    for method, asked_for_by in _ASKED_FOR_BY.items():
        owners = [owner for owner, _ in _run(stock, method)]
        if owners[0] is nnUNetTrainer:
            continue
        own = next(owner for owner, _ in _run(base, method))
        if own is not nnUNetTrainer and owners[-1] is not nnUNetTrainer:
            raise VariantError(
                f"{piece.name} would undo {own.__name__}'s own {method}: leave it out, or derive a class that has both",
                "VARIANT_UNDOES",
            )
        if not any(method in called for _, called in _run(base, asked_for_by)):
            raise VariantError(
                f"{piece.name} would do nothing: {base.__name__}'s own {asked_for_by} does not call {method}",
                "VARIANT_WITHOUT_EFFECT",
            )
    return stock


def _run(trainer: type, method: str) -> Iterator[tuple[type, Collection[str]]]:
    """What runs when a method is called: each class that has it, down to the first that does not call the next.

    Yields:
        The class, and the names that its method uses; those of one that is not written in Python are not known.
    """
    for owner in trainer.__mro__:
        if method in vars(owner):
            code = getattr(inspect.unwrap(getattr(owner, method)), "__code__", None)
            used = code.co_names if code else ()
            yield owner, used
            if not {"super", method} & set(used):
                return


def _raise_if_wrong(name: str, find_trainer: Callable[[str], type[nnUNetTrainer] | None]) -> None:
    """Raise where the name begins with that of a trainer: then it is the rest that cannot be."""
    words = name.split("_")
    for count in range(len(words) - 1, 0, -1):
        base = "_".join(words[:count])
        if find_trainer(base):
            unknown = unknown_parts(name.removeprefix(base))
            if not unknown:
                raise VariantError(f"{name} names {contradiction(name)}: leave one out", "TWO_VARIANTS")
            raise VariantError(
                f"Could not find requested nnunet trainer {name}: {base} is there, but {joined(unknown)} is no part of "
                f"a name{what_there_is(unknown[0])}",
                "UNKNOWN_VARIANT",
            )
