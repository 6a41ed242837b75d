"""The report as a reader, a browser and a printer get it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from results_folder import (
    DATASET,
    FOLDS,
    NAN,
    SWIN,
    UNET,
    write_ensemble,
    write_images,
    write_model,
    write_summary,
    write_volume,
)

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.report import TestSet, write_report


class Page(HTMLParser):
    """What a page loads, its pictures, and the rows of its tables as lists of text by class of the table."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.pictures: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self._cell = False
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.loaded += [values[name] for name in ("src", "href", "srcset", "data", "action") if name in values]
        if tag == "img":
            self.pictures.append(values["alt"])
        if tag == "table":
            self._table = values.get("class", "")
        if tag == "tr":
            self.rows.setdefault(self._table, []).append([])
        self._cell = tag in ("td", "th") or (self._cell and tag not in ("tr", "table"))
        if tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[self._table][-1][-1] += data


def report(results: Path, **options: object) -> Page:
    return Page(write_report(results, results.parent / "report" / "report.html", **options))  # type: ignore[arg-type]


def test_the_page_loads_nothing_from_outside(results: Path, tmp_path: Path) -> None:
    raw = tmp_path / "nnUNet_raw" / DATASET
    for case in "abcdef":
        write_images(raw, case)
    page = report(results, raw=raw)
    assert len(page.pictures) == 2 + 3
    assert all(url.startswith("data:image/") for url in page.loaded)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(", page.source)


def test_the_score_table_has_the_known_answers(results: Path) -> None:
    _, unet, swin, ensemble = report(results).rows["scores"]
    assert unet[:6] == ["nnUNetTrainer", "0.450", "0.450", "0.175 – 0.725", "6", "1"]
    assert swin[0] == "nnUNetTrainerSwinUNETR ★ highest mean"
    assert swin[1] == ensemble[1] == "0.550"


def test_the_first_sentence_is_the_answer(results: Path) -> None:
    text = " ".join(report(results).text.split())
    assert (
        "Highest mean Dice: nnUNetTrainerSwinUNETR, 0.550 over 6 cases (the baseline nnUNetTrainer: 0.450). "
        "No statistical test was made" in text
    )


def test_every_case_is_in_the_report(results: Path) -> None:
    rows = {row[0]: row[2:] for row in report(results).rows["cases"][1:]}
    assert rows["d"] == ["0.400", "0.800", "0.600"]
    assert sorted(rows) == list("abcdef")


def test_missing_folds_undefined_cases_and_missing_images_are_named(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.5, "b": NAN}, 1: {"c": 0.5}})
    write_model(empty, SWIN, {0: {"a": 0.5, "b": 0.0}, 1: {"c": 0.5}, 2: {"d": 0.5}})
    page = report(empty)
    unet, swin = page.rows["scores"][1:]
    assert "fold 2, 3, 4 missing" in unet[6]
    assert "Not in the mean: b" in unet[6]
    assert "not scored on 1 case that others were scored on (d)" in unet[6]
    assert "fold 3, 4 missing" in swin[6]
    assert "The means are over different cases" in page.text
    assert "nnUNetv2_train 201 3d_fullres 2 -tr nnUNetTrainer_5epochs -p nnUNetPlans --npz" in page.text
    assert "Picture of a: its image was not found" in page.text
    assert "Ensembles: nnUNetv2_find_best_configuration has not been run." in page.text


def test_one_trainer_is_a_report_too(empty: Path) -> None:
    write_model(empty, UNET, FOLDS)
    page = report(empty)
    assert "There is no second trainer to compare with." in page.text
    assert "★" not in page.text


def test_no_overlap_at_all_is_said_plainly(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.0}})
    write_model(empty, SWIN, {0: {"a": 0.0}})
    page = report(empty)
    assert "No model finds any part of a lesion" in page.text
    assert "★" not in page.text


def test_only_undefined_scores_are_no_crash(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": NAN}})
    assert report(empty).rows["scores"][1][1] == "undefined"


def test_special_characters_are_text(empty: Path) -> None:
    write_model(empty, UNET, {0: {"<script>alert(1) & 'co'": 0.5}})
    page = report(empty, remarks=["a < b & c"], commands_run=["echo '<b>'"])
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.rows["cases"][1][0] == "<script>alert(1) & 'co'"
    assert "a < b & c" in page.text


def test_volumes_are_in_ml_of_the_references_voxels(results: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_images(raw, "a")
    rows = {row[0]: row[1] for row in report(results, raw=raw).rows["cases"][1:]}
    assert rows["a"] == "0.06"  # 8 voxels of 8 mm³
    assert rows["b"] == "unknown"


def test_images_are_found_through_the_environment(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in "abcdef":
        write_images(tmp_path / "nnUNet_raw" / DATASET, case)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nnUNet_raw"))
    pictures = report(results).pictures
    assert [text.split(":")[0] for text in pictures[2:]] == [
        "Best case of nnUNetTrainer",
        "Median case of nnUNetTrainer",
        "Worst case of nnUNetTrainer",
    ]
    assert [text.split(": ")[1].split(".")[0] for text in pictures[2:]] == ["a", "d", "e"]


def test_images_listed_in_dataset_json_are_found(empty: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_images(tmp_path / "elsewhere", "a")
    raw.mkdir()
    listed = {"a": {"images": ["../elsewhere/imagesTr/a_0000.nii.gz"]}}
    (raw / "dataset.json").write_text(json.dumps({"dataset": listed}))
    model = write_model(empty, UNET, {0: {"a": 0.5}})
    write_volume(model / "fold_0" / "validation" / "a.nii.gz", np.ones((10, 12, 14), np.uint8))
    assert len(report(empty, raw=raw).pictures) == 2 + 1


def test_segmentations_on_another_grid_are_not_drawn_but_named(empty: Path, tmp_path: Path) -> None:
    write_images(tmp_path, "a")
    model = write_model(empty, UNET, {0: {"a": 0.5}})
    write_volume(model / "fold_0" / "validation" / "a.nii.gz", np.ones((3, 3, 3), np.uint8))
    page = report(empty, raw=tmp_path)
    assert "Picture of a: image and segmentations are not on one grid." in page.text


@pytest.mark.parametrize("scored", [True, False])
def test_held_out_cases_are_shown_with_and_without_scores(results: Path, tmp_path: Path, scored: bool) -> None:
    raw, predictions = tmp_path / "raw", tmp_path / "predictions"
    write_images(raw, "t1", "Ts")
    prediction = np.zeros((10, 12, 14), np.uint8)
    prediction[4:6, 5:7, 6] = 1
    write_volume(predictions / "t1.nii.gz", prediction)
    (predictions / "t1.npz").write_bytes(b"probabilities")
    if scored:
        write_summary(predictions / "summary.json", {"t1": 0.667})
    page = report(results, raw=raw, test=TestSet(predictions, (UNET, SWIN), postprocessed=True))
    expected = ["t1", "0.667", "0.06", "0.03"] if scored else ["t1", "no reference", "no reference", "0.03"]
    assert page.rows["test"][1:] == [expected]
    assert page.pictures[-1] == "Test case t1"
    assert "Predicted by: ensemble of nnUNetTrainer + nnUNetTrainerSwinUNETR, postprocessed." in page.text


def test_what_was_trained_is_read_from_plans_and_debug_files(results: Path) -> None:
    debug = {"network": "PlainConvUNet", "num_epochs": "5", "num_iterations_per_epoch": "10", "batch_size": "2"}
    (results / UNET / "fold_0" / "debug.json").write_text(json.dumps(debug))
    page = report(results)
    assert "5 epochs × 10 iterations, batch 2" in page.text
    assert "32 × 32 × 32" in page.text  # inherited
    assert "1.0 × 1.0 × 1.0" in page.text
    assert "They do not show which architecture is better." in page.text


def test_provenance_has_the_hash_of_the_splits(results: Path, tmp_path: Path) -> None:
    splits = [{"train": [], "val": list(cases)} for cases in FOLDS.values()]
    tmp_path.joinpath("splits_final.json").write_text(json.dumps(splits))
    rows = dict(report(results, preprocessed=tmp_path).rows["provenance"])
    assert rows["splits_final.json"].startswith("5 folds of 6 cases, SHA-256 ")
    assert re.search(r"nnunetv2 2\.", rows["versions there"])


def test_labels_have_a_section_each(empty: Path) -> None:
    model = write_model(empty, UNET, {0: {"a": 0.5}})
    summary = model / "fold_0" / "validation" / "summary.json"
    content = json.loads(summary.read_text())
    metrics = content["metric_per_case"][0]["metrics"]
    metrics["2"] = {**metrics["1"], "Dice": 0.25}
    summary.write_text(json.dumps(content))
    (model / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "core": 1, "edge": 2}}))
    page = report(empty)
    assert [row[1] for row in page.rows["scores"] if row[0] == "nnUNetTrainer_5epochs"] == ["0.500", "0.250"]
    assert "Scores: core" in page.text
    assert "Scores: edge" in page.text


def test_an_ensemble_of_models_that_are_gone_keeps_its_full_name(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.5}})
    write_ensemble(empty, (UNET, SWIN), {"a": 0.6})
    assert f"ensemble of nnUNetTrainer_5epochs + {SWIN}" in report(empty).text


def test_nothing_is_written_when_there_is_nothing_to_report(empty: Path) -> None:
    with pytest.raises(ComparisonError, match="NO_RESULTS"):
        write_report(empty, empty.parent / "report.html")
    assert not (empty.parent / "report.html").exists()
