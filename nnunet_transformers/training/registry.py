"""The trainers of this package with their networks, papers and defaults.

A trainer is registered by being written in `trainers`: it is then listed (`nnunet-transformers list`), tested by the
contract tests and has a row in docs/networks.md.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

from nnunet_transformers.networks.planned_network import Paper, PlannedNetwork
from nnunet_transformers.training import trainers
from nnunet_transformers.training.recipe import Recipe
from nnunet_transformers.training.transformer_trainer import TransformerTrainer


@dataclass(frozen=True)
class Entry:
    """One trainer: the name nnU-Net knows it by, its network and its recipe."""

    name: str
    network: type[PlannedNetwork]
    recipe: Recipe

    @property
    def paper(self) -> Paper:
        return self.network.paper

    @property
    def defaults(self) -> dict[str, Any]:
        """The network's own arguments and their published values."""
        parameters = inspect.signature(self.network).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def card(self) -> str:
        """Where the network is described, in the folder docs."""
        return f"networks/{self.network.__module__.rpartition('.')[2].replace('_', '-')}.md"

    @property
    def summary(self) -> str:
        """First line of the network's module: what it is."""
        return (sys.modules[self.network.__module__].__doc__ or "").splitlines()[0]


def registry() -> list[Entry]:
    """All trainers, in the order in which they are written."""
    return [
        Entry(name, value.architecture, value.recipe)
        for name, value in vars(trainers).items()
        if isinstance(value, type) and issubclass(value, TransformerTrainer) and value is not TransformerTrainer
    ]
