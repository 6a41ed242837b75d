"""Run one step of an experiment in this process: locked, after removing what was cut off, and only what is left of it.

    python -m nnunet_transformers.comparison.running.step_process EXPERIMENT.yaml "train nnUNetTrainer fold 0"

It may be killed at any moment and started again.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from nnunet_transformers.common.locks import locked
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.comparison.experiment.model import Experiment, Local
from nnunet_transformers.comparison.nnunet.few_cores import run_script
from nnunet_transformers.comparison.nnunet.peak_memory import record_peak_memory
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.steps import steps

UNDER_WAY = 75  # exit code: another process runs the step
FAILED = "[failed]"  # how the last line of a failed step's log begins


def main(arguments: Sequence[str]) -> int:
    """Run a step given by the experiment's file and its name.

    Returns:
        0 done, 1 failed, 2 an error of the user's, UNDER_WAY.
    """
    path, name = arguments
    try:
        experiment = parse_experiment(Path(path))
        folders = experiment.nnunet_folders()
        os.environ.update(folders.environment())
        found = {step.name: step for step in steps(experiment, folders)}
        if name not in found:
            raise ComparisonError(
                f"{path} has no step {name!r}", f"Its steps: {', '.join(found)}. Nothing was run.", "NO_STEP"
            )
    except UserError as error:
        print(f"{error}\n{FAILED} {error.code}", flush=True)
        return 2
    _share_cores(experiment)
    return run_step(found[name])


def run_step(step: Step) -> int:
    """Run a step in this process; see `main`."""
    lock = step.lock or step.log.with_suffix(".lock")
    with locked(lock) as taken:
        if not taken:
            print(f"{step.name} is under way in another process: {lock.read_text()}", flush=True)
            return UNDER_WAY
        if step.is_done():
            print(f"{step.name} is done already", flush=True)
            return 0
        try:
            command = step.prepare() if step.prepare else step.command
            if command is not None:
                print(f"$ {shlex.join(command)}", flush=True)
                try:
                    call(command)
                finally:
                    if step.fold:
                        record_peak_memory(step.fold.folder)
            if not step.is_done():
                raise RuntimeError(f"{step.name} ended without an error, but its files are not complete")
        except KeyboardInterrupt:
            return 130
        except BaseException as error:
            if isinstance(error, SystemExit) and not error.code:
                return 0
            if not isinstance(error, SystemExit | UserError):
                traceback.print_exc()
            sys.stderr.flush()
            print(f"{FAILED} {_in_one_line(error)}", flush=True)
            return 1
    return 0


def call(command: Sequence[str]) -> None:
    """Run a command of an installed package, or `PYTHON -m MODULE` of this one, in this process."""
    if list(command[:2]) == [sys.executable, "-m"]:
        importlib.import_module(command[2]).main(list(command[3:]))
        return
    run_script(command)


def _share_cores(experiment: Experiment) -> None:
    """On a CPU nnU-Net takes a thread for each core, in each of the trainings that run side by side."""
    where = experiment.where
    if isinstance(where, Local) and where.device == "cpu":
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        os.cpu_count = lambda: max(1, cores // where.at_once)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, SystemExit) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
