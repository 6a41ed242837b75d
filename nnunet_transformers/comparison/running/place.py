"""A dataset of an experiment: where its files lie, and what all of its steps have in common."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.model import Dataset, Experiment, Folders, Model, Slurm
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.state import dataset_folder
from nnunet_transformers.comparison.running.step import Fold, Step

_STEP_PROCESS = "nnunet_transformers.comparison.running.step_process"


@dataclass(frozen=True)
class Place:
    """A dataset of an experiment, and where its files lie."""

    experiment: Experiment
    dataset: Dataset
    folders: Folders
    name: str

    @property
    def raw(self) -> Path:
        return self.folders.raw / self.name

    @property
    def preprocessed(self) -> Path:
        return self.folders.preprocessed / self.name

    @property
    def results(self) -> Path:
        return self.folders.results / self.name

    @property
    def device(self) -> str:
        """nnU-Net's own choice, a GPU, when empty."""
        device = self.experiment.where.device
        return "" if device == "cuda" else device

    @property
    def probabilities(self) -> bool:
        """Whether validations and predictions keep their probabilities."""
        return self.experiment.needs_probabilities

    def fold(self, model: Model, number: int) -> Path:
        """Where nnU-Net trains a fold."""
        return self.results / model.identifier / f"fold_{number}"

    def step(
        self,
        name: str,
        command: Command,
        is_done: Callable[[], bool],
        *,
        lock: Path,
        needs: Sequence[str] = (),
        after: Sequence[str] = (),
        fold: Fold | None = None,
        gpu: bool = False,
        array: str = "",
        stays_done: bool = False,
        prepare: Callable[[], Sequence[str] | None] | None = None,
    ) -> Step:
        """A step of this dataset; see `Step` for what is given."""
        name += on(self.experiment, self.dataset.id)
        where = self.experiment.where
        process = (sys.executable, "-m", _STEP_PROCESS, str(self.experiment.path), name)
        return Step(
            name=name,
            command=tuple(command),
            needs=tuple(dict.fromkeys(needs)),
            after=tuple(dict.fromkeys(after)),
            fold=fold,
            gpu=gpu and self.device != "cpu",
            log=self.experiment.output / "logs" / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.log",
            is_done=is_done,
            stays_done=stays_done,
            array=array and array + on(self.experiment, self.dataset.id),
            hours=where.hours if gpu and isinstance(where, Slurm) else None,
            lock=lock,
            prepare=prepare,
            process=process,
        )


def on(experiment: Experiment, dataset: int) -> str:
    """What tells the steps of a dataset from those of another; nothing where there is one."""
    return f" on {dataset}" if len(experiment.datasets) > 1 else ""


def dataset_name(dataset_id: int, folders: Folders) -> str:
    """DatasetNNN_Name, from the first of nnU-Net's folders that has it.

    Raises:
        ComparisonError: none has it, or one has two.
    """
    for parent in (folders.raw, folders.preprocessed, folders.results):
        if folder := dataset_folder(parent, dataset_id):
            return folder.name
    raise ComparisonError(
        f"there is not one folder Dataset{dataset_id:03d}_… in {folders.raw} or {folders.preprocessed}",
        "Convert the data first (nnunet-transformers convert). Nothing was run.",
        "NO_DATASET",
    )


def predictions_folder(experiment: Experiment, folders: Folders, dataset: int, test_set: str) -> Path:
    """Where the predictions of a test set go: a folder per model, named by its identifier, and per ensemble.

    A listed ensemble is named as nnU-Net names those of the cross-validation; `selected` is what
    nnUNetv2_find_best_configuration selected.
    """
    return experiment.output / "predictions" / dataset_name(dataset, folders) / test_set


def listed_ensembles(experiment: Experiment, models: Sequence[Model]) -> list[list[Model]]:
    """The listed ensembles that have all of their members on the dataset of these models."""
    if isinstance(experiment.ensembles, str):
        return []
    by_name = {model.name: model for model in models}
    return [[by_name[n] for n in names] for names in experiment.ensembles if all(n in by_name for n in names)]


def identifiers(models: Sequence[Model]) -> list[str]:
    """The names of the models' folders."""
    return [model.identifier for model in models]
