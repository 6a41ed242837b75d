"""Apply what nnUNetv2_find_best_configuration selected to a test set its models have predicted.

    python -m nnunet_transformers.comparison.nnunet.selected nnUNet_results/Dataset201_ATLAS PREDICTIONS/test

The second folder has the predictions of each model in a folder named trainer__plans__configuration, with probabilities
where an ensemble may be selected. The result goes to its folder `selected`; `selected_without_postprocessing` has what
was postprocessed, if nnU-Net found that it helps.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.commands import Command
from nnunet_transformers.comparison.nnunet.results import read_results


def main(arguments: Sequence[str]) -> None:
    """Run `apply_selected` with the two folders."""
    apply_selected(Path(arguments[0]), Path(arguments[1]))


def apply_selected(results: Path, predictions: Path) -> Path:
    """Ensemble and postprocess the predictions of the selected models.

    Raises:
        ComparisonError: nothing was selected yet, a selected model has no predictions, or one of nnU-Net's commands
            failed.
    """
    selection = read_results(results).selection
    if selection is None:
        raise ComparisonError(
            f"nothing is selected in {results}: it has no inference_information.json",
            "Run nnUNetv2_find_best_configuration first.",
            "NOT_SELECTED",
        )
    members = [predictions / model for model in selection.models]
    if missing := [folder for folder in members if not folder.is_dir()]:
        raise ComparisonError(
            f"{missing[0].name} is selected and has not predicted these images: there is no {missing[0]}",
            "Predict them with it first. Nothing was written.",
            "NO_PREDICTIONS",
        )
    final, before = predictions / "selected", predictions / "selected_without_postprocessing"
    for folder in (final, before):
        shutil.rmtree(folder, ignore_errors=True)
    source = members[0]
    if len(members) > 1:
        source = before if selection.postprocessing_steps else final
        _run(commands.ensemble(members, source))
    if selection.postprocessing_steps:
        pickled = selection.postprocessing
        _run(commands.apply_postprocessing(source, final, pickled, pickled.parent / "plans.json"))
    elif len(members) == 1:
        shutil.copytree(source, final, ignore=shutil.ignore_patterns("*.npz", "*.pkl", ".lock"))
        for path in final.iterdir():
            path.touch()  # newer than the selection
    return final


def _run(command: Command) -> None:
    print(f"$ {commands.as_text(command)}", flush=True)
    # The command beside this Python, whatever PATH holds.
    few_cores = [sys.executable, "-m", "nnunet_transformers.comparison.nnunet.few_cores", str(os.cpu_count() or 1)]
    code = subprocess.run([*few_cores, *command]).returncode
    if code:
        raise ComparisonError(f"exit code {code}: {commands.as_text(command)}", "Its output is above.", "STEP_FAILED")


if __name__ == "__main__":
    main(sys.argv[1:])
