"""The trainers of this package with their networks, papers and defaults, and their peers in nnU-Net.

A trainer is registered by being written in `trainers`: it is then listed (`nnunet-transformers list`), tested by the
contract tests and has a row in docs/networks.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_transformers.networks.planned_network import Paper, PlannedNetwork, own_parameters
from nnunet_transformers.training import trainers
from nnunet_transformers.training.recipe import Recipe
from nnunet_transformers.training.transformer_trainer import TransformerTrainer
from nnunet_transformers.training.variant_names import PIECES


@dataclass(frozen=True)
class Entry:
    """One trainer: the name nnU-Net knows it by, its network and its recipe."""

    trainer: str
    network: type[PlannedNetwork]
    recipe: Recipe

    @property
    def paper(self) -> Paper:
        return self.network.paper

    @property
    def defaults(self) -> dict[str, Any]:
        """The network's own arguments and their published values."""
        return {p.name: p.default for p in own_parameters(self.network)}

    @property
    def stages(self) -> str:
        """How many stages its plans may have."""
        return f"{self.network.min_stages} or more"

    @property
    def card(self) -> str:
        """Where the network is described, in the folder docs."""
        return f"networks/{self.network.__module__.rpartition('.')[2].replace('_', '-')}.md"

    @property
    def summary(self) -> str:
        """First paragraph of the network's module: what it is."""
        return " ".join((sys.modules[self.network.__module__].__doc__ or "").split("\n\n")[0].split())

    def as_dict(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        return {
            "trainer": self.trainer,
            "network": f"{self.network.__module__}.{self.network.__qualname__}",
            "summary": self.summary,
            "paper": asdict(self.paper),
            "recipe": asdict(self.recipe),
            "min_stages": self.network.min_stages,
            "defaults": self.defaults,
            "card": f"docs/{self.card}",
        }


@dataclass(frozen=True)
class Peer:
    """A trainer of nnU-Net's own that belongs into a comparison; nothing of it is rebuilt here."""

    trainer: str
    summary: str
    plans: str = "nnUNetPlans"


PEERS = (
    Peer("nnUNetTrainer", "nnU-Net's U-Net, the baseline"),
    Peer("nnUNetTrainer", "ResEnc M, for 9 to 11 GB of GPU memory", "nnUNetResEncUNetMPlans"),
    Peer("nnUNetTrainer", "ResEnc L, for 24 GB", "nnUNetResEncUNetLPlans"),
    Peer("nnUNet_Primus_M_Trainer", "Primus (Wald et al. 2025): ViT on tokens of 8^3"),
    Peer("nnUNet_PrimusV2M_Trainer", "Primus V2: tokens from a residual convolutional stem"),
    Peer("nnUNet_PrimusV3S_Trainer", "Primus V3: a larger stem, with skips from it"),
)


def registry() -> list[Entry]:
    """All trainers, in the order in which they are written."""
    return [
        Entry(name, value.architecture, value.recipe)
        for name, value in vars(trainers).items()
        if isinstance(value, type) and issubclass(value, TransformerTrainer) and value is not TransformerTrainer
    ]


def as_text() -> str:
    """The registry and the peers, to read in a terminal."""
    lines = []
    for entry in registry():
        paper, recipe = entry.paper, entry.recipe
        defaults = ", ".join(f"{name}={value}" for name, value in entry.defaults.items())
        lines += [
            entry.trainer,
            f"  {entry.summary}",
            f"  paper     {paper.authors}. {paper.title}. {paper.venue}{f', arXiv:{paper.arxiv}' * bool(paper.arxiv)}",
            f"  family    {paper.family}",
            f"  recipe    {recipe}",
            f"  stages    {entry.stages}",
            f"  network   {entry.network.__module__}.{entry.network.__qualname__}({defaults})",
            f"  card      docs/{entry.card}",
            "",
        ]
    lines.append("In nnU-Net itself:")
    lines += [f"  {peer.trainer:26} {peer.plans:24} {peer.summary}" for peer in PEERS]
    return "\n".join(lines)


_PAGE = """\
# Networks

Written by `nnunet-transformers list --markdown` from the registry. Every trainer takes any plans made for a U-Net with
the stages it needs (nnU-Net's have two only for images of about 16 voxels an edge or less) and has
[variants by name](#variants-by-name). Families are those of Xiao et al., *Transformers in medical image segmentation: A
review*, BSPC 84, 2023: where the Transformer stands.

| trainer | network | Transformer | paper | recipe | stages |
|---|---|---|---|---|---|
{trainers}

`-pretrained_weights` needs the patch and spacing of the first training, so plans moved to the new dataset with
`nnUNetv2_move_plans_between_datasets`: position tables, bias tables and token projections have the size of the patch or
its windows. `nnUNetTrainerUTransformer` and `nnUNetTrainerCoTr` have none; for them, as for nnU-Net's own trainer,
plans of the same U-Net are enough.

## Peers in nnU-Net

They belong into the comparison and are used as they are, with `-tr` and `-p` of `nnUNetv2_train`. ResEnc plans are made
by `nnUNetv2_plan_experiment -d ID -pl nnUNetPlannerResEncM` (or `…L`); every trainer above takes them too. Primus takes
`nnUNetPlans` whose patch is a multiple of 8.

| trainer | plans | |
|---|---|---|
{peers}

## Variants by name

Every trainer (these, nnU-Net's, and those in folders of `nnUNet_extTrainer`) has others by name, wherever nnU-Net takes
one: `nnUNetv2_train 201 3d_fullres 0 -tr nnUNetTrainerSwinUNETR_DiceTopK10_DA5_250epochs_seed2`. Each part may be there
once, in any order; results are in a folder of the name as it was typed. `nnunet-transformers list --variants` prints
them with their sources.

| part | | taken from nnU-Net's |
|---|---|---|
{pieces}
| `<N>epochs` | length of the training, instead of the trainer's | |
| `<N>iterations` | of each epoch, instead of 250; a fifth as many for validation | |
| `seed<N>` | a repetition of the same training: another seed is another one | |

A variant is the trainer with the methods of nnU-Net's class for the loss or the augmentation before its own. Where the
trainer has such a method itself, which would be lost, or does not call it, nnU-Net stops with an error that says so.
nnU-Net's own names (`nnUNetTrainerDA5`, `nnUNetTrainer_250epochs`) stay its own classes, and its restrictions theirs:
of the losses only `Dice` and `DiceCE_noSmooth` take region-based labels, and with several GPUs and no torch.compile all
give the coarsest output no weight, which nnU-Net's default avoids there because PyTorch fails. Primus warms up for 50
epochs, however short the training is.

A seed decides the first weights, the patches that are drawn, the augmentation and dropout: with `nnUNet_n_proc_DA=0`
on a CPU a training is repeated to the last digit. Augmenting processes (nnU-Net's default) draw from the seed too, but
which of them hands in its batch first does not depend on it, nor does the order of sums on a GPU: there the seed tells
repetitions apart, and the same one gives a similar training, not an equal one. A training that goes on (`--c`) draws
other patches than one that was not interrupted. Folds are nnU-Net's, whatever the seed.
"""


def as_markdown() -> str:
    """The page docs/networks.md."""
    trainer_rows = (
        (
            f"`{e.trainer}`",
            f"[{e.summary.partition(':')[0]}]({e.card})",
            e.paper.family,
            _citation(e.paper),
            e.recipe,
            e.stages,
        )
        for e in registry()
    )
    peer_rows = ((f"`{peer.trainer}`", f"`{peer.plans}`", peer.summary) for peer in PEERS)
    piece_rows = ((f"`{piece.name}`", f"{piece.kind}: {piece.changes}", f"`{piece.trainer}`") for piece in PIECES)
    return _PAGE.format(trainers=_rows(trainer_rows), peers=_rows(peer_rows), pieces=_rows(piece_rows))


def _rows(rows: Iterable[Iterable[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in rows)


def _citation(paper: Paper) -> str:
    first_author = paper.authors.partition(",")[0]
    text = f"{first_author} et al., {paper.venue}"
    return f"[{text}](https://arxiv.org/abs/{paper.arxiv})" if paper.arxiv else text
