"""What the tests of SLURM share: is there a cluster, a stand-in for nnUNetv2_train that takes seconds, its steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nnunet_transformers.comparison.experiment.model import Model
from nnunet_transformers.comparison.nnunet.state import FoldState, fold_state
from nnunet_transformers.comparison.running.step import Fold, Step

DATASET = "Dataset201_Lesions"

# Writes what nnU-Net writes: a checkpoint (a zip archive) per epoch, at the end the final one, scores, probabilities.
# Ends with an error where a file `broken` lies in the fold's folder.
_TRAIN = """#!{python} -S
import json, os, shutil, sys, time, zipfile
from pathlib import Path
dataset, configuration, fold = sys.argv[1:4]
trainer, plans = (sys.argv[sys.argv.index(o) + 1] for o in ("-tr", "-p"))
dataset = next(Path(os.environ["nnUNet_results"]).glob("Dataset" + dataset + "_*"))
folder = dataset / "__".join((trainer, plans, configuration)) / ("fold_" + fold)
folder.mkdir(parents=True, exist_ok=True)
latest = folder / "checkpoint_latest.pth"
print(" ".join(sys.argv[4:]), flush=True)
if (folder / "broken").exists():
    sys.exit("the loss is not a number")
epoch = 0
if "--c" in sys.argv:
    epoch = int(zipfile.ZipFile(latest).read("epoch"))
for epoch in () if "--val" in sys.argv else range(epoch, int(os.environ["EPOCHS"])):
    print("epoch", epoch, flush=True)
    time.sleep(0.1)
    with zipfile.ZipFile(folder / "partial", "w") as checkpoint:
        checkpoint.writestr("epoch", str(epoch + 1))
    (folder / "partial").rename(latest)
if "--val" not in sys.argv:
    shutil.copyfile(latest, folder / "checkpoint_final.pth")
validation = folder / "validation"
validation.mkdir(exist_ok=True)
(validation / "case.npz").touch()
(validation / "summary.json").write_text(json.dumps({{"metric_per_case": [{{"prediction_file": "case.nii.gz"}}]}}))
"""

_WHAT_IS_LEFT = """
import os, sys
from pathlib import Path
from nnunet_transformers.comparison.nnunet.state import fold_state, remove_broken_checkpoints
folder, command = Path(sys.argv[1]), sys.argv[2:]
remove_broken_checkpoints(folder)
option = fold_state(folder).value
if option is not None:
    os.execv(command[0], [*command, option] if option else command)
"""


def slurm_answers() -> bool:
    if shutil.which("sinfo") is None:
        return False
    try:
        return bool(subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=10, check=True).stdout)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False


needs_slurm = pytest.mark.skipif(not slurm_answers(), reason="no SLURM answers sinfo; .ci/slurm.sh up starts one")


class Trainings:
    """A folder with steps in it: preparation, folds of a training that takes a tenth of a second per epoch."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder = folder
        self.results = folder / "nnUNet_results"
        (self.results / DATASET).mkdir(parents=True)
        self.environment = {"nnUNet_results": str(self.results), "EPOCHS": str(epochs)}
        self.program = folder / "nnUNetv2_train"
        self.program.write_text(_TRAIN.format(python=sys.executable))
        self.program.chmod(0o755)

    def fold(self, number: int) -> Path:
        return self.results / DATASET / "nnUNetTrainer__nnUNetPlans__3d_fullres" / f"fold_{number}"

    def touch(
        self, name: str, *, needs: tuple[str, ...] = (), after: tuple[str, ...] = (), array: str = "", gpu: bool = False
    ) -> Step:
        """A step that makes a file."""
        file = self.folder / name
        return Step(
            name=name, command=("touch", str(file)), process=("touch", str(file)), needs=needs, after=after,
            log=self.log(name), is_done=file.exists, array=array, gpu=gpu,
        )  # fmt: skip

    def train(self, number: int, *, needs: tuple[str, ...] = (), gpu: bool = False) -> Step:
        """A training of a fold, all of them in one array."""
        name = f"training fold {number}"
        options = ("-tr", "nnUNetTrainer", "-p", "nnUNetPlans", "--npz")
        command = (str(self.program), "201", "3d_fullres", str(number), *options)
        return Step(
            name=name,
            command=command,
            process=(sys.executable, "-c", _WHAT_IS_LEFT, str(self.fold(number)), *command),
            needs=needs,
            fold=Fold(Model("U-Net", 201, "nnUNetTrainer"), number, self.fold(number)),
            log=self.log(name),
            is_done=partial(_is_validated, self.fold(number)),
            array="training",
            stays_done=True,
            gpu=gpu,
        )

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def epochs(self, number: int) -> list[int]:
        """The epochs a fold was trained for, in the order of its log."""
        lines = self.log(f"training fold {number}").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("epoch ")]


def _is_validated(folder: Path) -> bool:
    return fold_state(folder) is FoldState.VALIDATED


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def start_requeued(job: str) -> None:
    """Start a requeued job: SLURM holds it for two minutes, to be sure that its first run is over."""
    time.sleep(2)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
