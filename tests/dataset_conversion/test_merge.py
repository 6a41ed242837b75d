from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.atlas_tree import RAS, SHAPE, AtlasTree, lesion, save, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.merge import merge
from dataset_conversion.options import Checks, ConvertOptions, Target
from dataset_conversion.tables import case_table


@pytest.fixture
def releases(tmp_path: Path, raw: Path) -> tuple[Conversion, Conversion]:
    """An early release, and a later one that has two of its subjects again, one under another name."""
    early = AtlasTree(tmp_path / "early").add("r001s001", "r001s002", "r002s001")
    late = AtlasTree(tmp_path / "late").add("r001s002", "r003s001", "r003s002", "r004s001")
    save(late.image_path("r001s002"), voxels("resampled"), RAS)
    first = convert(early.root, dataset_id=201, name="Early", jobs=1)
    second = convert(late.root, dataset_id=202, name="Late", jobs=1)
    return first, second


def refused(*arguments: Any, **options: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        merge(*arguments, Target(210), **options)
    return caught.value


def test_people_in_both_are_an_error_that_names_them(releases: tuple[Conversion, Conversion], raw: Path) -> None:
    error = refused(201, 202)
    assert [finding.code for finding in error.findings] == ["OVERLAP"]
    assert "sub-r001s002" in str(error)
    assert "--overlap first" in str(error)
    assert not list(raw.glob("Dataset210*"))


def test_the_first_datasets_cases_are_kept_when_asked(releases: tuple[Conversion, Conversion], raw: Path) -> None:
    result = merge(201, 202, Target(210), overlap="first")
    assert result.folder.name == "Dataset210_Early_Late"
    assert sorted(case.case for case in result.cases) == [
        *("sub-r001s001_ses-1", "sub-r001s002_ses-1", "sub-r002s001_ses-1"),
        *("sub-r003s001_ses-1", "sub-r003s002_ses-1", "sub-r004s001_ses-1"),
    ]
    assert [(one.case.case, one.code) for one in result.excluded] == [("sub-r001s002_ses-1", "OVERLAP")]
    kept = result.folder / "imagesTr/sub-r001s002_ses-1_0000.nii.gz"
    assert kept.samefile(releases[0].folder / "imagesTr/sub-r001s002_ses-1_0000.nii.gz")
    table = case_table.read(result.folder / "cases.tsv")
    assert {case.metadata["merged_from"] for case in table} == {"Dataset201_Early", "Dataset202_Late"}


def test_grouped_people_are_never_on_both_sides_of_a_fold(releases: tuple[Conversion, Conversion], raw: Path) -> None:
    result = merge("Dataset201_Early", releases[1].folder, Target(210), overlap="group")
    assert result.n_training == 7
    names = {"sub-r001s002_ses-1", "sub-r001s002_ses-1_2"}
    for split in json.loads((result.folder / "splits_final.json").read_text()):
        assert not (names & set(split["train"]) and names & set(split["val"]))


def test_a_scan_under_another_name_is_found_by_its_voxels(tmp_path: Path, raw: Path) -> None:
    early = AtlasTree(tmp_path / "early").add("r001s001", "r001s002")
    late = AtlasTree(tmp_path / "late").add("r003s001", "r003s002")
    left = RAS.copy()
    left[0, 0], left[0, 3] = -1, RAS[0, 3] + SHAPE[0] - 1
    save(late.image_path("r003s002"), voxels("r001s0021")[::-1].astype(np.float64), left)
    convert(early.root, dataset_id=201, name="Early", jobs=1)
    convert(late.root, dataset_id=202, name="Late", jobs=1)
    error = refused(201, 202)
    assert [finding.code for finding in error.findings] == ["OVERLAP"]
    assert "voxels of sub-r003s002_ses-1" in str(error)
    assert [one.case.case for one in merge(201, 202, Target(210), overlap="first").excluded] == ["sub-r003s002_ses-1"]
    grouped = merge(201, 202, Target(211), overlap="group")
    names = {"sub-r001s002_ses-1", "sub-r003s002_ses-1"}
    assert names <= {case.case for case in grouped.cases}
    for split in json.loads((grouped.folder / "splits_final.json").read_text()):
        assert not (names & set(split["train"]) and names & set(split["val"]))


@pytest.mark.parametrize("what", ["the mask", "the image, normalised"])
def test_a_person_whose_mask_or_normalised_image_is_in_both_is_found_and_may_be_allowed(
    tmp_path: Path, raw: Path, what: str
) -> None:
    early = AtlasTree(tmp_path / "early").add("r001s001", "r001s002")
    late = AtlasTree(tmp_path / "late").add("r003s001", "r003s002")
    image, mask = voxels("r001s0021").astype(np.float64), lesion("r001s0021")
    if what == "the mask":
        save(late.mask_path("r003s002"), mask.astype(np.float32))
    else:
        save(late.image_path("r003s002"), (image - image.mean()) / image.std())
    convert(early.root, dataset_id=201, name="Early", jobs=1)
    convert(late.root, dataset_id=202, name="Late", jobs=1)
    error = refused(201, 202)
    assert [finding.code for finding in error.findings] == ["OVERLAP"]
    assert "voxels of sub-r001s002_ses-1 = voxels of sub-r003s002_ses-1" in str(error)
    grouped = merge(201, 202, Target(211), overlap="group")
    subjects = {case.case: case.subject for case in grouped.cases}
    assert subjects["sub-r001s002_ses-1"] == subjects["sub-r003s002_ses-1"]
    allowed = merge(201, 202, Target(212), ConvertOptions(checks=Checks(allow=("DUPLICATE_VOXELS",))))
    assert allowed.n_training == 4
    assert "DUPLICATE_VOXELS" in [warning.code for warning in allowed.warnings]


def test_one_person_in_training_here_and_in_test_there_is_leakage(tmp_path: Path, raw: Path) -> None:
    early = AtlasTree(tmp_path / "early").add("r001s001", "r001s002")
    late = AtlasTree(tmp_path / "late").add("r003s001", "r003s002")
    late.add_image("r001s001", "2", test=True)
    convert(early.root, dataset_id=201, name="Early", jobs=1)
    convert(late.root, dataset_id=202, name="Late", jobs=1)
    for overlap in (None, "group"):
        assert refused(201, 202, overlap=overlap).findings[0].code == "LEAKAGE"
    assert merge(201, 202, Target(210), overlap="first").n_test == 0


def test_what_is_no_dataset_of_ours_is_said(releases: tuple[Conversion, Conversion], raw: Path) -> None:
    assert "Dataset201_Early, Dataset202_Late" in str(refused(201, 203))
    (raw / "Dataset204_Foreign").mkdir()
    (raw / "Dataset204_Foreign" / "dataset.json").write_text('{"channel_names": {"0": "T1w"}}')
    assert refused(201, 204).findings[0].code == "NO_DATASET"


def test_datasets_with_other_channels_are_not_merged(releases: tuple[Conversion, Conversion], raw: Path) -> None:
    path = releases[1].folder / "dataset.json"
    path.write_text(path.read_text().replace("T1w", "FLAIR"))
    assert refused(201, 202).findings[0].code == "CHANNELS_DIFFER"


def test_a_dataset_that_only_refers_to_its_files_can_be_merged(
    tmp_path: Path, releases: tuple[Conversion, Conversion], raw: Path
) -> None:
    tree = AtlasTree(tmp_path / "third").add("r007s001", "r007s002")
    convert(tree.root, dataset_id=203, name="Third", link="reference", jobs=1)
    result = merge(201, 203, Target(210))
    assert (result.folder / "imagesTr/sub-r007s001_ses-1_0000.nii.gz").samefile(tree.image_path("r007s001"))


@pytest.mark.parametrize(
    "damage",
    [
        {"channel_names": None},
        {"channel_names": ["T1w"]},
        {"labels": [1]},
        {"dataset": []},
        {"dataset": {"sub-r003s001_ses-1": {"images": []}}},
        {"dataset": {"sub-r003s001_ses-1": {"images": [], "label": "x.nii.gz"}}},
    ],
    ids=str,
)
def test_a_damaged_dataset_json_is_said(
    releases: tuple[Conversion, Conversion], raw: Path, damage: dict[str, Any]
) -> None:
    path = releases[1].folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    assert refused(201, 202).code == "NO_DATASET"
