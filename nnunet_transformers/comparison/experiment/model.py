"""An experiment: what is compared with what, on which data, and where it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.model_id import ModelId

FULLRES, LOWRES, CASCADE = "3d_fullres", "3d_lowres", "3d_cascade_fullres"  # names of nnU-Net's planner
FOLDER_VARIABLES = {"raw": "nnUNet_raw", "preprocessed": "nnUNet_preprocessed", "results": "nnUNet_results"}


@dataclass(frozen=True)
class TestSet:
    """Images no model was trained on; with references they are scored."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    name: str
    images: Path
    references: Path | None


@dataclass(frozen=True)
class Dataset:
    id: int
    test_sets: tuple[TestSet, ...] = ()


@dataclass(frozen=True)
class Model:
    """One trainer with its plans and configuration on one dataset: one folder of nnU-Net's results.

    Attributes:
        name: what it is called in the report; unique in its dataset.
        trainer: with the parts _DiceTopK10_DA5_<N>epochs_seed<N> that the file gives as fields.
        planner: makes the plans; "" for nnU-Net's default one, or where a file with other plans is there already.
        target_spacing: mm, in the axis order of the plans, for the default planner; empty for its own choice.
        plans_from: dataset whose nnUNetPlans are taken over under the name `plans`, for weights trained with them.
        pretrained_weights: a checkpoint of nnU-Net that trainings start from.
        repeats: where it is trained several times with other seeds, the name of them all.
    """

    name: str
    dataset: int
    trainer: str
    plans: str = "nnUNetPlans"
    configuration: str = FULLRES
    planner: str = ""
    target_spacing: tuple[float, ...] = ()
    plans_from: int | None = None
    pretrained_weights: Path | None = None
    repeats: str = ""

    @property
    def identifier(self) -> str:
        """The name of its folder."""
        return str(ModelId(self.trainer, self.plans, self.configuration))

    def goes_on_from(self, other: Model) -> bool:
        """Whether this is a cascade, and the other model its first stage."""
        same = (self.trainer, self.plans, self.dataset) == (other.trainer, other.plans, other.dataset)
        return same and (self.configuration, other.configuration) == (CASCADE, LOWRES)


@dataclass(frozen=True)
class Local:
    """This machine.

    Attributes:
        device: cuda, cpu or mps.
        gpus: what CUDA_VISIBLE_DEVICES names them; empty leaves the choice to CUDA.
        at_once: trainings side by side; they take turns on the GPUs.
    """

    device: str = "cuda"
    gpus: tuple[str, ...] = ()
    at_once: int = 1


@dataclass(frozen=True)
class Slurm:
    """A SLURM cluster.

    Attributes:
        device: cuda, cpu or mps; cpu where a task gets no GPU.
        memory_gb, hours: per job; None for the cluster's own.
        extra: more #SBATCH lines, without that word: "--constraint=a100".
        setup: shell lines before the command: "source venv/bin/activate".
    """

    device: str = "cuda"
    partition: str = ""
    account: str = ""
    gpus_per_task: int = 1
    cpus: int = 8
    memory_gb: int | None = None
    hours: float | None = None
    extra: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folders:
    """nnU-Net's three folders."""

    raw: Path
    preprocessed: Path
    results: Path

    def environment(self) -> dict[str, str]:
        """The variables that name them to nnU-Net."""
        return {variable: str(getattr(self, name)) for name, variable in FOLDER_VARIABLES.items()}


@dataclass(frozen=True)
class Experiment:
    """A comparison of models.

    Attributes:
        path: the file it was read from.
        datasets: in the order of the file; a model that names none is trained on each.
        folds: of nnU-Net's cross-validation.
        by_site: no site may be trained on and validated on in one fold.
        baseline: name of the model the others are compared with.
        ensembles: "pairs" is every pair, as nnU-Net does; "none"; or names of the members of each.
        lesion_labels: those that are lesion, where a dataset has several; empty where each has one.
        metrics: names; empty for all.
        scoring: the metrics that rank models together, of `definitions.SCORINGS`.
        equivalence_margin: by metric, in its unit: what is too small to matter.
        folders: those of nnU-Net's three folders that the file names.
        output: the folder of logs, predictions, scores and the report.
        remarks: what a reader of the report has to know, as sentences.
        same_recipe: all trainers must have the same loss, augmentation and length.
    """

    path: Path
    name: str
    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    folds: tuple[int, ...]
    baseline: str
    ensembles: Literal["pairs", "none"] | tuple[tuple[str, ...], ...]
    lesion_labels: tuple[int, ...]
    metrics: tuple[str, ...]
    equivalence_margin: dict[str, float]
    where: Local | Slurm
    folders: dict[str, Path]
    output: Path
    remarks: tuple[str, ...] = ()
    scoring: str = "all"
    by_site: bool = False
    same_recipe: bool = False

    @property
    def needs_probabilities(self) -> bool:
        """Whether predictions keep their probabilities: ensembles are made of them, and PR-AUC is."""
        return self.ensembles != "none" or self.scoring == "isles26" or "pr_auc" in self.metrics

    def models_of(self, dataset: int) -> list[Model]:
        return [model for model in self.models if model.dataset == dataset]

    def nnunet_folders(self) -> Folders:
        """nnU-Net's folders, from the file or else from the environment.

        Raises:
            ComparisonError: one is in neither.
        """
        found = {}
        for name, variable in FOLDER_VARIABLES.items():
            path = self.folders.get(name) or os.environ.get(variable)
            if not path:
                raise ComparisonError(
                    f"nnU-Net's folder for {name} data is not known: {variable} is not set and {self.path} has no "
                    f"folders.{name}",
                    f"export {variable}=…, or add it to the file. Nothing was run.",
                    "FOLDER_NOT_SET",
                )
            found[name] = Path(path).resolve()
        return Folders(**found)
