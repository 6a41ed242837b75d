"""nnU-Net's commands as lists of arguments, ready to be run or to be shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

Command = list[str]


def plan_and_preprocess(
    dataset_id: int,
    *configurations: str,
    processes: int = 0,
    planner: str = "",
    spacing: Sequence[float] = (),
    plans: str = "",
) -> Command:
    """Check the dataset, plan, and preprocess some configurations; plan only if there are none.

    Args:
        processes: nnU-Net's own number when 0.
        planner, spacing, plans: see `plan_experiment`.
    """
    command = ["nnUNetv2_plan_and_preprocess", "-d", str(dataset_id), "--verify_dataset_integrity"]
    command += ["-c", *configurations] if configurations else ["--no_pp"]
    command += ["-np", str(processes), "-npfp", str(processes)] if processes else []
    return command + _plan_options(planner, spacing, plans)


def plan_experiment(dataset_id: int, *, planner: str = "", spacing: Sequence[float] = (), plans: str = "") -> Command:
    """Make plans for a dataset whose fingerprint is there.

    Args:
        planner: nnU-Net's default one when empty.
        spacing: target spacing in mm, in the axis order of the plans; nnU-Net chooses when empty.
        plans: name of the plans, the planner's own when empty; nnU-Net demands one for a spacing of its own.
    """
    return ["nnUNetv2_plan_experiment", "-d", str(dataset_id), *_plan_options(planner, spacing, plans)]


def move_plans(source_id: int, source_plans: str, target_id: int, target_plans: str) -> Command:
    """Take over the plans of another dataset under another name, as weights trained with them demand."""
    command = ["nnUNetv2_move_plans_between_datasets", "-s", str(source_id), "-t", str(target_id)]
    return [*command, "-sp", source_plans, "-tp", target_plans]


def preprocess(dataset_id: int, plans: str, configurations: Sequence[str]) -> Command:
    """Preprocess some configurations of plans; nnU-Net empties their folders first."""
    return ["nnUNetv2_preprocess", "-d", str(dataset_id), "-plans_name", plans, "-c", *configurations]


def train(
    dataset_id: int,
    configuration: str,
    fold: int,
    trainer: str,
    plans: str,
    *,
    probabilities: bool = True,
    device: str = "",
    resume: str = "",
    pretrained_weights: str | Path = "",
    gpus: int = 1,
) -> Command:
    """Train a fold and validate it.

    Args:
        probabilities: keep those of the validation, which ensembles are made of.
        device: nnU-Net's own choice, a GPU, when empty.
        resume: "--c" continues from a checkpoint, "--val" validates a finished training.
        pretrained_weights: a checkpoint to start from; nnU-Net refuses it together with "--c".
        gpus: to share each batch.
    """
    command = ["nnUNetv2_train", str(dataset_id), configuration, str(fold), "-tr", trainer, "-p", plans]
    command += ["--npz"] if probabilities else []
    command += ["-pretrained_weights", str(pretrained_weights)] if pretrained_weights else []
    command += ["-num_gpus", str(gpus)] if gpus > 1 else []
    return command + _device(device) + ([resume] if resume else [])


def find_best_configuration(
    dataset_id: int,
    configurations: Sequence[str],
    trainers: Sequence[str],
    plans: Sequence[str],
    *,
    folds: Sequence[int] = (),
    ensembles: bool = True,
    processes: int = 0,
) -> Command:
    """Score every model and every pair of them by cross-validation, select the best, determine its postprocessing.

    The models are all combinations of the trainers, configurations and plans.

    Args:
        folds: nnU-Net's five when empty.
        ensembles: score the pairs too.
    """
    command = ["nnUNetv2_find_best_configuration", str(dataset_id)]
    command += ["-c", *configurations, "-tr", *trainers, "-p", *plans]
    command += ["-f", *map(str, folds)] if folds else []
    command += [] if ensembles else ["--disable_ensembling"]
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
    previous_stage: str | Path = "",
    probabilities: bool = False,
    device: str = "",
    sequential: bool = False,
    resume: bool = False,
) -> Command:
    """Predict a folder of images with the folds of one model.

    Args:
        previous_stage: folder of the predictions a cascade goes on from.
        probabilities: save them too, for an ensemble.
        sequential: start no worker processes: faster for a handful of small images.
        resume: keep the predictions that are there.
    """
    command = ["nnUNetv2_predict", "-d", str(dataset_id), "-c", configuration, "-tr", trainer, "-p", plans]
    command += ["-f", *map(str, folds), "-i", str(images), "-o", str(output)]
    command += ["-prev_stage_predictions", str(previous_stage)] if previous_stage else []
    command += ["--save_probabilities"] if probabilities else []
    command += ["--continue_prediction"] if resume else []
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


def as_text(command: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(command)


def _plan_options(planner: str, spacing: Sequence[float], plans: str) -> Command:
    options = ["-pl", planner] if planner else []
    options += ["-overwrite_target_spacing", *(f"{s:g}" for s in spacing)] if spacing else []
    return options + (["-overwrite_plans_name", plans] if plans else [])


def _device(device: str) -> Command:
    return ["-device", device] if device else []
