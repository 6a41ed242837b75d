"""The demo's commands, its small plans, and what it leaves out when it is run again."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.results_folder import write_checkpoint, write_summary

from nnunet_transformers import demo
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.results import Selection
from nnunet_transformers.demo import (
    DemoSettings,
    data_commands,
    environment,
    executable,
    plan_command,
    predict_commands,
    run_demo,
    select_command,
    small_plans,
    train_commands,
)

SETTINGS = DemoSettings(epochs=3, iterations=7)
UNET, SWIN = "nnUNetTrainer_3epochs_7iterations", "nnUNetTrainerSwinUNETR_3epochs_7iterations"
MODELS = tuple(f"{trainer}__nnUNetPlans_demo__3d_fullres" for trainer in (UNET, SWIN))


def selection(*models: str, steps: tuple[str, ...] = ()) -> Selection:
    return Selection(models, (0, 1, 2, 3, 4), 0.5, 0.5, Path("results/postprocessing.pkl"), steps)


def validated(fold: Path) -> None:
    write_checkpoint(fold / "checkpoint_final.pth")
    write_summary(fold / "validation" / "summary.json", {"a": 0.5})
    (fold / "validation" / "a.npz").touch()


def test_every_fold_of_both_trainers_is_trained_for_ensembles_on_the_cpu(tmp_path: Path) -> None:
    train = train_commands(SETTINGS, tmp_path)
    assert list(train) == [f"{trainer} fold {fold}" for trainer in (SWIN, UNET) for fold in range(5)]
    expected = f"nnUNetv2_train 201 3d_fullres 2 -tr {UNET} -p nnUNetPlans_demo --npz -device cpu"
    assert " ".join(train[f"{UNET} fold 2"]) == expected


def test_a_finished_fold_is_left_out_and_others_go_on_from_where_they_are(tmp_path: Path) -> None:
    validated(tmp_path / MODELS[0] / "fold_0")
    write_checkpoint(tmp_path / MODELS[0] / "fold_1" / "checkpoint_best.pth")
    write_checkpoint(tmp_path / MODELS[0] / "fold_2" / "checkpoint_final.pth")
    train = train_commands(SETTINGS, tmp_path)
    assert f"{UNET} fold 0" not in train
    assert [train[f"{UNET} fold {fold}"][-1] for fold in (1, 2, 3)] == ["--c", "--val", "cpu"]


def test_a_fold_with_a_cut_off_summary_is_not_left_out(tmp_path: Path) -> None:
    fold = tmp_path / MODELS[0] / "fold_0"
    validated(fold)
    summary = fold / "validation" / "summary.json"
    summary.write_text(summary.read_text()[:-5])
    assert train_commands(SETTINGS, tmp_path)[f"{UNET} fold 0"][-1] == "--val"


def test_the_best_model_is_selected_among_both_trainers() -> None:
    command = " ".join(select_command(SETTINGS))
    assert command == f"nnUNetv2_find_best_configuration 201 -c 3d_fullres -tr {UNET} {SWIN} -p nnUNetPlans_demo -np 1"


def test_phantom_conversion_and_planning_belong_together() -> None:
    steps = data_commands(DemoSettings(subjects=7, test_subjects=1, seed=3, spacing=3.0), Path("src"))
    assert " ".join(steps["phantom"]).endswith("phantom src --subjects 7 --test-subjects 1 --seed 3 --spacing 3")
    assert " ".join(steps["convert"]).endswith("convert atlas src/ATLAS_2 --dataset-id 201")
    plan = " ".join(plan_command(DemoSettings(target_spacing=5.0)))
    assert "-d 201 --verify_dataset_integrity -c 3d_fullres" in plan
    assert "-overwrite_target_spacing 5 5 5" in plan


def test_a_selected_model_predicts_alone(tmp_path: Path) -> None:
    steps = predict_commands(selection(MODELS[1]), Path("imagesTs"), tmp_path)
    ((output, command),) = steps.values()
    assert output == tmp_path / "model"
    assert command[command.index("-tr") + 1] == SWIN
    assert "--save_probabilities" not in command


def test_a_selected_ensemble_averages_both_members_and_then_is_postprocessed(tmp_path: Path) -> None:
    steps = predict_commands(selection(*MODELS, steps=("keep_largest",)), Path("imagesTs"), tmp_path)
    assert [output.name for output, _ in steps.values()] == ["model_1", "model_2", "ensemble", "postprocessed"]
    first, second, ensemble, post = (command for _, command in steps.values())
    assert "--save_probabilities" in first
    assert "--save_probabilities" in second
    assert ensemble[2:4] == [str(tmp_path / "model_1"), str(tmp_path / "model_2")]
    assert post[post.index("-i") + 1] == str(tmp_path / "ensemble")
    assert post[post.index("-pp_pkl_file") + 1] == "results/postprocessing.pkl"


def test_small_plans_change_width_batch_and_name_only() -> None:
    plans = {
        "plans_name": "nnUNetPlans_coarse",
        "configurations": {
            "2d": {"batch_size": 40},
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_coarse_3d_fullres",
                "batch_size": 9,
                "patch_size": [40, 48, 40],
                "architecture": {"arch_kwargs": {"features_per_stage": [32, 64, 320], "strides": [[1] * 3]}},
            },
        },
    }
    before = copy.deepcopy(plans)
    small = small_plans(plans, DemoSettings(width_divisor=4, batch_size=2))
    assert plans == before
    configuration = small["configurations"]["3d_fullres"]
    assert configuration["architecture"]["arch_kwargs"].pop("features_per_stage") == [8, 16, 80]
    assert (small.pop("plans_name"), configuration.pop("batch_size")) == ("nnUNetPlans_demo", 2)
    before["configurations"]["3d_fullres"].pop("batch_size")
    before["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].pop("features_per_stage")
    before.pop("plans_name")
    assert small == before


def test_the_users_own_nnunet_folders_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "/precious")
    variables = environment(tmp_path)
    assert {Path(variables[f"nnUNet_{part}"]).parent for part in ("raw", "preprocessed", "results")} == {tmp_path}


def test_nnunet_sees_only_its_share_of_the_cores() -> None:
    # nnUNetv2_train takes multiprocessing.cpu_count() threads.
    code = "import multiprocessing, sys; from nnunet_transformers.comparison.nnunet import few_cores\n"
    code += "class Script:\n def load(self): return lambda: print(multiprocessing.cpu_count(), sys.argv)\n"
    code += "few_cores.metadata.entry_points = lambda **which: [Script()]\n"
    code += "few_cores.main(['3', 'nnUNetv2_train', '201'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 ['nnUNetv2_train', '201']"


def test_a_command_that_is_not_installed_is_named() -> None:
    command = executable(["nnUNetv2_no_such_command"], 1)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith("nnUNetv2_no_such_command is not installed in ")


def test_augmentation_without_workers_is_for_training_only(tmp_path: Path) -> None:
    assert environment(tmp_path, training=True)["nnUNet_n_proc_DA"] == "0"
    assert "nnUNet_n_proc_DA" not in environment(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ComparisonError, match="NOT_A_DEMO"):
        run_demo(tmp_path)


def test_a_demo_with_other_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"subjects": 3}))
    with pytest.raises(ComparisonError, match="OTHER_SETTINGS") as error:
        run_demo(tmp_path)
    assert str(tmp_path / "demo.json") in str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_a_second_demo_waits_for_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import fcntl

    with demo._locked(tmp_path), (tmp_path / ".lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with demo._locked(tmp_path):
        pass  # free again
    assert "Waiting" not in capfd.readouterr().err
