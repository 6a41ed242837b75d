"""Reports of results made without us, from nothing but nnU-Net's folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from helpers.box_results import CASES, SHAPE, add_model, box, report, shown, write
from helpers.results_folder import DATASET, SWIN, UNET, write_ensemble, write_summary

from nnunet_transformers.cli import main
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.precision_recall import area_under_precision_recall
from nnunet_transformers.comparison.metrics.scores_table import read_scores
from nnunet_transformers.comparison.running.step import Step


def test_numbers_of_stock_results_are_those_one_counts_by_hand(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    output = report(folders)
    scores = read_scores(output / "metrics.csv")
    dice = scores[scores["metric"] == "dice"].groupby("model")["value"]
    assert dice.mean().to_dict() == pytest.approx({"nnUNetTrainer": 2 / 3, "nnUNetTrainerSwinUNETR": 12 / 14}, abs=1e-9)
    volume = scores[(scores["metric"] == "volume_difference_ml") & (scores["model"] == "nnUNetTrainer")]["value"]
    assert volume.to_numpy() == pytest.approx(-4 * 4 * 3 * 2 / 1000)
    assert scores["reference_ml"].unique() == pytest.approx([8 * 4 * 3 * 2 / 1000])
    assert set(scores["site"]) == {"R000", "R001"}
    assert set(scores["subject"]) == {case[:6] for case in CASES}
    with (output / "tables" / "comparisons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any("nnUNetTrainerSwinUNETR" in row.values() for row in rows)
    assert "0.667" in (output / "report.md").read_text()


def test_a_missing_fold_is_named(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6, folds=range(4))
    text = shown(report(folders))
    missing = text[text.index("## What is not shown") :]
    assert "nnUNetTrainerSwinUNETR" in missing
    assert "fold 4" in missing


def test_without_segmentations_nnunets_own_dice_is_reported_and_the_reader_is_told(folders: Path) -> None:
    add_model(folders, UNET, 4, segmentations=False)
    add_model(folders, SWIN, 6, segmentations=False)
    output = report(folders)
    scores = read_scores(output / "metrics.csv")
    assert set(scores["metric"]) == {"dice"}
    assert scores.groupby("model")["value"].mean()["nnUNetTrainer"] == pytest.approx(2 / 3)
    text = shown(output)
    assert "20 segmentations are not where nnU-Net recorded them, such as /elsewhere/" in text
    assert "nnU-Net's own Dice" in text


def test_a_model_without_segmentations_leaves_all_metrics_of_the_others(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6, segmentations=False)
    add_model(folders, SWIN.replace("SwinUNETR", "UNETR"), 5)
    output = report(folders)
    scores = read_scores(output / "metrics.csv")
    assert set(scores["model"]) == {"nnUNetTrainer", "nnUNetTrainerUNETR"}
    assert set(scores["metric"]) == {name for name, metric in METRICS.items() if not metric.needs_probability}
    text = shown(output)
    assert "10 segmentations are not where nnU-Net recorded them, such as /elsewhere/" in text
    assert "nnUNetTrainerSwinUNETR has none: it is not among the scores" in text


@pytest.mark.parametrize("gathered", [False, True])
def test_probabilities_of_the_folds_are_found_whatever_folder_the_segmentations_are_taken_from(
    folders: Path, gathered: bool
) -> None:
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length)
        where = folders / "nnUNet_results" / DATASET / model
        for number, case in enumerate(CASES):
            lesion = np.where(box(length), 0.9, 0.1).astype(np.float32)
            lesion[0, 0, 0] = 0.95 if model == UNET else 0.0
            validation = where / f"fold_{number % 5}" / "validation"
            np.savez_compressed(validation / f"{case}.npz", probabilities=np.stack([1 - lesion, lesion]))
        if gathered:  # as nnU-Net leaves it, without the probabilities
            merged = where / "crossval_results_folds_0_1_2_3_4"
            write_summary(merged / "summary.json", dict.fromkeys(CASES, 2 * length / (length + 8)))
            for path in where.glob("fold_*/validation/*.nii.gz"):
                write(merged / path.name, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    output = report(folders, "--scoring", "isles26")
    scores = read_scores(output / "metrics.csv")
    areas = scores[scores["metric"] == "pr_auc"].groupby("model")["value"].mean()
    expected = {}
    for model, length, highest in (("nnUNetTrainer", 4, 0.95), ("nnUNetTrainerSwinUNETR", 6, 0.0)):
        lesion = np.where(box(length), 0.9, 0.1)
        lesion[0, 0, 0] = highest
        expected[model] = area_under_precision_recall(box(8).astype(bool), lesion)
    assert areas.to_dict() == pytest.approx(expected)
    ranks = pd.read_csv(output / "tables" / "challenge_ranks.csv").set_index("model")
    assert ranks.loc["nnUNetTrainerSwinUNETR", "rank"] == 1
    assert "PR-AUC ↑" in shown(output)


def test_empty_masks_that_agree_are_a_dice_of_one_with_and_without_the_segmentations(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    empty, where = np.zeros(SHAPE, np.uint8), folders / "nnUNet_results" / DATASET
    write(folders / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{CASES[0]}.nii.gz", empty)
    for model, prediction in ((UNET, box(4)), (SWIN, empty)):
        validation = where / model / "fold_0" / "validation"
        write(validation / f"{CASES[0]}.nii.gz", prediction)
        summary = json.loads((validation / "summary.json").read_text())
        found = next(case for case in summary["metric_per_case"] if CASES[0] in case["prediction_file"])
        predicted = int(prediction.sum())
        found["metrics"]["1"] = {"Dice": 0.0 if predicted else float("nan"), "n_ref": 0, "n_pred": predicted}
        (validation / "summary.json").write_text(json.dumps(summary))
    means = []
    for _ in range(2):
        scores = read_scores(report(folders) / "metrics.csv")
        means.append(scores[scores["metric"] == "dice"].groupby("model")["value"].mean().to_dict())
        for path in where.glob("*/fold_*/validation/*.nii.gz"):
            path.unlink()
    assert means[0]["nnUNetTrainerSwinUNETR"] == pytest.approx((1 + 9 * 12 / 14) / 10)
    assert means[1] == pytest.approx(means[0])


def test_an_undefined_dice_and_an_empty_reference_are_reported(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    empty = np.zeros(SHAPE, np.uint8)
    write(folders / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{CASES[0]}.nii.gz", empty)
    text = shown(report(folders))
    assert CASES[0] in text[text.index("## What is not shown") :]


def test_folds_that_are_not_those_of_the_splits_are_reported(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    path = folders / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    splits = json.loads(path.read_text())
    splits[0]["val"], splits[1]["val"] = splits[1]["val"], splits[0]["val"]
    path.write_text(json.dumps(splits))
    text = shown(report(folders))
    assert "splits_final.json" in text[text.index("## What is not shown") :]


def test_repetitions_are_said_to_be_such_with_and_without_an_experiment(folders: Path) -> None:
    for number, seed in enumerate((1, 2)):
        add_model(folders, f"nnUNetTrainer_CE_seed{seed}__nnUNetPlans__3d_fullres", 4 + number)
    told = "are repetitions of one training with other seeds"
    text = shown(report(folders))
    assert f"nnUNetTrainer · seed 1 and nnUNetTrainer · seed 2 {told}" in text
    assert "the same recipe, loss, augmentation and length, which is left out of them: loss CE." in text
    path = folders / "e.yaml"
    path.write_text(
        f"dataset: 201\noutput: {folders / 'out'}\nruns: 2\nloss: CE\nrecipe: same\nensembles: none\n"
        "trainers: [{trainer: nnUNetTrainer, name: U-Net}]\n"
    )
    assert main(["compare", "report", str(path), "--jobs", "1"]) == 0
    assert f"U-Net run 1 and U-Net run 2 {told}" in shown(folders / "out")


def test_the_trainers_to_show_and_the_baseline_can_be_chosen(folders: Path) -> None:
    for number, trainer in enumerate(("nnUNetTrainer", "nnUNetTrainerUNETR", "nnUNetTrainerSwinUNETR")):
        add_model(folders, f"{trainer}__nnUNetPlans__3d_fullres", 4 + number)
    chosen = ("--trainers", "nnUNetTrainerSwinUNETR", "nnUNetTrainerUNETR", "--baseline", "nnUNetTrainerUNETR")
    scores = read_scores(report(folders, *chosen) / "metrics.csv")
    assert set(scores["model"]) == {"nnUNetTrainerUNETR", "nnUNetTrainerSwinUNETR"}


def test_a_second_report_computes_only_what_changed(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    output = report(folders)
    first = (output / "report.html").read_bytes()
    assert (report(folders) / "report.html").read_bytes() == first
    write(folders / "nnUNet_results" / DATASET / SWIN / "fold_0" / "validation" / f"{CASES[0]}.nii.gz", box(8))
    scores = read_scores(report(folders) / "metrics.csv")
    changed = scores[(scores["case"] == CASES[0]) & (scores["metric"] == "dice")].set_index("model")["value"]
    assert changed["nnUNetTrainerSwinUNETR"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "999"], "dataset 999"),
        ([], "--dataset ID"),
        (["--dataset", "201", "--trainers", "nnUNetTrainerNone"], "nnUNetTrainerNone"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_reported_is_said(
    folders: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    add_model(folders, UNET, 4, segmentations=False)
    assert main(["compare", "report", "--output", str(folders / "report"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (folders / "report").exists()


def test_a_case_in_two_folds_is_named_and_left_out_for_all_models(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    summary = folders / "nnUNet_results" / DATASET / SWIN / "fold_1" / "validation" / "summary.json"
    content = json.loads(summary.read_text())
    other = json.loads((summary.parents[2] / "fold_0" / "validation" / "summary.json").read_text())
    content["metric_per_case"].append(other["metric_per_case"][0])
    summary.write_text(json.dumps(content))
    output = report(folders)
    text = shown(output)
    assert f"{CASES[0]} was validated in folds 0 and 1" in text[text.index("## What is not shown") :]
    assert CASES[0] not in set(read_scores(output / "metrics.csv")["case"])


def test_scores_are_a_long_table(folders: Path) -> None:
    add_model(folders, UNET, 4)
    table = pd.read_csv(report(folders) / "metrics.csv")
    assert list(table.columns) == ["model", "set", "fold", "case", "subject", "site", "reference_ml", "metric", "value"]
    assert len(table) == len(CASES) * table["metric"].nunique()


def test_the_order_of_the_trainers_to_show_does_not_change_the_baseline(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    first = shown(report(folders))
    again = shown(report(folders, "--trainers", SWIN.split("__")[0], UNET.split("__")[0]))
    assert first[: first.index("## What was")] == again[: again.index("## What was")]
    text = shown(report(folders, "--trainers", UNET.split("__")[0], "--baseline", SWIN.split("__")[0]))
    assert "nnUNetTrainer segments worse than the baseline nnUNetTrainerSwinUNETR" in text.replace(
        "the other model", "nnUNetTrainer"
    )


def test_a_baseline_that_names_two_models_and_a_place_that_cannot_be_written_are_refused(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, UNET.replace("3d_fullres", "2d"), 6)
    assert main(["compare", "report", "--dataset", "201", "--baseline", UNET.split("__")[0]]) == 2
    assert "AMBIGUOUS_BASELINE" in capsys.readouterr().err
    (folders / "file").touch()
    assert main(["compare", "report", "--dataset", "201", "--output", str(folders / "file" / "report")]) == 2
    assert "CANNOT_WRITE" in capsys.readouterr().err


def test_options_beside_an_experiment_file_are_refused(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folders / "e.yaml"
    path.write_text("dataset: 201\ntrainers: [nnUNetTrainer]\n")
    assert main(["compare", "report", str(path), "--output", "here"]) == 2
    assert "--output does not go with an experiment file" in capsys.readouterr().err
    assert main(["compare", "report", str(path), "--dataset", "201"]) == 2
    assert "said twice" in capsys.readouterr().err


def test_ensembles_an_experiment_does_not_list_are_not_shown_and_one_it_lists_is_missed(folders: Path) -> None:
    third = SWIN.replace("SwinUNETR", "UNETR")
    for length, model in ((4, UNET), (6, SWIN), (5, third)):
        add_model(folders, model, length)
    ensemble = write_ensemble(folders / "nnUNet_results" / DATASET, (UNET, SWIN), dict.fromkeys(CASES, 0.8))
    for case in CASES:
        write(ensemble / f"{case}.nii.gz", box(5))
    path = folders / "e.yaml"
    trainers = "".join(
        f"  - {{trainer: {model.split('__')[0]}, name: {n}}}\n" for model, n in ((UNET, "A"), (SWIN, "B"), (third, "C"))
    )
    head = f"dataset: 201\noutput: {folders / 'out'}\ntrainers:\n{trainers}"
    path.write_text(f"{head}ensembles: [[C, A]]\n")
    assert main(["compare", "report", str(path), "--jobs", "1"]) == 0
    text = shown(folders / "out")
    assert "ensemble of A + B" not in text
    assert "ensemble of C + A is in the experiment and has no scores" in text
    path.write_text(f"{head}ensembles: [[B, A]]\n")
    assert main(["compare", "report", str(path), "--jobs", "1"]) == 0
    assert "ensemble of B + A" in shown(folders / "out")


def test_nothing_is_left_to_print_or_submit_of_a_finished_experiment(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnunet_transformers.comparison.running.steps.steps", lambda experiment, places: [finished])
    finished = Step(name="all", command=("true",), process=("true",), log=folders / "log", is_done=lambda: True)
    path = folders / "e.yaml"
    path.write_text(f"dataset: 201\noutput: {folders / 'out'}\ntrainers: [nnUNetTrainer]\n")
    finished.log.touch()
    (folders / "out").mkdir()
    (folders / "out" / "report.html").touch()
    assert main(["compare", "run", str(path), "--print", str(folders / "a place")]) == 0
    assert capsys.readouterr().out == "Nothing is left to do.\n"
    (folders / "out" / "report.html").unlink()
    assert main(["compare", "run", str(path), "--print", str(folders / "a place")]) == 0
    assert capsys.readouterr().out == f"bash '{folders / 'a place' / 'submit.sh'}'\n"


def test_of_several_labels_it_is_said_which_are_lesion(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length)
        description = {"labels": {"background": 0, "core": 1, "rim": 2, "ignore": 3}}
        (folders / "nnUNet_results" / DATASET / model / "dataset.json").write_text(json.dumps(description))
    reference = box(8) * 2
    reference[2:4][reference[2:4] > 0] = 1
    reference[9][reference[9] > 0] = 3
    for case in CASES:
        write(folders / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz", reference)
    assert main(["compare", "report", "--dataset", "201", "--output", str(folders / "report"), "--jobs", "1"]) == 2
    assert "LESION_LABELS" in capsys.readouterr().err
    output = report(folders, "--lesion-labels", 1, 2)
    scores = read_scores(output / "metrics.csv")
    means = scores[scores["metric"] == "dice"].groupby("model")["value"].mean()
    assert means.to_dict() == pytest.approx({"nnUNetTrainer": 8 / 11, "nnUNetTrainerSwinUNETR": 12 / 13}, abs=1e-9)
    assert "Voxels with the ignore label in the reference count nowhere." in shown(output)
