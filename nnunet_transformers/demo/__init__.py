"""The whole comparison in minutes on two CPU cores: phantom, conversion, cross-validation of two networks, report.

What is compared is `demo.yaml`, an experiment that `compare run` runs. Before it come the commands that make the data,
as anybody would type them, and narrower plans. A second run does what is left of the first.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from nnunet_transformers.common.files import replacing, write_whole
from nnunet_transformers.common.locks import locked
from nnunet_transformers.comparison.compare import report
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.check import read_experiment
from nnunet_transformers.comparison.nnunet import commands
from nnunet_transformers.comparison.nnunet.results import read_json
from nnunet_transformers.comparison.nnunet.state import load_json
from nnunet_transformers.comparison.running.local import Outcome, run, run_steps
from nnunet_transformers.comparison.running.step import Step

DATASET = "Dataset201_ATLAS"
EXPERIMENT = "demo.yaml"
PLANNED, PLANS = "nnUNetPlans_coarse", "nnUNetPlans_demo"
WIDTH_DIVISOR, BATCH_SIZE = 4, 2

_TRAINERS = "trainers/demo_trainers.py"
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_EXT_TRAINERS = "nnUNet_extTrainer"


def run_demo(workdir: Path) -> Path:
    """Run the demo, or what is left of it, in a folder.

    Args:
        workdir: made if it does not exist; all that the demo writes is in it.

    Returns:
        The report.

    Raises:
        ComparisonError: a step failed, another demo runs in the folder, or it is the folder of something else.
    """
    workdir = Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir / ".lock") as taken, _environment(workdir):
        if not taken:
            raise ComparisonError(
                f"another demo runs in {workdir}", "Wait for it, or choose another folder.", "DEMO_RUNS"
            )
        _write_files(workdir)
        _complete(run_steps(data_steps(workdir)))
        _write_plans(workdir)
        _copy_references(workdir)
        experiment = read_experiment(workdir / EXPERIMENT)
        _complete(run(experiment))
        (page,) = report(experiment, jobs=2)
        return page


def data_steps(workdir: Path) -> list[Step]:
    """Phantom, conversion, and planning at the coarse spacing of the experiment."""
    source = workdir / "phantom"
    phantom = ["phantom", str(source), "--subjects", "10", "--test-subjects", "2", "--spacing", "3"]
    phantom += ["--lesion-ml", "60", "200"]
    convert = ["convert", "atlas", str(source / "ATLAS_2"), "--dataset-id", "201"]
    plan = commands.plan_and_preprocess(201, processes=1, spacing=[10, 10, 10], plans=PLANNED)
    ours, nnunets = "nnunet_transformers.cli", "nnunet_transformers.comparison.nnunet.few_cores"
    steps: list[Step] = []
    for name, command, process, made in (
        ("phantom", ["nnunet-transformers", *phantom], [ours, *phantom], source),
        ("convert", ["nnunet-transformers", *convert], [ours, *convert], workdir / "nnUNet_raw" / DATASET),
        ("plan", plan, [nnunets, "2", *plan], workdir / "nnUNet_preprocessed" / DATASET / f"{PLANNED}.json"),
    ):
        steps.append(
            Step(
                name=name,
                command=tuple(command),
                process=(sys.executable, "-m", *process),
                needs=tuple(step.name for step in steps),
                log=workdir / "report" / "logs" / f"{name}.log",
                is_done=made.exists,
            )
        )
    return steps


def narrow_plans(plans: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans with narrower networks and small batches, under the name PLANS.

    Patch, topology and preprocessed data stay as planned.
    """
    narrow = copy.deepcopy(plans)
    narrow["plans_name"] = PLANS
    for configuration in narrow["configurations"].values():
        if "architecture" not in configuration:  # it inherits that of another
            continue
        configuration["batch_size"] = BATCH_SIZE
        arguments = configuration["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = [max(1, width // WIDTH_DIVISOR) for width in arguments["features_per_stage"]]
    return narrow


@contextmanager
def _environment(workdir: Path) -> Iterator[None]:
    """nnU-Net's folders in the demo's, its trainers beside ours, and few processes while the block runs.

    Most of a short run's time goes into starting processes, so one is made where nnU-Net's default is eight.
    """
    before = dict(os.environ)
    trainers = [os.environ.get(_EXT_TRAINERS, ""), str((workdir / _TRAINERS).parent)]
    os.environ.update({name: str(workdir / name) for name in _FOLDERS})
    os.environ[_EXT_TRAINERS] = os.pathsep.join(filter(None, trainers))
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "0"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_files(workdir: Path) -> None:
    """The experiment and its trainers, which may have been edited since."""
    if (workdir / EXPERIMENT).exists():
        return
    if any(entry.name != ".lock" for entry in workdir.iterdir()):
        raise ComparisonError(
            f"{workdir} is not empty and not the folder of a demo",
            "Choose another folder. Nothing was changed.",
            "NOT_A_DEMO",
        )
    for name in _FOLDERS:
        (workdir / name).mkdir()
    for name in (_TRAINERS, EXPERIMENT):  # the experiment last: where it is, the demo can go on
        write_whole(workdir / name, (resources.files(__name__) / name).read_text(encoding="utf-8"))


def _write_plans(workdir: Path) -> None:
    folder = workdir / "nnUNet_preprocessed" / DATASET
    path = folder / f"{PLANS}.json"
    if load_json(path) is None:
        write_whole(path, json.dumps(narrow_plans(read_json(folder / f"{PLANNED}.json")), indent=4))


def _copy_references(workdir: Path) -> None:
    """The hidden masks of the phantom, named like the predictions."""
    for image in sorted((workdir / "nnUNet_raw" / DATASET / "imagesTs").glob("*_0000.nii.gz")):
        case = image.name.removesuffix("_0000.nii.gz")
        for mask in (workdir / "phantom" / "hidden_test_masks").glob(f"{case}_*.nii.gz"):
            reference = workdir / "test_references" / f"{case}.nii.gz"
            if not reference.exists():
                with replacing(reference) as partial:
                    shutil.copyfile(mask, partial)


def _complete(outcome: Outcome) -> None:
    if not outcome.is_complete:
        raise ComparisonError(str(outcome), "The demo is not complete.", "STEP_FAILED")
