"""Which predictions are held against which references: the validation cases of nnU-Net's results, and test sets."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_transformers.comparison.metrics.evaluation import Pair
from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.metrics.probabilities import if_there, probabilities_beside
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS, CROSS_VALIDATION
from nnunet_transformers.comparison.nnunet.results import Ensemble, Model, case_name

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class People:
    """Subject and site of each case, as far as the dataset's case table says them."""

    of_case: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, raw: Path | None) -> People:
        """From `cases.tsv` of a converted dataset; without it a subject is what stands before the session in a name."""
        table = raw / "cases.tsv" if raw else None
        if table is None or not table.is_file():
            return cls({})
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if "case" not in (rows.fieldnames or ()):
                return cls({})
            return cls({row["case"]: (row.get("subject") or row["case"], row.get("site") or "") for row in rows})

    def subject(self, case: str) -> str:
        return self.of_case.get(case, (re.sub(r"_ses-[A-Za-z0-9]+$", "", case), ""))[0]

    def site(self, case: str) -> str:
        return self.of_case.get(case, ("", ""))[1]


@dataclass(frozen=True)
class Absent:
    """A file that is not there, so that a case of a model is not scored.

    Attributes:
        model: as in the report; "" for all.
        path: where it should be.
    """

    model: str
    set: str
    case: str
    path: Path


def validation_pairs(
    entries: Sequence[Model | Ensemble], names: Mapping[str, str], data: DataFolders, people: People
) -> tuple[list[Pair], list[Absent]]:
    """The validation cases of models and of their ensembles.

    Args:
        entries: of one dataset.
        names: what each is called in the report, by its identifier.
        data: where references are.

    Returns:
        The cases whose segmentations are there, and the files that are not.
    """
    pairs: list[Pair] = []
    absent: list[Absent] = []
    # nnU-Net gathers segmentations in another folder, without their probabilities.
    validated = {
        (entry.identifier, row["case"]): entry.folder / f"fold_{fold}" / "validation" / f"{row['case']}.npz"
        for entry, row, fold in _cases(entries)
        if isinstance(entry, Model)
    }

    def probabilities(entry: Model | Ensemble, case: str) -> tuple[Path, ...]:
        """Of a model, or of the members that an ensemble is the mean of."""
        members = entry.members if isinstance(entry, Ensemble) else (entry.identifier,)
        return if_there([validated[member, case] for member in members if (member, case) in validated])

    for entry, row, fold in _cases(entries):
        model, case, prediction = names[entry.identifier], row["case"], row["prediction"]
        reference = data.reference(row["reference"])
        files = {prediction: prediction.is_file(), row["reference"]: reference is not None}
        absent += [Absent(model, CROSS_VALIDATION, case, path) for path, is_there in files.items() if not is_there]
        if reference and files[prediction]:
            pairs.append(
                Pair(
                    model=model,
                    set=CROSS_VALIDATION,
                    fold=fold,
                    case=case,
                    subject=people.subject(case),
                    site=people.site(case),
                    reference=reference,
                    prediction=prediction,
                    probabilities=probabilities(entry, case),
                )
            )
    return pairs, absent


def recorded_scores(entries: Sequence[Model | Ensemble], names: Mapping[str, str], people: People) -> pd.DataFrame:
    """nnU-Net's own Dice from its summaries, for results whose segmentations are not there; volumes are not known.

    Where both masks are empty nnU-Net leaves it undefined; here it is 1, as in the scores of segmentations: else the
    cases a model got right would be missing from its mean and not from that of a model with a false lesion there.
    """
    rows = [
        {
            "model": names[entry.identifier],
            "set": CROSS_VALIDATION,
            "fold": pd.NA if fold is None else fold,
            "case": row["case"],
            "subject": people.subject(row["case"]),
            "site": people.site(row["case"]),
            "reference_ml": float("nan"),
            "metric": "dice",
            "value": 1.0 if row["reference_voxels"] == row["predicted_voxels"] == 0 else row["dice"],
        }
        for entry, row, fold in _cases(entries)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _cases(entries: Sequence[Model | Ensemble]) -> Iterator[tuple[Model | Ensemble, dict[Any, Any], int | None]]:
    """Each case of each entry with the fold it was validated in; of several labels the first."""
    fold_of = _fold_of(entries)
    for entry in entries:
        for row in entry.scores.drop_duplicates("case").to_dict("records"):
            yield entry, row, fold_of.get(row["case"]) if pd.isna(row["fold"]) else int(row["fold"])


def _fold_of(entries: Sequence[Model | Ensemble]) -> dict[str, int]:
    """An ensemble's scores do not say the folds of its cases; those of its members do."""
    rows = pd.concat([entry.scores for entry in entries])[["case", "fold"]].dropna()
    return {case: int(fold) for case, fold in zip(rows["case"], rows["fold"], strict=True)}


def test_set_pairs(
    name: str, predictions: Mapping[str, Path], references: Path, people: People
) -> tuple[list[Pair], list[Absent]]:
    """The predictions of a test set.

    Args:
        name: of the set.
        predictions: the folder of each model, by its name in the report and in its order.
        references: folder of segmentations named like the predictions.

    Returns:
        The cases with a prediction and a reference; and references that are not there, and predictions that no model
        made of a reference.
    """
    of_case = dict(_segmentations(references))
    pairs: list[Pair] = []
    absent: list[Absent] = []
    for model, folder in predictions.items():
        for case, prediction in _segmentations(folder):
            if case in of_case:
                subject, site = people.subject(case), people.site(case)
                beside = probabilities_beside(prediction)
                pairs.append(Pair(model, name, None, case, subject, site, of_case[case], prediction, beside))
            else:
                absent.append(Absent(model, name, case, references / prediction.name))
    predicted = {pair.case for pair in pairs}
    absent += [Absent("", name, case, path) for case, path in of_case.items() if case not in predicted]
    return pairs, absent


def _segmentations(folder: Path) -> Iterator[tuple[str, Path]]:
    """Cases and files of a folder; nothing if it is not there."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(_ENDINGS):
            yield case_name(path.name), path
