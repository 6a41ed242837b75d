"""The one module nnU-Net imports when it looks for a trainer.

nnU-Net evicts this module after the look-up, so nothing may be defined here, and it imports it for every look-up, so
nothing heavy may be imported before one of our trainers is asked for.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # A variant of a foreign trainer has an underscore, whatever its name begins with.
    if name.startswith("nnUNetTrainer") or ("_" in name and not name.startswith("_")):
        from nnunet_transformers.training import trainers

        if name in trainers.trainer_names():
            return getattr(trainers, name)
        if trainer := trainers.find_variant(name):
            return trainer
    raise AttributeError(name)
