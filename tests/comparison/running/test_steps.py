"""The steps of an experiment: nnU-Net's commands, their order, and what counts as done."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from helpers.results_folder import write_checkpoint, write_summary, write_volume

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.experiment.file import parse_experiment
from nnunet_transformers.comparison.experiment.model import Experiment
from nnunet_transformers.comparison.running.step import Step
from nnunet_transformers.comparison.running.steps import steps

NAME = "Dataset007_Lesions"
UNET, UNETR = "nnUNetTrainer__nnUNetPlans__3d_fullres", "nnUNetTrainerUNETR__nnUNetPlans__3d_fullres"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in ("raw", "preprocessed", "results"):
        (tmp_path / part / NAME).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    (tmp_path / "raw" / NAME / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    return tmp_path


def experiment(folder: Path, text: str) -> Experiment:
    path = folder / "e.yaml"
    path.write_text(text)
    return parse_experiment(path)


def named(folder: Path, text: str) -> dict[str, Step]:
    read = experiment(folder, text)
    return {step.name: step for step in steps(read, read.nnunet_folders())}


def line(step: Step) -> str:
    return " ".join(step.command)


TWO = "dataset: 7\nfolds: [0, 1]\ntrainers: [nnUNetTrainer, nnUNetTrainerUNETR]\n"


def test_the_steps_are_nnunets_commands_in_an_order_that_works(folder: Path) -> None:
    found = named(folder, TWO)
    assert {name: line(step) for name, step in found.items()} == {
        "preprocess nnUNetPlans": "nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity -c 3d_fullres",
        **{
            f"train {trainer} fold {fold}": f"nnUNetv2_train 7 3d_fullres {fold} -tr {trainer} -p nnUNetPlans --npz"
            for trainer in ("nnUNetTrainer", "nnUNetTrainerUNETR")
            for fold in (0, 1)
        },
        "select": "nnUNetv2_find_best_configuration 7 -c 3d_fullres -tr nnUNetTrainer nnUNetTrainerUNETR "
        "-p nnUNetPlans -f 0 1",
    }
    seen: set[str] = set()
    for step in found.values():
        assert seen.issuperset(step.needs)
        seen.add(step.name)
    assert {name for name, step in found.items() if step.gpu} == {name for name in found if name.startswith("train")}
    assert len({step.log for step in found.values()}) == len(found)


def test_steps_can_be_sent_to_another_process(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "a_0000.nii.gz").touch()
    for step in named(folder, TWO + "test_sets: [{name: t, images: images}]\n").values():
        assert pickle.loads(pickle.dumps(step)).is_done() is False


def test_a_test_set_without_images_is_named(folder: Path) -> None:
    found = named(folder, TWO + "test_sets: [{name: t, images: nowhere}]\n")
    with pytest.raises(ComparisonError, match="no image of the test set t in"):
        found["predict t with nnUNetTrainer"].is_done()


def test_further_plans_are_planned_and_preprocessed_one_after_the_other(folder: Path) -> None:
    resenc = "{trainer: nnUNetTrainer, name: M, plans: nnUNetResEncUNetMPlans, planner: nnUNetPlannerResEncM}"
    found = named(folder, f"dataset: 7\nfolds: [0]\ntrainers: [{resenc}, nnUNetTrainer]\n")
    assert [name for name in found if name.startswith("p")] == [
        "preprocess nnUNetResEncUNetMPlans", "plan nnUNetPlans", "preprocess nnUNetPlans",
    ]  # fmt: skip
    first, second = found["preprocess nnUNetResEncUNetMPlans"], found["preprocess nnUNetPlans"]
    assert "-pl nnUNetPlannerResEncM -overwrite_plans_name nnUNetResEncUNetMPlans" in line(first)
    assert line(second) == "nnUNetv2_preprocess -d 7 -plans_name nnUNetPlans -c 3d_fullres"
    assert second.needs == ("plan nnUNetPlans",)
    assert found["plan nnUNetPlans"].needs == (first.name,)
    assert found["train M fold 0"].needs == (first.name,)


def test_plans_of_another_dataset_are_taken_over_after_ones_own_fingerprint(folder: Path) -> None:
    (folder / "w.pth").touch()
    text = "dataset: 7\nfolds: [0]\ntrainers: [{trainer: A, plans: P, plans_from: 3, pretrained_weights: w.pth}]\n"
    found = named(folder, text)
    assert line(found["plan nnUNetPlans"]) == "nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity --no_pp"
    assert line(found["plan P"]) == "nnUNetv2_move_plans_between_datasets -s 3 -t 7 -sp nnUNetPlans -tp P"
    assert f"-pretrained_weights {folder / 'w.pth'}" in line(found["train A fold 0"])


def test_models_that_are_not_all_combinations_are_selected_by_nnunets_function(folder: Path) -> None:
    text = "dataset: 7\nfolds: [0]\nensembles: none\ntrainers: [A, {trainer: B, plans: P, planner: Q}]\n"
    select = named(folder, text)["select"]
    assert "nnunet_transformers.comparison.nnunet.cross_validation select" in line(select)
    assert line(select).endswith(f"{NAME} A__nnUNetPlans__3d_fullres B__P__3d_fullres --folds 0 --no-ensembles")


def test_listed_ensembles_wait_for_their_members_only(folder: Path) -> None:
    found = named(folder, "dataset: 7\nfolds: [0]\ntrainers: [A, B, C, D]\nensembles: [[A, B, C]]\n")
    assert found["ensemble A + B + C"].needs == tuple(f"train {name} fold 0" for name in "ABC")
    assert "--disable_ensembling" in line(found["select"])


def test_several_datasets_have_each_their_steps(folder: Path) -> None:
    (folder / "raw" / "Dataset008_Others").mkdir()
    found = named(folder, "datasets: [7, 8]\nfolds: [0]\ntrainers: [nnUNetTrainer]\n")
    assert found["train nnUNetTrainer fold 0 on 8"].needs == ("preprocess nnUNetPlans on 8",)
    assert line(found["select on 8"]).startswith("nnUNetv2_find_best_configuration 8 ")


def test_a_dataset_without_a_folder_is_named(folder: Path) -> None:
    with pytest.raises(ComparisonError, match="NO_DATASET"):
        named(folder, "dataset: 9\ntrainers: [A]\n")


def test_on_a_cpu_no_step_asks_for_a_gpu(folder: Path) -> None:
    found = named(folder, TWO + "where: {local: {device: cpu}}\n")
    assert not any(step.gpu for step in found.values())
    assert line(found["train nnUNetTrainer fold 0"]).endswith("-device cpu")


def test_trainings_on_a_cluster_have_its_time_limit_and_are_one_array(folder: Path) -> None:
    found = named(folder, TWO + "where: {slurm: {hours: 24, gpus_per_task: 2}}\n")
    trainings = [step for step in found.values() if step.gpu]
    assert {(step.array, step.hours) for step in trainings} == {("train", 24.0)}
    assert all("-num_gpus 2" in line(step) for step in trainings)
    assert found["select"].hours is None


def preprocessed(folder: Path, cases: str = "ab") -> Path:
    """What preprocessing leaves of the cases."""
    target, labels = folder / "preprocessed" / NAME, folder / "raw" / NAME / "labelsTr"
    for case in cases:
        properties = target / "nnUNetPlans_3d_fullres" / f"{case}.pkl"
        properties.parent.mkdir(exist_ok=True)
        properties.write_bytes(pickle.dumps({"spacing": [1.0, 1.0, 1.0]}))
        reference, label = target / "gt_segmentations" / f"{case}.nii.gz", labels / f"{case}.nii.gz"
        for path in (reference, label):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(f"voxels of {case}".encode(), mtime=0))
    (target / "dataset_fingerprint.json").write_text(json.dumps({"spacings": [[1, 1, 1]] * len(cases)}))
    (target / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    configurations = {
        "3d_fullres": {"data_identifier": "nnUNetPlans_3d_fullres"},
        "3d_small": {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]},
    }
    (target / "nnUNetPlans.json").write_text(json.dumps({"configurations": configurations}))
    return target


def test_preprocessing_is_done_when_every_case_is(folder: Path) -> None:
    step = named(folder, TWO)["preprocess nnUNetPlans"]
    assert not step.is_done()
    target = preprocessed(folder)
    assert step.is_done()
    (target / "gt_segmentations" / "b.nii.gz").unlink()
    assert not step.is_done()


@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_properties_of_a_case_that_were_cut_off_are_preprocessed_again(folder: Path, left: int) -> None:
    path = preprocessed(folder) / "nnUNetPlans_3d_fullres" / "b.pkl"
    path.write_bytes(path.read_bytes()[:left])
    step = named(folder, TWO)["preprocess nnUNetPlans"]
    assert not step.is_done()
    assert step.prepare is not None
    assert (step.prepare() or [])[0] == "nnUNetv2_preprocess"


def test_a_reference_that_was_cut_off_is_copied_again_and_what_was_made_from_it_is_left_to_do(folder: Path) -> None:
    target = preprocessed(folder, "abcdef")
    for model in (UNET, UNETR):
        for fold, case in enumerate("ab"):
            path = folder / "results" / NAME / model / f"fold_{fold}"
            write_checkpoint(path / "checkpoint_final.pth")
            write_summary(path / "validation" / "summary.json", {case: 0.5})
            (path / "validation" / f"{case}.npz").touch()
    selected(folder, [UNET, UNETR], [0, 1])
    reference = target / "gt_segmentations" / "b.nii.gz"
    whole = reference.read_bytes()
    reference.write_bytes(whole[:-5])

    found = named(folder, TWO)
    step = found["preprocess nnUNetPlans"]
    assert not step.is_done()
    assert step.prepare is not None
    assert step.prepare() is None, "nnU-Net would leave the copy as it is"
    assert reference.read_bytes() == whole
    assert step.is_done()
    left = {name for name, step in found.items() if not step.is_done()}
    assert left == {"train nnUNetTrainer fold 1", "train nnUNetTrainerUNETR fold 1", "select"}
    again = found["train nnUNetTrainer fold 1"].prepare
    assert again is not None
    assert (again() or [])[-1] == "--val"


def test_a_reference_that_was_cut_off_and_has_no_source_is_named_and_nothing_removed(folder: Path) -> None:
    target = preprocessed(folder)
    path = validated(folder, UNET, 0)
    shutil.rmtree(folder / "raw" / NAME / "labelsTr")
    step = named(folder, TWO)["preprocess nnUNetPlans"]
    assert step.is_done()
    reference = target / "gt_segmentations" / "a.nii.gz"
    reference.write_bytes(reference.read_bytes()[:-5])
    assert not step.is_done()
    assert step.prepare is not None
    with pytest.raises(ComparisonError, match="CUT_OFF_REFERENCE"):
        step.prepare()
    assert (path / "validation" / "summary.json").is_file()


def test_a_label_that_was_corrected_after_preprocessing_is_not_taken_for_cut_off(folder: Path) -> None:
    preprocessed(folder)
    (folder / "raw" / NAME / "labelsTr" / "a.nii.gz").write_bytes(gzip.compress(b"other, and more voxels", mtime=0))
    assert named(folder, TWO)["preprocess nnUNetPlans"].is_done()


def test_a_configuration_that_inherits_its_data_needs_no_preprocessing_of_its_own(folder: Path) -> None:
    preprocessed(folder)
    text = "dataset: 7\ntrainers: [{trainer: A, configuration: 3d_small}]\n"
    assert named(folder, text)["preprocess nnUNetPlans"].is_done()


def test_plans_that_are_there_are_not_made_again(folder: Path) -> None:
    step = named(folder, TWO)["preprocess nnUNetPlans"]
    assert step.prepare is not None
    assert (step.prepare() or [])[0] == "nnUNetv2_plan_and_preprocess"
    (preprocessed(folder) / "nnUNetPlans_3d_fullres" / "b.pkl").unlink()
    assert (step.prepare() or [])[0] == "nnUNetv2_preprocess"


def validated(folder: Path, model: str, fold: int) -> Path:
    path = folder / "results" / NAME / model / f"fold_{fold}"
    write_checkpoint(path / "checkpoint_final.pth")
    write_summary(path / "validation" / "summary.json", {"sub-1.2": 0.5})
    (path / "validation" / "sub-1.2.npz").touch()
    return path


def test_a_training_goes_on_from_what_is_there(folder: Path) -> None:
    preprocessed(folder, "abcdef")
    step = named(folder, TWO)["train nnUNetTrainer fold 0"]
    fold = folder / "results" / NAME / UNET / "fold_0"
    assert step.prepare is not None
    assert step.prepare() == list(step.command)
    best, latest = write_checkpoint(fold / "checkpoint_best.pth"), write_checkpoint(fold / "checkpoint_latest.pth")
    latest.write_bytes(latest.read_bytes()[:-9])
    assert step.prepare() == [*step.command, "--c"]
    assert (best.exists(), latest.exists()) == (True, False)
    write_checkpoint(fold / "checkpoint_final.pth")
    assert step.prepare() == [*step.command, "--val"]
    validated(folder, UNET, 0)
    assert step.is_done()
    assert step.prepare() is None


def test_a_training_that_goes_on_does_not_start_from_pretrained_weights_again(folder: Path) -> None:
    preprocessed(folder, "abcdef")
    text = "dataset: 7\ntrainers: [{trainer: nnUNetTrainer, pretrained_weights: w.pth}]\n"
    step = named(folder, text)["train nnUNetTrainer fold 0"]
    assert step.prepare is not None
    assert "-pretrained_weights" in (step.prepare() or [])
    write_checkpoint(folder / "results" / NAME / UNET / "fold_0" / "checkpoint_latest.pth")
    left = list(step.prepare() or [])
    assert "-pretrained_weights" not in left
    assert left[-1] == "--c"


def test_the_split_that_trainings_find_is_the_one_nnunet_would_make(folder: Path) -> None:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    target = preprocessed(folder, "fedcba")
    step = named(folder, TWO)["train nnUNetTrainer fold 0"]
    assert step.prepare is not None
    step.prepare()
    path = target / "splits_final.json"
    assert json.loads(path.read_text()) == generate_crossval_split(list("abcdef"))
    path.write_text("[]")
    step.prepare()
    assert path.read_text() == "[]"


def selected(folder: Path, models: list[str], folds: list[int]) -> Path:
    parts = [dict(zip(("trainer", "plans", "configuration"), model.split("__"), strict=True)) for model in models]
    path = folder / "results" / NAME / "inference_information.json"
    path.write_text(json.dumps({"considered_models": parts, "folds": folds, "ensembling_allowed": True}))
    return path


def test_the_selection_is_done_when_it_was_among_these_models_after_their_validation(folder: Path) -> None:
    for model in (UNET, UNETR):
        for fold in (0, 1):
            validated(folder, model, fold)
    select = named(folder, TWO)["select"]
    assert not select.is_done()
    selected(folder, [UNET], [0, 1])
    assert not select.is_done()
    selected(folder, [UNETR, UNET], [0])
    assert not select.is_done()
    information = selected(folder, [UNETR, UNET], [0, 1])
    assert select.is_done()
    os.utime(information, (1, 1))
    assert not select.is_done()


def test_a_training_that_failed_does_not_keep_the_selection_from_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select = named(folder, TWO)["select"]
    assert select.after == tuple(
        f"train {name} fold {k}" for name in ("nnUNetTrainer", "nnUNetTrainerUNETR") for k in (0, 1)
    )
    assert select.prepare is not None
    with pytest.raises(ComparisonError, match="no model has all of its folds"):
        select.prepare()
    for fold in (0, 1):
        validated(folder, UNET, fold)
    validated(folder, UNETR, 0)
    command = "nnUNetv2_find_best_configuration 7 -c 3d_fullres -tr nnUNetTrainer -p nnUNetPlans -f 0 1"
    assert " ".join(select.prepare() or []) == command
    assert "nnUNetTrainerUNETR is left out" in capsys.readouterr().out
    selected(folder, [UNET], [0, 1])
    assert select.is_done()
    validated(folder, UNETR, 1)
    assert not select.is_done()
    assert select.prepare() == list(select.command)


CASCADE = (
    "dataset: 7\nfolds: [0, 1]\nensembles: none\ntest_sets: [{name: t, images: images}]\ntrainers:\n"
    "  - {trainer: nnUNetTrainer, name: both, configuration: 3d_cascade_fullres}\n"
    "  - {trainer: nnUNetTrainer, name: low, configuration: 3d_lowres}\n"
)


def test_a_cascade_comes_after_all_folds_of_its_first_stage_and_predicts_from_its_predictions(folder: Path) -> None:
    found = named(folder, CASCADE)
    assert list(found) == [
        "preprocess nnUNetPlans", "train low fold 0", "train low fold 1", "train both fold 0", "train both fold 1",
        "select", "predict t with low", "predict t with both", "predict t with what was selected",
    ]  # fmt: skip
    assert line(found["preprocess nnUNetPlans"]).endswith("-c 3d_fullres 3d_lowres")
    assert found["train both fold 0"].needs == ("preprocess nnUNetPlans", "train low fold 0", "train low fold 1")
    assert found["train low fold 0"].needs == ("preprocess nnUNetPlans",)
    low = folder / "e" / "predictions" / NAME / "t" / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    assert f"-prev_stage_predictions {low}" in line(found["predict t with both"])
    assert "-prev_stage_predictions" not in line(found["predict t with low"])
    assert "predict t with low" in found["predict t with both"].needs


def test_a_first_stage_validated_without_its_cascade_is_validated_again(folder: Path) -> None:
    low = "nnUNetTrainer__nnUNetPlans__3d_lowres"
    validated(folder, low, 0)
    alone = CASCADE.replace("  - {trainer: nnUNetTrainer, name: both, configuration: 3d_cascade_fullres}\n", "")
    assert named(folder, alone)["train low fold 0"].is_done()
    step = named(folder, CASCADE)["train low fold 0"]
    assert not step.is_done()
    assert step.prepare is not None
    assert (step.prepare() or [])[-1] == "--val"


def test_predictions_that_are_cut_off_or_older_than_the_weights_are_made_again(folder: Path) -> None:
    images, target = folder / "images", folder / "e" / "predictions" / NAME / "t" / UNET
    import numpy as np

    for case in ("a", "b.1", "c"):
        write_volume(images / f"{case}_0000.nii.gz", np.zeros((4, 4, 4), np.uint8))
        write_volume(target / f"{case}.nii.gz", np.zeros((4, 4, 4), np.uint8))
    for fold in (0, 1):
        os.utime(validated(folder, UNET, fold) / "checkpoint_final.pth", (100, 100))
    step = named(folder, TWO + "ensembles: none\ntest_sets: [{name: t, images: images}]\n")[
        "predict t with nnUNetTrainer"
    ]
    assert step.prepare is not None
    assert step.is_done()
    cut = target / "b.1.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-6])
    os.utime(target / "c.nii.gz", (1, 1))
    assert not step.is_done()
    assert step.prepare() == list(step.command)
    assert "--continue_prediction" in step.command
    assert [path.name for path in target.glob("*.nii.gz")] == ["a.nii.gz"]


def test_probabilities_are_predicted_where_ensembles_are_wanted(folder: Path) -> None:
    tests = "test_sets: [{name: t, images: images}]\n"
    assert "--save_probabilities" in named(folder, TWO + tests)["predict t with nnUNetTrainer"].command
    none = named(folder, TWO + tests + "ensembles: none\n")["predict t with nnUNetTrainer"]
    assert "--save_probabilities" not in none.command


def finished(folder: Path) -> list[Step]:
    """A finished experiment of two models with a test set."""
    import numpy as np

    preprocessed(folder, "abcdef")
    write_volume(folder / "images" / "t_0000.nii.gz", np.zeros((4, 4, 4), np.uint8))
    for model in (UNET, UNETR):
        for fold in (0, 1):
            validated(folder, model, fold)
    selected(folder, [UNET, UNETR], [0, 1])
    predictions = folder / "e" / "predictions" / NAME / "t"
    for name in (UNET, UNETR, "selected"):
        write_volume(predictions / name / "t.nii.gz", np.zeros((4, 4, 4), np.uint8))
        for ending in (".npz", ".pkl"):
            write_checkpoint(predictions / name / f"t{ending}")
            (predictions / name / "t.pkl").write_bytes(pickle.dumps({}))
    return list(named(folder, TWO + "test_sets: [{name: t, images: images}]\n").values())


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        (f"results/{NAME}/{UNET}/fold_1", {"train nnUNetTrainer fold 1", "predict t with nnUNetTrainer"}),
        (
            f"results/{NAME}/{UNET}/fold_1/checkpoint_final.pth",
            {"train nnUNetTrainer fold 1", "predict t with nnUNetTrainer"},
        ),
        (f"results/{NAME}/{UNET}/fold_1/validation/summary.json", {"train nnUNetTrainer fold 1"}),
        (f"results/{NAME}/inference_information.json", {"select", "predict t with what was selected"}),
        (f"preprocessed/{NAME}/dataset_fingerprint.json", {"preprocess nnUNetPlans"}),
        (f"preprocessed/{NAME}/gt_segmentations", {"preprocess nnUNetPlans"}),
        (f"e/predictions/{NAME}/t/{UNET}/t.npz", {"predict t with nnUNetTrainer"}),
        (f"preprocessed/{NAME}", {"preprocess nnUNetPlans"}),
    ],
)
def test_what_is_missing_of_a_finished_experiment_is_left_to_do(folder: Path, missing: str, left: set[str]) -> None:
    steps_of = finished(folder)
    assert [step.name for step in steps_of if not step.is_done()] == []
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = {step.name for step in steps_of if not step.is_done()}
    assert left <= found
    assert found <= left | {"select", "predict t with what was selected"}


def test_probabilities_of_a_validation_are_kept_where_ensembles_are_made_of_them(folder: Path) -> None:
    validated(folder, UNET, 0)
    (folder / "results" / NAME / UNET / "fold_0" / "validation" / "sub-1.2.npz").unlink()
    step = named(folder, TWO)["train nnUNetTrainer fold 0"]
    assert "--npz" in step.command
    assert not step.is_done()
    alone = named(folder, TWO + "ensembles: none\n")["train nnUNetTrainer fold 0"]
    assert "--npz" not in alone.command
    assert alone.is_done()
    assert "--npz" in named(folder, TWO + "ensembles: [[nnUNetTrainer, nnUNetTrainerUNETR]]\n")[alone.name].command


@pytest.mark.parametrize(
    ("slurm", "device", "gpu"),
    [("{}", "", True), ("{gpus_per_task: 0}", "-device cpu", False), ("{device: cpu}", "-device cpu", False)],
)
def test_trainings_on_a_cluster_are_for_the_device_its_jobs_have(
    folder: Path, slurm: str, device: str, gpu: bool
) -> None:
    step = named(folder, TWO + f"where: {{slurm: {slurm}}}\n")["train nnUNetTrainer fold 0"]
    assert (line(step).endswith(f"--npz {device}".rstrip()), step.gpu) == (True, gpu)
