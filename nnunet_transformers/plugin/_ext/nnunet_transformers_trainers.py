"""The one module nnU-Net imports when it looks for a trainer.

nnU-Net evicts this module after the look-up, so nothing may be defined here, and it imports it for every look-up, so
nothing heavy may be imported before one of our trainers is asked for.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("nnUNetTrainer"):
        from nnunet_transformers.training import trainers

        return getattr(trainers, name)
    raise AttributeError(name)
