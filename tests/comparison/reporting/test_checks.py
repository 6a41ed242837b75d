"""What is wrong with results is said in the report, and never averaged over."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.report_example import (
    BASELINE,
    CASES,
    SWIN,
    case_names,
    dice_values,
    report_input,
    score_table,
    write_splits,
)
from helpers.results_folder import write_checkpoint

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.nnunet.results import Selection
from nnunet_transformers.comparison.reporting import ReportInput, checks, write_report
from nnunet_transformers.comparison.reporting.blocks import Bullets, Paragraph
from nnunet_transformers.comparison.reporting.evidence import gather
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.page import report_sections


@pytest.fixture
def values() -> dict[str, list[float]]:
    return {model: own for model, own in dice_values().items() if model in (BASELINE, SWIN)}


def not_shown(given: ReportInput) -> str:
    section = next(section for section in report_sections(given) if section.anchor == "not-shown")
    (bullets,) = section.blocks
    assert isinstance(bullets, Bullets)
    return "\n".join(bullets.items)


def test_a_missing_fold_is_named_with_the_command_that_adds_it(tmp_path: Path, values: dict[str, list[float]]) -> None:
    scores = score_table(values)
    scores = scores[~((scores["model"] == SWIN) & (scores["fold"] == 2))]
    text = not_shown(report_input(tmp_path, scores))
    assert f"{SWIN}: fold 2 has no validation, its cases are in no number of this model." in text
    command = f"nnUNetv2_train 201 3d_fullres 2 -tr {SWIN} -p nnUNetPlans --npz"
    assert text.splitlines()[0].endswith(command)


def test_a_case_in_two_folds_is_named_and_left_out_for_all_models(
    tmp_path: Path, values: dict[str, list[float]]
) -> None:
    scores = score_table(values)
    again = scores[(scores["model"] == SWIN) & (scores["case"] == "case03")].assign(fold=0)
    given = report_input(tmp_path, scores)
    numbers = compute(dataclasses.replace(given, scores=pd.concat([scores, again])))
    kept = [value for case, value in zip(case_names(), values[BASELINE], strict=True) if case != "case03"]
    summary = numbers.summaries.set_index("model").loc[BASELINE]
    assert summary["n"] == CASES - 1
    assert summary["mean"] == pytest.approx(np.mean(kept), abs=1e-12)
    assert f"case03 is in folds 0 and 3 of {SWIN} (cross-validation): it was scored twice" in numbers.notes[0]


def test_undefined_values_are_named_and_in_no_mean(tmp_path: Path, values: dict[str, list[float]]) -> None:
    values[SWIN][5] = np.nan
    given = report_input(tmp_path, score_table(values))
    summary = compute(given).summaries.set_index("model").loc[SWIN]
    assert (summary["n"], summary["undefined"]) == (CASES - 1, 1)
    assert summary["mean"] == pytest.approx(np.nanmean(values[SWIN]), abs=1e-12)
    assert f"{SWIN} (cross-validation): undefined and in no mean, test or figure: dice of case05." in not_shown(given)


def test_empty_and_unknown_lesions_are_named(tmp_path: Path, values: dict[str, list[float]]) -> None:
    volumes = [0.0, np.nan, *range(1, CASES - 1)]
    text = not_shown(report_input(tmp_path, score_table(values, volumes=volumes)))
    assert "1 case of cross-validation without a lesion in the reference (case00)" in text
    assert "1 case of cross-validation with a lesion of unknown volume (case01)" in text


def test_models_scored_on_different_cases_are_named(values: dict[str, list[float]]) -> None:
    scores = score_table(values)
    fewer = scores[~((scores["model"] == SWIN) & scores["case"].isin(["case01", "case02"]))]
    assert checks.different_cases(fewer) == {("cross-validation", SWIN): ["case01", "case02"]}
    assert checks.different_cases(scores) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folds: folds[0]["val"].remove("case00"), "case00 in no fold of it"),
        (lambda folds: folds[1]["val"].append("case99"), "case99 expected but not validated"),
        (lambda folds: folds[1]["val"].append(folds[0]["val"].pop(0)), "case00 (validated in fold 0"),
        (lambda folds: folds[1]["val"].append("case00"), "validation of more than one fold: case00 (folds 0, 1)"),
        (lambda folds: folds[0]["train"].append("case00"), "fold 0: case00 in training and in validation"),
    ],
    ids=["removed", "added", "moved", "doubled", "trained on"],
)
def test_tampered_splits_are_reported(
    tmp_path: Path, values: dict[str, list[float]], change: object, said: str
) -> None:
    given = report_input(tmp_path, score_table(values))
    assert checks.splits(gather(given)) == []
    path = given.data.splits
    assert path is not None
    folds = json.loads(path.read_text())
    change(folds)  # type: ignore[operator]
    path.write_text(json.dumps(folds))
    assert said in "\n".join(checks.splits(gather(given)))


def test_a_subject_in_training_and_validation_is_reported(tmp_path: Path, values: dict[str, list[float]]) -> None:
    scores = score_table(values)
    scores.loc[scores["case"].isin(["case00", "case01"]), "subject"] = "sub-1"
    text = "\n".join(checks.splits(gather(report_input(tmp_path, scores))))
    assert "fold 0: other sessions of sub-1 were trained on" in text
    assert "fold 1: other sessions of sub-1 were trained on" in text
    assert "fold 2" not in text


def test_fewer_splits_than_folds_are_reported_not_a_crash(tmp_path: Path, values: dict[str, list[float]]) -> None:
    given = report_input(tmp_path, score_table(values))
    assert given.data.preprocessed is not None
    write_splits(given.data.preprocessed, [case_names()[:20], case_names()[20:]])
    assert f"{SWIN} was not trained with the present splits_final.json" in "\n".join(checks.splits(gather(given)))


def test_folds_that_differ_between_models_are_reported(values: dict[str, list[float]]) -> None:
    scores = score_table(values)
    scores.loc[(scores["model"] == SWIN) & (scores["case"] == "case04"), "fold"] = 1
    assert checks.disagreeing_rows(scores)[0].startswith("The fold of case04 differs between models")
    assert checks.disagreeing_rows(score_table(values)) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"baseline": "nnUNetTrainerNone"}, "NO_BASELINE"), ({"metric": "assd_mm"}, "NO_METRIC")],
)
def test_what_cannot_be_reported_is_refused_and_nothing_written(
    tmp_path: Path, values: dict[str, list[float]], changes: dict[str, object], code: str
) -> None:
    given = report_input(tmp_path, score_table(values), **changes)
    with pytest.raises(ComparisonError, match=code):
        write_report(given, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_two_reference_volumes_of_a_case_are_refused_and_nothing_written(
    tmp_path: Path, values: dict[str, list[float]]
) -> None:
    scores = score_table(values)
    scores.loc[(scores["model"] == SWIN) & (scores["case"] == "case04"), "reference_ml"] = 99.0
    with pytest.raises(ComparisonError, match="case04"):
        write_report(report_input(tmp_path, scores), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_short_and_unequal_trainings_are_remarked_on() -> None:
    assert "trained only briefly (2 epochs of 30 iterations" in checks.short_trainings({"unet": (2, 30)})[0]
    assert checks.short_trainings({}) == []
    assert checks.unequal_lengths({"unet": 1000, "swin": 500}) == [
        "Trainings differ in length: epochs of unet 1000, swin 500."
    ]
    assert checks.unequal_lengths({"unet": 1000, "swin": 1000}) == []


def test_a_model_nnunet_did_not_select_among_is_named(tmp_path: Path, values: dict[str, list[float]]) -> None:
    given = report_input(tmp_path, score_table(values))
    unet, swin = (f"{model}__nnUNetPlans__3d_fullres" for model in (BASELINE, SWIN))

    def compared(*considered: str) -> str:
        selection = Selection((unet,), (0, 1, 2, 3, 4), 0.5, 0.5, tmp_path / "postprocessing.pkl", (), considered)
        results = dataclasses.replace(given.results, selection=selection)
        sections = report_sections(dataclasses.replace(given, results=results))
        blocks = next(section.blocks for section in sections if section.anchor == "compared")
        return "\n".join(block.text for block in blocks if isinstance(block, Paragraph))

    assert f"postprocessing: none, it did not help. It was made without {SWIN}." in compared(unet)
    assert "made without" not in compared(unet, swin)
    assert "made without" not in compared()


@pytest.mark.parametrize(("checkpoint", "option"), [("best", "--c"), ("latest", "--c"), ("final", "--val")])
def test_the_command_for_a_missing_fold_keeps_what_is_trained(
    tmp_path: Path, values: dict[str, list[float]], checkpoint: str, option: str
) -> None:
    scores = score_table(values)
    given = report_input(tmp_path, scores[~((scores["model"] == SWIN) & (scores["fold"] == 2))])
    fold = given.results.folder / f"{SWIN}__nnUNetPlans__3d_fullres" / "fold_2"
    fold.mkdir()
    write_checkpoint(fold / f"checkpoint_{checkpoint}.pth")
    assert f"--npz {option}" in checks.missing_folds(gather(given))[0]


def test_segmentations_that_do_not_give_the_recorded_dice_are_named(
    tmp_path: Path, values: dict[str, list[float]]
) -> None:
    given = report_input(tmp_path, score_table(values))
    assert checks.recorded_dice(given) == []
    changed = given.scores.copy()
    changed.loc[(changed["model"] == SWIN) & (changed["case"] == "case07"), "value"] -= 0.01
    (note,) = checks.recorded_dice(dataclasses.replace(given, scores=changed))
    assert note.startswith(
        f"{SWIN}: the segmentations of case07 do not give the Dice that is in nnU-Net's summary.json."
    )


def test_plans_of_one_name_and_different_content_are_named(tmp_path: Path, values: dict[str, list[float]]) -> None:
    given = report_input(tmp_path, score_table(values))
    assert checks.differing_plans(gather(given)) == []
    path = given.results.folder / f"{SWIN}__nnUNetPlans__3d_fullres" / "plans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = [3.0, 3.0, 3.0]
    path.write_text(json.dumps(plans))
    (note,) = checks.differing_plans(gather(given))
    assert f"{SWIN} and {BASELINE} have plans of one name, nnUNetPlans, but not the same: spacing of 3d_fullres" in note
    path.unlink()
    assert checks.differing_plans(gather(given)) == []


@pytest.mark.parametrize(("subjects", "said"), [(9, 1), (10, 0)])
def test_intervals_over_few_subjects_are_not_to_be_relied_on(subjects: int, said: int) -> None:
    scores = score_table({BASELINE: [0.5] * 20, SWIN: [0.6] * 20})
    scores["subject"] = [f"sub-{int(case[4:]) % subjects}" for case in scores["case"]]
    assert len(checks.few_subjects(scores)) == said


@pytest.mark.parametrize("content", ['{"a": 1}', '[{"train": []}]', "[1]"])
def test_splits_of_another_form_are_refused(tmp_path: Path, values: dict[str, list[float]], content: str) -> None:
    given = report_input(tmp_path, score_table(values))
    assert given.data.splits is not None
    given.data.splits.write_text(content)
    with pytest.raises(ComparisonError, match="BAD_SPLITS"):
        checks.splits(gather(given))


def test_volumes_in_words_are_those_of_lesions(tmp_path: Path) -> None:
    volumes = [0.0, 0.0, *np.linspace(0.5, 20, 38)]
    scores = score_table({BASELINE: [0.5] * CASES, SWIN: [0.6] * CASES}, volumes=volumes)
    blocks = next(s.blocks for s in report_sections(report_input(tmp_path, scores)) if s.anchor == "compared")
    assert any(isinstance(block, Paragraph) and "; lesions of 0.50 to 20.0 ml" in block.text for block in blocks)
