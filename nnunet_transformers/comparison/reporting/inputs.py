"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.metrics.lesions_table import no_lesions
from nnunet_transformers.comparison.nnunet.results import Results
from nnunet_transformers.comparison.nnunet.timing import Training
from nnunet_transformers.comparison.statistics.options import Options


@dataclass(frozen=True)
class PredictedSet:
    """A test set as it was predicted.

    Attributes:
        name: as in the column `set` of the scores.
        predictions: per model, as it is called in the scores, the folder of its segmentations.
        references: folder of the reference segmentations, named like the predictions; None: there are none.
    """

    name: str
    predictions: Mapping[str, Path]
    references: Path | None = None


@dataclass(frozen=True)
class ReportInput:
    """Scores, where they come from, and what is asked of them.

    Attributes:
        scores: one row per value, with the columns of `metrics.scores_table`.
        results: the dataset's results folder, for trainings, curves, predictions and provenance.
        names: what a model or ensemble of `results` (by identifier) is called in the scores.
        baseline: the model the others are compared with, as it is called in the scores.
        data: where images, references and splits are.
        test_sets: predictions behind the scores of the sets other than cross-validation.
        metric: the one the answer, the figures and the ranking are about.
        scoring: of `definitions.SCORINGS`: the metrics of the main table, by which models are ranked together.
        options: of the statistics, with the margins of equivalence.
        remarks: sentences a reader has to know first.
        notes: sentences about what is not shown.
        why_baseline: why this baseline was chosen, where nobody said it, as the end of a sentence.
        commands: how the results were made; default: nnU-Net's commands that would make them.
        title: of the page; default: the dataset's name.
        trainings: by the identifier of the model; default: they are read from the results folder.
        lesions: of the references, and whether each was found, see `metrics.lesions_table`; empty where not known.
    """

    scores: pd.DataFrame
    results: Results
    names: Mapping[str, str]
    baseline: str
    data: DataFolders
    test_sets: tuple[PredictedSet, ...] = ()
    metric: str = "dice"
    scoring: str = "all"
    options: Options = field(default_factory=Options)
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    why_baseline: str = ""
    commands: tuple[str, ...] = ()
    title: str = ""
    trainings: Mapping[str, Training] = field(default_factory=dict)
    lesions: pd.DataFrame = field(default_factory=no_lesions)
    styles: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        others = [name for name in dict.fromkeys(self.scores["model"]) if name != self.baseline]
        object.__setattr__(self, "styles", {name: place for place, name in enumerate([self.baseline, *others])})

    @property
    def models(self) -> list[str]:
        """Names in the scores: the baseline, then the others in the order of the scores."""
        return list(self.styles)

    def name_of(self, identifier: str) -> str:
        """What a model or ensemble of the results folder is called in the report."""
        return self.names.get(identifier, identifier)
