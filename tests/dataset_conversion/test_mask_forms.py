"""Masks as NRRD and MHA beside NIfTI images, in every kind of folder and through the whole conversion."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, SHAPE, AtlasTree, lesion, save, voxels
from helpers.conversion import convert
from helpers.itk_masks import RAS_LPS, save_itk, turned, with_texts

import dataset_conversion.job as job
from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import bids
from dataset_conversion.layouts.table import layout as table_layout
from dataset_conversion.layouts.yaml_file import read_layout
from dataset_conversion.merge import merge
from dataset_conversion.options import Target
from nnunet_transformers.common.problems import UserError

SUBJECTS = ("r001s001", "r001s002", "r002s001", "r002s002", "r003s001")
FORMS = (".nrrd", ".seg.nrrd", ".mha")


def refused(source: Path, *arguments: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        convert(source, *arguments, **options)
    return caught.value


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def in_form(path: Path, ending: str) -> Path:
    """The path of a mask in another form."""
    return path.with_name(path.name.replace(".nii.gz", ending))


def with_masks_as(tree: AtlasTree, ending: str, affine: np.ndarray = RAS_LPS @ RAS) -> AtlasTree:
    """Each mask in another form, along axes of its own: what `lesion` gives in the places of the image."""
    for subject in SUBJECTS:
        tree.add_image(subject)
        tree.add_mask(subject)
        mask = nib.load(tree.mask_path(subject))
        turned_axes = nib.as_closest_canonical(mask).as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
        save_itk(in_form(tree.mask_path(subject), ending), np.asarray(turned_axes.dataobj), turned_axes.affine)
        tree.mask_path(subject).unlink()
    return tree


def label(folder: Path, subject: str) -> np.ndarray:
    stored = nib.load(folder / f"labelsTr/sub-{subject}_ses-1.nii.gz")
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_allclose(stored.affine, RAS)
    return np.asarray(stored.dataobj)


@pytest.mark.parametrize("ending", FORMS)
def test_masks_of_an_atlas_tree_land_on_the_voxels_of_their_images(tree: AtlasTree, raw: Path, ending: str) -> None:
    folder = convert(with_masks_as(tree, ending).root).folder
    for subject in SUBJECTS:
        np.testing.assert_array_equal(label(folder, subject), lesion(subject + "1"))
    report = json.loads((folder / "conversion_report.json").read_text())
    image, mask = report["cases"][0]["files"]
    assert image["action"] == "unchanged"
    assert mask["reasons"] == [f"stored as {'MetaImage' if ending == '.mha' else 'NRRD'}", "orientation LPS"]
    assert len(mask["sources"][0]["sha256"]) == 64


@pytest.mark.parametrize("how", [{"link": "reference"}, {"quick": True}, {"jobs": 1, "link": "symlink"}], ids=str)
def test_every_way_of_converting_gives_the_same_labels(tree: AtlasTree, raw: Path, how: dict[str, Any]) -> None:
    with_masks_as(tree, ".seg.nrrd")
    assert not convert(tree.root, dry_run=True).written
    folder = convert(tree.root, **how).folder
    for subject in SUBJECTS:
        np.testing.assert_array_equal(label(folder, subject), lesion(subject + "1"))
    if how.get("link") == "reference":
        entries = json.loads((folder / "dataset.json").read_text())["dataset"]
        assert entries["sub-r001s001_ses-1"]["label"] == "labelsTr/sub-r001s001_ses-1.nii.gz"


@pytest.mark.parametrize("axes", [(0.2, -0.1, 0.3, 1), (0.2, -0.1, 0.3, -1)], ids=str)
def test_an_oblique_mask_is_on_the_grid_of_its_oblique_image(
    tree: AtlasTree, raw: Path, axes: tuple[float, ...]
) -> None:
    affine = turned(*axes[:3], flip=int(axes[3]))
    with_masks_as(tree, ".nrrd")
    tree.add_image("r001s001", affine=affine)
    save_itk(in_form(tree.mask_path("r001s001"), ".nrrd"), lesion("x"), affine)
    folder = convert(tree.root).folder
    image = nib.load(folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz")
    stored = nib.load(folder / "labelsTr/sub-r001s001_ses-1.nii.gz")
    np.testing.assert_array_equal(stored.affine, image.affine)
    flip = slice(None, None, int(axes[3]))
    np.testing.assert_array_equal(np.asarray(stored.dataobj), lesion("x")[flip])


@pytest.mark.parametrize("other", [".nrrd", ".seg.nrrd", ".mha"])
def test_beside_nifti_masks_others_change_nothing(tree: AtlasTree, raw: Path, other: str) -> None:
    tree.add(*SUBJECTS)
    before = content(convert(tree.root, link="copy").folder)
    (raw / "Dataset201_ATLAS").rename(raw.parent / "before")
    for subject in SUBJECTS:
        save_itk(in_form(tree.mask_path(subject), other), lesion("another"), RAS)
    assert content(convert(tree.root, link="copy").folder) == before


def test_an_interrupted_conversion_goes_on_and_sees_a_mask_drawn_again(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_masks_as(tree, ".nrrd")
    checked: list[str] = []

    def check(case: Any, *rest: Any) -> Any:
        checked.append(case.subject)
        if len(checked) == 4:
            raise KeyboardInterrupt
        return original(case, *rest)

    original = job.check_case
    monkeypatch.setattr(job, "check_case", check)
    with pytest.raises(KeyboardInterrupt):
        convert(tree.root, jobs=1)
    save_itk(in_form(tree.mask_path("r001s002"), ".nrrd"), lesion("drawn again"), RAS)
    folder = convert(tree.root, jobs=1).folder
    assert "sub-r001s001" not in checked[4:]
    assert "sub-r001s002" in checked[4:]
    np.testing.assert_array_equal(label(folder, "r001s002"), lesion("drawn again"))


def test_pseudonyms_and_a_merge_work_with_them(tree: AtlasTree, raw: Path, tmp_path: Path) -> None:
    with_masks_as(tree, ".mha")
    hidden = convert(tree.root, pseudonyms=tmp_path / "keys.json").folder
    assert len(list((hidden / "labelsTr").iterdir())) == len(SUBJECTS)
    assert "r001s001" not in (hidden / "conversion_report.json").read_text()
    named = convert(tree.root, dataset_id=202).folder
    with pytest.raises(ConversionError, match="voxels of"):
        merge(hidden, named, Target(203))
    merged = merge(hidden, named, Target(203), overlap="first").folder
    assert len(list((merged / "labelsTr").iterdir())) == len(SUBJECTS)


def bids_tree(root: Path, *masks: str) -> Path:
    for number in range(1, 6):
        save(root / f"sub-{number}/anat/sub-{number}_T1w.nii.gz", voxels(f"{number}"))
        for mask in masks:
            path = root / f"derivatives/sub-{number}/sub-{number}_{mask}"
            writer = save_itk if not mask.endswith(".nii.gz") else save
            writer(path, lesion(f"{number}"), RAS)
    return root


@pytest.mark.parametrize("mask", ["label-lesion_mask.nrrd", "lesion.seg.nrrd", "label-lesion_mask.mha", "mask.nrrd"])
def test_masks_of_a_bids_tree_are_taken_by_the_same_names(tmp_path: Path, raw: Path, mask: str) -> None:
    result = convert(bids_tree(tmp_path / "bids", mask), "bids")
    assert result.n_training == 5
    assert ("PRESUMED_MASK" in {each.code for each in result.warnings}) == (mask == "mask.nrrd")


def test_a_bids_mask_of_something_else_or_in_two_forms_is_not_guessed(tmp_path: Path, raw: Path) -> None:
    other = bids_tree(tmp_path / "other", "label-brain_mask.nrrd")
    assert [finding.code for finding in bids.find(other).findings] == ["UNLABELLED"]
    both = bids_tree(tmp_path / "both", "lesion.seg.nrrd", "lesion.mha")
    assert {finding.code for finding in bids.find(both).findings} == {"AMBIGUOUS_MASK"}


def test_a_bare_nifti_mask_counts_as_before_whatever_others_say(tmp_path: Path) -> None:
    found = bids.find(bids_tree(tmp_path / "bids", "mask.nii.gz", "label-lesion_mask.nrrd"))
    assert [case.masks[0].endswith("mask.nii.gz") for case in found.cases] == [True] * 5
    (warning,) = found.findings
    assert (warning.code, len(warning.files)) == ("PRESUMED_MASK", 5)


LAYOUT = """
images:
  T1w: '(?P<subject>\\d+)/t1\\.nii\\.gz'
mask: '(?P<subject>\\d+)/roi.*'
masks: union
"""


def export(root: Path, *masks: str, number: int = 5) -> Path:
    for subject in range(1, number + 1):
        save(root / f"{subject}/t1.nii.gz", voxels(f"{subject}"))
        for mask in masks:
            data = lesion(f"{subject}{mask.partition('.')[0]}")
            (save if mask.endswith(".nii.gz") else save_itk)(root / f"{subject}/{mask}", data, RAS)
    return root


@pytest.mark.parametrize(
    ("masks", "used", "codes"),
    [
        (("roi.seg.nrrd",), ("roi.seg.nrrd",), []),
        (("roi1.nrrd", "roi2.mha"), ("roi1.nrrd", "roi2.mha"), []),
        (("roi.nii.gz", "roi.seg.nrrd"), ("roi.nii.gz",), []),
        (("roi1.nii.gz", "roi1.nrrd", "roi2.nrrd"), ("roi1.nii.gz",), ["OTHER_FORMS"]),
    ],
)
def test_an_expression_of_a_layout_file_fits_them(
    tmp_path: Path, masks: tuple[str, ...], used: tuple[str, ...], codes: list[str]
) -> None:
    (tmp_path / "export.yaml").write_text(LAYOUT)
    found = read_layout(tmp_path / "export.yaml").find(export(tmp_path / "data", *masks))
    assert [case.masks for case in found.cases] == [tuple(f"{n}/{mask}" for mask in used) for n in range(1, 6)]
    assert [finding.code for finding in found.findings] == codes


def test_a_folder_without_a_nifti_image_is_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "export.yaml").write_text(LAYOUT)
    save_itk(tmp_path / "data/1/t1.nrrd", voxels("1"), RAS)
    save_itk(tmp_path / "data/1/roi.nrrd", lesion("1"), RAS)
    with pytest.raises(ConversionError, match=r"NO_CASES") as caught:
        read_layout(tmp_path / "export.yaml").find(tmp_path / "data")
    assert "roi.nrrd is not NIfTI" in caught.value.findings[0].problem
    assert "sitk.WriteImage(sitk.ReadImage('IMAGE.nrrd'), 'IMAGE.nii.gz')" in caught.value.findings[0].remedy


def by_table(source: Path, mask: str, image: str = "t1.nii.gz", **options: Any) -> Conversion:
    table = source.parent / "cases.tsv"
    rows = [f"{n}\t{n}/{image}\t{n}/{mask}" for n in range(1, 6)]
    table.write_bytes(os.fsencode("\n".join(["subject\tT1w\tmask", *rows])))
    return convert(source, table_layout(table), **options)


@pytest.mark.parametrize("ending", FORMS)
def test_a_case_table_names_them(tmp_path: Path, raw: Path, ending: str) -> None:
    folder = by_table(export(tmp_path / "data", f"roi{ending}"), f"roi{ending}").folder
    np.testing.assert_array_equal(nib.load(folder / "labelsTr/1.nii.gz").get_fdata(), lesion("1roi"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_read(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "data", "roi.nrrd")
    odd = os.fsdecode(b"l\xe9sion.nrrd")
    for path in source.glob("*/roi.nrrd"):
        path.rename(path.with_name(odd))
    assert by_table(source, odd).n_training == 5


def test_an_image_in_such_a_form_is_refused_with_the_way_to_convert_it(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "data", "roi.nrrd")
    for path in source.glob("*/t1.nii.gz"):
        save_itk(path.with_name("t1.nrrd"), voxels("x"), RAS)
    with pytest.raises(ConversionError) as caught:
        by_table(source, "roi.nrrd", "t1.nrrd")
    assert {finding.code for finding in caught.value.findings} == {"UNREADABLE"}
    assert "WriteImage of SimpleITK" in caught.value.findings[0].remedy


def test_several_segments_are_named_and_chosen(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "data", "roi.seg.nrrd")
    for path in source.glob("*/roi.seg.nrrd"):
        two = lesion("x")
        two[2:7, 3:6, 7:9] *= 2
        texts = {"Segment0_Name": "core", "Segment0_LabelValue": "1", "Segment1_Name": "edema"}
        with_texts(save_itk(path, two, RAS), {**texts, "Segment1_LabelValue": "2"})
    with pytest.raises(ConversionError, match=r"2 non-zero values \(1 = core, 2 = edema\)"):
        by_table(source, "roi.seg.nrrd")
    folder = by_table(source, "roi.seg.nrrd", labels=("2",), allow=("DUPLICATE_VOXELS",)).folder
    np.testing.assert_array_equal(nib.load(folder / "labelsTr/1.nii.gz").get_fdata(), two == 2)


def test_a_segmentation_cropped_to_its_segments_goes_back_into_its_place(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "data", "roi.seg.nrrd")
    for path in source.glob("*/roi.seg.nrrd"):
        affine = RAS.copy()
        affine[:3, 3] += (2, 3, 7)
        save_itk(path, lesion(f"{path.parent.name}roi")[2:7, 3:6, 7:11], affine)
    with pytest.raises(ConversionError, match="SHAPE_MISMATCH"):
        by_table(source, "roi.seg.nrrd")
    folder = by_table(source, "roi.seg.nrrd", align="resample", resample_mask=True).folder
    stored = np.asarray(nib.load(folder / "labelsTr/1.nii.gz").dataobj)
    assert stored.shape == SHAPE
    np.testing.assert_array_equal(stored, lesion("1roi"))


def test_a_mask_that_is_cut_off_stops_the_conversion(tree: AtlasTree, raw: Path) -> None:
    with_masks_as(tree, ".nrrd")
    path = in_form(tree.mask_path("r001s001"), ".nrrd")
    path.write_bytes(path.read_bytes()[:-3])  # SimpleITK reads this
    error = refused(tree.root)
    assert [(finding.code, finding.case) for finding in error.findings] == [("TRUNCATED", "sub-r001s001_ses-1")]
    assert not any(raw.iterdir())


def test_no_name_of_a_segment_gets_into_a_dataset_of_pseudonyms(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "data", "roi.seg.nrrd")
    for path in source.glob("*/roi.seg.nrrd"):
        two = lesion(path.parent.name)
        two[2:7, 3:6, 7:9] *= 2
        with_texts(save_itk(path, two, RAS), {"Segment0_Name": "Dupont", "Segment0_LabelValue": "1"})
    keys = tmp_path / "keys.json"
    folder = by_table(source, "roi.seg.nrrd", pseudonyms=keys, allow=("MASK_VALUES",)).folder
    assert "MASK_VALUES" in (folder / "conversion_report.json").read_text()
    assert not any(b"Dupont" in stored for stored in content(folder).values())
