"""From files to the table of scores."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_transformers.common.problems import UserError
from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics import evaluation
from nnunet_transformers.comparison.metrics.case import case_metrics
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.evaluation import Pair, evaluate, update
from nnunet_transformers.comparison.metrics.labels import Labels
from nnunet_transformers.comparison.metrics.lesions_table import read_lesions
from nnunet_transformers.comparison.metrics.probabilities import probabilities_beside
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS, read_scores

SHAPE = (10, 12, 14)
OF_MASKS = [name for name, metric in METRICS.items() if not metric.needs_probability]


def mask(*corner: int, size: int = 3) -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[tuple(slice(start, start + size) for start in corner)] = 1
    return voxels


def write_anisotropic(path: Path, voxels: np.ndarray, origin: Sequence[float] = (0, 0, 0)) -> Path:
    """Spacing 0.5 × 1 × 3 mm along x, y, z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.5, 1.0, 3.0))
    image.SetOrigin(list(map(float, origin)))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """Two models, two cases in folds and one of a test set."""
    cases = {"a": (mask(2, 3, 4), 0), "b": (mask(5, 5, 5), 1), "t": (np.zeros(SHAPE, np.uint8), None)}
    return [
        Pair(
            model,
            "cross-validation" if fold is not None else "clinic",
            fold,
            case,
            f"sub-{case}",
            "",
            write_anisotropic(tmp_path / "labelsTr" / f"{case}.nii.gz", reference),
            write_anisotropic(tmp_path / model / f"{case}.nii.gz", np.roll(reference, shift, axis=0)),
        )
        for shift, model in enumerate(("unet", "swin"))
        for case, (reference, fold) in cases.items()
    ]


def value(scores: pd.DataFrame, model: str, case: str, metric: str) -> float:
    (found,) = scores.query("model == @model and case == @case and metric == @metric")["value"]
    return float(found)


def test_the_table_has_a_row_for_each_case_and_metric_in_the_order_given(pairs: list[Pair]) -> None:
    scores = evaluate(pairs)
    assert list(scores.columns) == list(COLUMNS)
    assert scores["fold"].dtype == "Int64"
    assert scores["metric"].tolist() == OF_MASKS * len(pairs)
    assert scores["case"].tolist() == [pair.case for pair in pairs for _ in OF_MASKS]
    assert scores.loc[scores["set"] == "clinic", "fold"].isna().all()
    assert value(scores, "unet", "a", "dice") == 1
    assert np.isnan(value(scores, "unet", "t", "lesion_recall_atlas"))
    volumes = [(case != "t") * 0.0405 for case in "abtabt" for _ in OF_MASKS]
    assert scores["reference_ml"].tolist() == pytest.approx(volumes)


def test_spacing_of_the_file_goes_with_its_axes(pairs: list[Pair]) -> None:
    scores = evaluate(pairs)
    reference, prediction = mask(2, 3, 4).astype(bool), mask(3, 3, 4).astype(bool)
    expected = case_metrics(reference, prediction, (3.0, 1.0, 0.5))
    assert {name: value(scores, "swin", "a", name) for name in OF_MASKS} == pytest.approx(
        {name: expected[name] for name in OF_MASKS}
    )
    assert value(scores, "swin", "a", "hd95_mm") == 3


def test_several_processes_give_the_same_table(pairs: list[Pair]) -> None:
    pd.testing.assert_frame_equal(evaluate(pairs, 2), evaluate(pairs, 1), check_exact=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_cases_that_cannot_be_scored_are_named(pairs: list[Pair], jobs: int) -> None:
    pairs[0].prediction.unlink()
    pairs[4].prediction.write_bytes(b"cut off")
    with pytest.raises(ComparisonError) as error:
        evaluate(pairs, jobs)
    text = str(error.value)
    assert "2 of 6 cases cannot be scored" in text
    assert f"missing: {pairs[0].prediction}" in text
    assert f"cannot be read: {pairs[4].prediction}" in text
    assert "Nothing was written." in text


@pytest.mark.parametrize(
    ("voxels", "origin", "reason"),
    [
        (mask(2, 3, 4)[1:], (0, 0, 0), "14 × 12 × 10 and 14 × 12 × 9 voxels"),
        (mask(2, 3, 4), (0, 0.1, 0), "0.1 mm"),
    ],
)
def test_other_grids_are_an_error_that_names_both_files(
    pairs: list[Pair], voxels: np.ndarray, origin: Sequence[float], reason: str
) -> None:
    write_anisotropic(pairs[0].prediction, voxels, origin)
    with pytest.raises(ComparisonError) as error:
        evaluate(pairs[:1])
    assert error.value.code == "GRID_MISMATCH"
    assert all(part in str(error.value) for part in (reason, str(pairs[0].reference), str(pairs[0].prediction)))


def test_a_turned_image_of_the_same_size_is_another_grid(pairs: list[Pair]) -> None:
    image = sitk.ReadImage(str(pairs[0].prediction))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(pairs[0].prediction))
    with pytest.raises(ComparisonError, match="not on the same grid"):
        evaluate(pairs[:1])


def test_headers_that_differ_by_rounding_are_one_grid(pairs: list[Pair]) -> None:
    write_anisotropic(pairs[0].prediction, mask(2, 3, 4), (1e-3, 0, 0))
    assert value(evaluate(pairs[:1]), "unet", "a", "dice") == 1


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.float32, np.float64])
def test_the_one_label_beside_background_is_lesion_whatever_its_number_and_type(
    pairs: list[Pair], stored: type
) -> None:
    for path, voxels in ((pairs[0].reference, mask(2, 3, 4)), (pairs[0].prediction, mask(2, 3, 4))):
        write_anisotropic(path, (voxels * 7).astype(stored))
    assert value(evaluate(pairs[:1]), "unet", "a", "dice") == 1


def test_with_several_labels_it_must_be_said_which_are_lesion(pairs: list[Pair]) -> None:
    core, rim = mask(2, 3, 4), mask(5, 5, 5)
    write_anisotropic(pairs[0].reference, core + 2 * rim)
    write_anisotropic(pairs[0].prediction, 2 * core)
    with pytest.raises(ComparisonError, match="several labels, 1, 2") as error:
        evaluate(pairs[:1])
    assert error.value.code == "SEVERAL_LABELS"
    assert value(evaluate(pairs[:1], labels=Labels((1, 2))), "unet", "a", "dice") == pytest.approx(2 / 3)
    assert value(evaluate(pairs[:1], labels=Labels((1,))), "unet", "a", "dice") == 0


def test_voxels_the_reference_says_to_ignore_count_nowhere(pairs: list[Pair]) -> None:
    lesion, unclear = mask(2, 3, 4), mask(5, 3, 4)
    write_anisotropic(pairs[0].reference, lesion + 2 * unclear)
    write_anisotropic(pairs[0].prediction, lesion + unclear)
    scores = evaluate(pairs[:1], labels=Labels(ignore=2))
    told = {metric: value(scores, "unet", "a", metric) for metric in ("dice", "hd95_mm", "volume_difference_ml")}
    assert told == {"dice": 1, "hd95_mm": 0, "volume_difference_ml": 0}


def test_where_the_table_cannot_be_written_nothing_is_scored(
    pairs: list[Pair], tmp_path: Path, computed: list[str]
) -> None:
    (tmp_path / "file").write_text("someone's")
    with pytest.raises(UserError, match="cannot be written") as error:
        update(tmp_path / "file" / "scores.csv", pairs)
    assert error.value.code == "CANNOT_WRITE"
    assert computed == []


@pytest.mark.parametrize("number", [0.5, np.nan, np.inf])
def test_probabilities_are_not_a_segmentation(pairs: list[Pair], number: float, tmp_path: Path) -> None:
    voxels = mask(2, 3, 4).astype(np.float32)
    voxels[0, 0, 0] = number
    path = write_anisotropic(tmp_path / "a.mha", voxels)  # ITK reads NaN from NIfTI as 0
    with pytest.raises(ComparisonError, match="which is not a label") as error:
        evaluate([dataclasses.replace(pairs[0], prediction=path)])
    assert error.value.code == "NOT_A_SEGMENTATION"


def test_a_case_that_a_model_has_twice_is_refused(pairs: list[Pair]) -> None:
    with pytest.raises(ComparisonError, match="unet has a twice in cross-validation") as error:
        evaluate([*pairs, dataclasses.replace(pairs[0], fold=4)])
    assert error.value.code == "CASE_TWICE"


def test_no_pairs_give_an_empty_table() -> None:
    assert list(evaluate([]).columns) == list(COLUMNS)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Model and case of what is computed from now on, in this process."""
    done: list[str] = []
    measure = evaluation._measure

    def recording(pair: Pair, labels: Labels) -> object:
        done.append(f"{pair.model} {pair.case}")
        return measure(pair, labels)

    monkeypatch.setattr(evaluation, "_measure", recording)
    return done


def test_an_update_writes_the_table_that_an_evaluation_returns(pairs: list[Pair], tmp_path: Path) -> None:
    scores = update(tmp_path / "scores.csv", pairs)
    pd.testing.assert_frame_equal(scores, evaluate(pairs), check_exact=True)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "scores.csv"), scores, check_exact=True)


def test_a_second_update_computes_only_what_is_new_or_changed(
    pairs: list[Pair], tmp_path: Path, computed: list[str]
) -> None:
    table = tmp_path / "scores.csv"
    update(table, pairs[:5])
    computed.clear()
    first = update(table, pairs[:5])
    assert computed == []

    write_anisotropic(pairs[0].prediction, mask(2, 3, 5))
    os.utime(pairs[4].reference, (1, 1))  # both models' case b has it
    second = update(table, pairs)
    assert computed == ["unet a", "unet b", "swin b", "swin t"]
    assert value(first, "unet", "a", "dice") == 1
    assert value(second, "unet", "a", "dice") == pytest.approx(2 / 3)
    pd.testing.assert_frame_equal(read_scores(table), evaluate(pairs), check_exact=True)


def test_other_lesion_labels_are_computed_anew(pairs: list[Pair], tmp_path: Path, computed: list[str]) -> None:
    update(tmp_path / "scores.csv", pairs[:1])
    update(tmp_path / "scores.csv", pairs[:1], labels=Labels((2,)))
    assert computed == ["unet a", "unet a"]


def test_the_table_has_the_given_pairs_with_their_present_fold_and_site(
    pairs: list[Pair], tmp_path: Path, computed: list[str]
) -> None:
    update(tmp_path / "scores.csv", pairs)
    computed.clear()
    moved = dataclasses.replace(pairs[1], fold=3, site="R002")
    update(tmp_path / "scores.csv", [moved])
    scores = read_scores(tmp_path / "scores.csv")
    assert computed == []
    assert (set(scores["case"]), set(scores["fold"]), set(scores["site"])) == ({"b"}, {3}, {"R002"})


def test_after_an_interruption_or_an_error_scored_cases_are_not_computed_again(
    pairs: list[Pair], tmp_path: Path, computed: list[str]
) -> None:
    table, notes = tmp_path / "scores.csv", tmp_path / "scores.cases.jsonl"
    kept = pairs[3].prediction.read_bytes()
    pairs[3].prediction.unlink()
    with pytest.raises(ComparisonError, match="The other cases are scored and noted"):
        update(table, pairs)
    assert not table.exists()

    notes.write_text(notes.read_text()[:-20])  # as if the last line had been cut off
    pairs[3].prediction.write_bytes(kept)
    computed.clear()
    update(table, pairs)
    assert computed == ["swin a", "swin t"]
    assert len(notes.read_text().splitlines()) == len(pairs)
    computed.clear()
    update(table, pairs)
    assert computed == []
    assert sorted(path.name for path in tmp_path.glob("*scores*")) == ["scores.cases.jsonl", "scores.csv"]


def with_probabilities(pair: Pair, *channels: np.ndarray) -> Pair:
    """The pair with the file that nnU-Net writes beside a prediction."""
    path = pair.prediction.with_name(f"{pair.case}.npz")
    np.savez_compressed(path, probabilities=np.stack(channels).astype(np.float32))
    return dataclasses.replace(pair, probabilities=probabilities_beside(pair.prediction))


def test_probabilities_beside_a_prediction_are_scored_and_scored_anew_when_they_change(
    pairs: list[Pair], tmp_path: Path
) -> None:
    pair, *_ = pairs
    lesion = np.where(mask(2, 3, 4), 0.9, 0.2)
    lesion[0, 0, 0] = 0.95
    pairs[0] = pair = with_probabilities(pair, 1 - lesion, lesion)
    scores = update(tmp_path / "scores.csv", pairs)
    # 27 voxels of lesion below one voxel that is none: from (0, 0) straight to (1, 27/28), and on to (0, 1) before it.
    assert value(scores, "unet", "a", "pr_auc") == pytest.approx(27 / 28 / 2)
    assert np.isnan(value(scores, "swin", "a", "pr_auc"))
    lesion[0, 0, 0] = 0.1
    with_probabilities(pair, 1 - lesion, lesion)
    assert value(update(tmp_path / "scores.csv", pairs), "unet", "a", "pr_auc") == 1
    pairs[0] = dataclasses.replace(pair, probabilities=())
    assert "pr_auc" not in set(update(tmp_path / "scores.csv", pairs)["metric"])


def test_an_ensemble_has_the_mean_of_its_members_probabilities(pairs: list[Pair]) -> None:
    lesion = np.where(mask(2, 3, 4), 0.9, 0.2)
    other = np.where(mask(2, 3, 4), 0.1, 0.2)  # the mean finds what this one does not
    files = [
        path
        for pair, probability in zip((pairs[0], pairs[3]), (lesion, other), strict=True)
        for path in with_probabilities(pair, 1 - probability, probability).probabilities
    ]
    assert value(evaluate([dataclasses.replace(pairs[0], probabilities=(files[1],))]), "unet", "a", "pr_auc") < 0.1
    assert value(evaluate([dataclasses.replace(pairs[0], probabilities=tuple(files))]), "unet", "a", "pr_auc") == 1


def test_the_probability_of_several_labels_is_their_sum_and_ignored_voxels_do_not_count(pairs: list[Pair]) -> None:
    pair, *_ = pairs
    core, rim = np.where(mask(2, 3, 4), 0.4, 0.0), np.where(mask(2, 3, 4), 0.4, 0.0)
    rim[0, 0, :2] = 0.7
    pair = with_probabilities(pair, 1 - core - rim, core, rim)
    assert value(evaluate([pair], labels=Labels((1, 2), channels=(1, 2))), "unet", "a", "pr_auc") == 1
    of_rim = evaluate([pair], labels=Labels((1,), channels=(2,)))
    assert value(of_rim, "unet", "a", "pr_auc") == pytest.approx(27 / 29 / 2)
    reference = mask(2, 3, 4)
    reference[0, 0, :2] = 3
    write_anisotropic(pair.reference, reference)
    assert value(evaluate([pair], labels=Labels((1,), 3, (2,))), "unet", "a", "pr_auc") == 1
    assert "pr_auc" not in set(evaluate([pair], labels=Labels((1,), 3, ()))["metric"])


@pytest.mark.parametrize("damage", ["cut", "shape", "channels", "key"])
def test_probabilities_that_cannot_be_used_are_an_error_that_names_them(pairs: list[Pair], damage: str) -> None:
    pair, *_ = pairs
    lesion = np.zeros(SHAPE if damage != "shape" else (3, 3, 3))
    pair = with_probabilities(pair, *([lesion] * (1 if damage == "channels" else 2)))
    (path,) = pair.probabilities
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    if damage == "key":
        np.savez(path, softmax=lesion)
    with pytest.raises(ComparisonError, match=str(path)) as caught:
        evaluate([pair])
    assert caught.value.code == "UNREADABLE_PROBABILITIES"


def test_the_lesions_of_the_references_are_written_beside_the_scores(pairs: list[Pair], tmp_path: Path) -> None:
    two = mask(2, 3, 4)
    two[8:, 8:, 8:] = 1
    write_anisotropic(pairs[0].reference, two)
    for _ in range(2):  # measured, and noted
        update(tmp_path / "scores.csv", pairs)
        lesions = read_lesions(tmp_path / "scores.csv")
        own = lesions[(lesions["model"] == "unet") & (lesions["case"] == "a")]
        assert own["lesion_ml"].tolist() == pytest.approx([27 * 0.0015, 2 * 4 * 6 * 0.0015])
        assert own["found"].tolist() == [True, False]
        assert set(lesions["case"]) == {"a", "b"}  # the reference of t holds none
    assert read_lesions(tmp_path / "elsewhere" / "scores.csv").empty
