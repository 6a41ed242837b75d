"""The demo is an experiment that a user could have written, on data made by commands that anybody can type."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from nnunet_transformers import demo
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.check import read_experiment
from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.demo import data_steps, narrow_plans, run_demo

YAML = resources.files("nnunet_transformers.demo") / "demo.yaml"


def test_the_data_are_made_by_commands_one_after_the_other(tmp_path: Path) -> None:
    phantom, convert, plan = data_steps(tmp_path)
    assert " ".join(phantom.command).startswith(f"nnunet-transformers phantom {tmp_path}/phantom --subjects 10 ")
    assert " ".join(convert.command) == (
        f"nnunet-transformers convert atlas {tmp_path}/phantom/ATLAS_2 --dataset-id 201"
    )
    assert "-overwrite_target_spacing 10 10 10 -overwrite_plans_name nnUNetPlans_coarse" in " ".join(plan.command)
    assert (convert.needs, plan.needs) == (("phantom",), ("phantom", "convert"))


def test_the_experiment_and_its_trainers_are_found_in_the_folder_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", "/precious")
    with demo._environment(tmp_path):
        demo._write_files(tmp_path)
        experiment = parse_experiment(tmp_path / "demo.yaml")
        assert {path.parent for path in vars(experiment.nnunet_folders()).values()} == {tmp_path}
        with pytest.raises(UserError) as error:
            read_experiment(tmp_path / "demo.yaml")
        assert "NO_DATASET" in str(error.value)
        assert "UNKNOWN_TRAINER" not in str(error.value)
    assert os.environ["nnUNet_raw"] == "/precious"


def test_narrow_plans_change_width_batch_and_name_only() -> None:
    plans = {
        "plans_name": "nnUNetPlans_coarse",
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_coarse_3d_fullres",
                "batch_size": 9,
                "patch_size": [40, 48, 40],
                "architecture": {"arch_kwargs": {"features_per_stage": [32, 64, 320], "strides": [[1] * 3]}},
            },
            "3d_cascade_fullres": {"inherits_from": "3d_fullres"},
        },
    }
    before = copy.deepcopy(plans)
    narrow = narrow_plans(plans)
    assert plans == before
    configuration = narrow["configurations"]["3d_fullres"]
    assert configuration["architecture"]["arch_kwargs"].pop("features_per_stage") == [8, 16, 80]
    assert (narrow.pop("plans_name"), configuration.pop("batch_size")) == ("nnUNetPlans_demo", 2)
    before["configurations"]["3d_fullres"].pop("batch_size")
    before["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].pop("features_per_stage")
    before.pop("plans_name")
    assert narrow == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ComparisonError, match="NOT_A_DEMO"):
        run_demo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "thesis.tex"]


def test_an_experiment_that_was_edited_stays_so(tmp_path: Path) -> None:
    demo._write_files(tmp_path)
    (tmp_path / "demo.yaml").write_text("dataset: 201\n")
    demo._write_files(tmp_path)
    assert (tmp_path / "demo.yaml").read_text() == "dataset: 201\n"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_second_demo_in_the_folder_says_so(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nnunet_transformers.common.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ComparisonError, match="DEMO_RUNS"):
            run_demo(tmp_path)
        other.communicate()
