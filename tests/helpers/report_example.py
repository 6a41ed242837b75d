"""A results folder and a table of scores with chosen values, as the evaluation of a comparison leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.results_folder import write_model

from nnunet_transformers.comparison.metrics.images import DataFolders
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS
from nnunet_transformers.comparison.nnunet.names import short_names
from nnunet_transformers.comparison.nnunet.results import read_results
from nnunet_transformers.comparison.reporting import ReportInput
from nnunet_transformers.comparison.statistics.options import Options

BASELINE, SWIN, UNETR = "nnUNetTrainer", "nnUNetTrainerSwinUNETR", "nnUNetTrainerUNETR"
CASES = 40
FEW = Options(resamples=500)

EPOCH = """2026-01-0{day} 10:00:00.000000: Epoch {epoch}
2026-01-0{day} 10:00:01.000000: train_loss {train:.4f}
2026-01-0{day} 10:00:01.000000: val_loss {validation:.4f}
2026-01-0{day} 10:00:01.000000: Pseudo dice [np.float32({dice:.4f})]
2026-01-0{day} 10:00:01.000000: Epoch time: 2.0 s
"""


def case_names(n: int = CASES) -> list[str]:
    return [f"case{number:02d}" for number in range(n)]


def score_table(
    values: Mapping[str, Sequence[float]],
    *,
    metric: str = "dice",
    where: str = "cross-validation",
    sites: int = 2,
    volumes: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Scores of case00, case01, …: case i is in fold i mod 5, at site i mod `sites`.

    Its lesion has 2^(i/4) ml, again from 1 ml after 40 cases."""
    rows = [
        {
            "model": model,
            "set": where,
            "fold": number % 5 if where == "cross-validation" else pd.NA,
            "case": case,
            "subject": case,
            "site": f"site{number % sites}",
            "reference_ml": 2 ** (number % 40 / 4) if volumes is None else volumes[number],
            "metric": metric,
            "value": value,
        }
        for model, own in values.items()
        for number, (case, value) in enumerate(zip(case_names(len(own)), own, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"fold": "Int64"})


def dice_values(n: int = CASES, seed: int = 0) -> dict[str, list[float]]:
    """A clear winner, a clear loser, in this order behind the baseline."""
    rng = np.random.default_rng(seed)
    unet = rng.uniform(0.3, 0.8, n)
    return {
        BASELINE: unet.tolist(),
        SWIN: (unet + rng.uniform(0.02, 0.15, n)).tolist(),
        UNETR: (unet - rng.uniform(0.05, 0.2, n)).tolist(),
    }


def folds_of(values: Sequence[float]) -> dict[int, dict[str, float]]:
    cases = list(zip(case_names(len(values)), values, strict=True))
    return {fold: dict(cases[fold::5]) for fold in range(5)}


def report_input(folder: Path, scores: pd.DataFrame, **changes: object) -> ReportInput:
    """What the report gets for these scores: a model in the results folder for each in them, and splits that fit."""
    results = folder / "nnUNet_results" / "Dataset201_Lesions"
    results.mkdir(parents=True)
    dice = scores[(scores["metric"] == "dice") & (scores["set"] == "cross-validation")]
    for model, own in dice.groupby("model", sort=False):
        folds = {int(fold): dict(zip(rows["case"], rows["value"], strict=True)) for fold, rows in own.groupby("fold")}
        write_log(write_model(results, f"{model}__nnUNetPlans__3d_fullres", folds) / f"fold_{min(folds)}")
    preprocessed = folder / "nnUNet_preprocessed" / "Dataset201_Lesions"
    preprocessed.mkdir(parents=True)
    cases = sorted(scores["case"].unique())
    write_splits(preprocessed, [cases[fold::5] for fold in range(5)])
    read = read_results(results, preprocessed / "splits_final.json")
    options: dict[str, object] = {
        "names": short_names(read),
        "baseline": BASELINE,
        "data": DataFolders(None, preprocessed),
        "options": FEW,
        **changes,
    }
    return ReportInput(scores, read, **options)  # type: ignore[arg-type]


def write_splits(preprocessed: Path, validation: Sequence[Sequence[str]]) -> None:
    every = sorted({case for fold in validation for case in fold})
    splits = [{"train": [case for case in every if case not in fold], "val": list(fold)} for fold in validation]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))


def write_log(fold: Path, epochs: int = 12, *, first: int = 0, day: int = 1) -> None:
    lines = [
        EPOCH.format(day=day, epoch=epoch, train=-epoch / 20, validation=-epoch / 25, dice=epoch / 20)
        for epoch in range(first, epochs)
    ]
    (fold / f"training_log_2026_1_{day}_10_00_00.txt").write_text("".join(lines))
