"""nnU-Net's commands as lists of arguments, ready to be run or to be shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

Command = list[str]


def plan_and_preprocess(
    dataset_id: int, configuration: str, *, processes: int, spacing: Sequence[float] = (), plans: str = ""
) -> Command:
    """Check the dataset, plan, and preprocess one configuration.

    Args:
        spacing: target spacing in mm, in the axis order of the plans; nnU-Net chooses when empty.
        plans: name of the plans; nnU-Net demands one of its own for a spacing of its own.
    """
    command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset_id), "--verify_dataset_integrity"]
    command += ["-c", configuration, "-np", str(processes), "-npfp", str(processes)]
    if spacing:
        command += ["-overwrite_target_spacing", *(f"{s:g}" for s in spacing)]
    if plans:
        command += ["-overwrite_plans_name", plans]
    return command


def train(
    dataset_id: int, configuration: str, fold: int, trainer: str, plans: str, *, device: str = "", resume: str = ""
) -> Command:
    """Train a fold and validate it with probabilities, which ensembles are made of.

    Args:
        device: nnU-Net's own choice, a GPU, when empty.
        resume: "--c" continues from a checkpoint, "--val" validates a finished training.
    """
    command = ["nnUNetv2_train", str(dataset_id), configuration, str(fold), "-tr", trainer, "-p", plans, "--npz"]
    return command + _device(device) + ([resume] if resume else [])


def find_best_configuration(
    dataset_id: int, configurations: Sequence[str], trainers: Sequence[str], plans: Sequence[str], *, processes: int = 0
) -> Command:
    """Score every model and every pair of them by cross-validation, select the best, determine its postprocessing."""
    command = ["nnUNetv2_find_best_configuration", str(dataset_id)]
    command += ["-c", *configurations, "-tr", *trainers, "-p", *plans]
    return command + (["-np", str(processes)] if processes else [])


def predict(
    dataset_id: int,
    configuration: str,
    trainer: str,
    plans: str,
    images: str | Path,
    output: str | Path,
    *,
    folds: Sequence[int],
    probabilities: bool = False,
    device: str = "",
    sequential: bool = False,
) -> Command:
    """Predict a folder of images with the folds of one model.

    Args:
        probabilities: save them too, for an ensemble.
        sequential: start no worker processes: faster for a handful of small images.
    """
    command = ["nnUNetv2_predict", "-d", str(dataset_id), "-c", configuration, "-tr", trainer, "-p", plans]
    command += ["-f", *map(str, folds), "-i", str(images), "-o", str(output)]
    command += ["--save_probabilities"] if probabilities else []
    return command + _device(device) + (["-npp", "0", "-nps", "0"] if sequential else [])


def ensemble(folders: Sequence[str | Path], output: str | Path, *, processes: int = 0) -> Command:
    """Average the probabilities of several predictions of the same images."""
    command = ["nnUNetv2_ensemble", "-i", *map(str, folders), "-o", str(output)]
    return command + (["-np", str(processes)] if processes else [])


def apply_postprocessing(
    predictions: str | Path, output: str | Path, postprocessing: str | Path, plans: str | Path, *, processes: int = 0
) -> Command:
    """Apply what find_best_configuration determined; `plans` is the file beside `postprocessing`."""
    command = ["nnUNetv2_apply_postprocessing", "-i", str(predictions), "-o", str(output)]
    command += ["-pp_pkl_file", str(postprocessing), "-plans_json", str(plans)]
    return command + (["-np", str(processes)] if processes else [])


def evaluate(
    references: str | Path, predictions: str | Path, dataset_json: str | Path, plans: str | Path, *, processes: int = 0
) -> Command:
    """Score a folder of predictions; the scores go to `predictions`/summary.json."""
    command = ["nnUNetv2_evaluate_folder", str(references), str(predictions)]
    command += ["-djfile", str(dataset_json), "-pfile", str(plans)]
    return command + (["-np", str(processes)] if processes else [])


def as_text(command: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(command)


def _device(device: str) -> Command:
    return ["-device", device] if device else []
