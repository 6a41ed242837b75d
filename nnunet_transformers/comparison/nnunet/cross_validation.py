"""What nnU-Net's functions can do with cross-validated models and its commands cannot.

    python -m nnunet_transformers.comparison.nnunet.cross_validation select Dataset201_ATLAS MODEL MODEL … --folds 0 1
    python -m nnunet_transformers.comparison.nnunet.cross_validation ensemble Dataset201_ATLAS MODEL MODEL … --folds 0 1

`select` is nnUNetv2_find_best_configuration for any models, where the command takes every combination of trainers,
plans and configurations. `ensemble` averages and scores the validation of two or more models, where the command takes
pairs.
A MODEL is the name of its folder, trainer__plans__configuration.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from nnunet_transformers.comparison.nnunet.model_id import ModelId, ensemble_name


def main(arguments: Sequence[str]) -> None:
    """Run one of the two; nnU-Net's folders are in the environment."""
    parser = argparse.ArgumentParser(description="selection and ensembles of cross-validated models")
    parser.add_argument("task", choices=("select", "ensemble"))
    parser.add_argument("dataset", help="DatasetNNN_Name")
    parser.add_argument("models", nargs="+", help="trainer__plans__configuration")
    parser.add_argument("--folds", nargs="+", type=int, required=True)
    parser.add_argument("--no-ensembles", action="store_true", help="select among the models alone")
    parsed = parser.parse_args(arguments)
    if parsed.task == "select":
        select(parsed.dataset, parsed.models, parsed.folds, ensembles=not parsed.no_ensembles)
    else:
        ensemble(parsed.dataset, parsed.models, parsed.folds)


def select(dataset: str, models: Sequence[str], folds: Sequence[int], *, ensembles: bool) -> None:
    """nnU-Net's selection among these models and, if `ensembles`, their pairs."""
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    parts = [ModelId(*model.split("__"))._asdict() for model in models]
    find_best_configuration(dataset, parts, allow_ensembling=ensembles, folds=list(folds))


def ensemble(dataset: str, models: Sequence[str], folds: Sequence[int]) -> Path:
    """Average the probabilities of models on their validation cases, and score the result as nnU-Net does.

    Returns:
        The folder, beside those of nnU-Net's pairs and named like them.
    """
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.ensembling.ensemble import ensemble_crossvalidations
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    results = Path(str(nnUNet_results)) / dataset
    folder = results / "ensembles" / ensemble_name(models, folds)
    for path in folder.glob("*"):
        if path.name != ".lock":
            path.unlink() if path.is_file() else shutil.rmtree(path)
    ensemble_crossvalidations([str(results / model) for model in models], str(folder), tuple(folds))
    plans = PlansManager(str(folder / "plans.json"))
    description = load_json(str(folder / "dataset.json"))
    labels = plans.get_label_manager(description)
    compute_metrics_on_folder(
        str(Path(str(nnUNet_preprocessed)) / dataset / "gt_segmentations"),
        str(folder),
        str(folder / "summary.json"),
        plans.image_reader_writer_class(),
        description["file_ending"],
        labels.foreground_regions if labels.has_regions else labels.foreground_labels,
        labels.ignore_label,
        default_num_processes,
    )
    return folder


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
