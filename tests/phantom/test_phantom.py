"""The phantom as a user gets it: files, grid, bytes, lesions, refusals."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import nnunet_transformers.phantom.tree as tree
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.phantom import PhantomError, write_phantom
from nnunet_transformers.phantom.template import load_template

pytest.importorskip("nilearn")

COARSE = 5.0


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def voxels(path: Path) -> NDArray[np.generic]:
    return np.asanyarray(nibabel.load(path).dataobj)


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "phantom.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def write_mask(path: Path, centre_mm: tuple[float, float, float], half_mm: tuple[float, float, float]) -> None:
    """A cuboid on a 2 mm grid stored left-handed, cropped off the brain's middle: nothing like the phantom's grid."""
    affine = np.array([[-2.0, 0, 0, 70], [0, 2.0, 0, -100], [0, 0, 2.0, -60], [0, 0, 0, 1]])
    shape = (71, 86, 66)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    mm = index @ affine[:3, :3].T + affine[:3, 3]
    inside = (np.abs(mm - centre_mm) <= half_mm).all(axis=-1)
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), affine), path)


@pytest.fixture(scope="module", autouse=True)
def _templates_are_read_once() -> Iterator[None]:
    """Reading and preparing the template takes longer than a coarse subject."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "load_template", functools.lru_cache(maxsize=2)(load_template))
        yield


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(
        tmp_path_factory.mktemp("phantom") / "coarse", subjects=7, seed=4, spacing=COARSE, test_subjects=2
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("phantom") / "full", subjects=1, seed=4)


def test_the_same_seed_gives_the_same_bytes(coarse: Path, tmp_path: Path) -> None:
    again = write_phantom(tmp_path / "again", subjects=7, seed=4, spacing=COARSE, test_subjects=2)
    assert hashes(again) == hashes(coarse)


def test_fewer_subjects_are_the_first_of_more(coarse: Path, tmp_path: Path) -> None:
    fewer = hashes(write_phantom(tmp_path / "fewer", subjects=2, seed=4, spacing=COARSE, test_subjects=1))
    del fewer["phantom.tsv"]
    more = hashes(coarse)
    assert fewer.items() <= more.items()


def test_another_seed_gives_other_images_and_masks_under_the_same_names(coarse: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", subjects=2, seed=5, spacing=COARSE)
    changed = [name for name, value in hashes(other).items() if value != hashes(coarse)[name]]
    assert sum(name.endswith(".nii.gz") for name in changed) == 4


def test_names_and_folders_are_those_of_atlas(coarse: Path) -> None:
    anat = coarse / "ATLAS_2/Training/R009/sub-r009s001/ses-1/anat"
    stem = "sub-r009s001_ses-1_space-MNI152NLin2009aSym"
    assert {path.name for path in anat.iterdir()} == {
        f"{stem}_T1w.nii.gz",
        f"{stem}_label-L_desc-T1lesion_mask.nii.gz",
    }
    description = json.loads((coarse / "ATLAS_2/Training/R009/dataset_description.json").read_text())
    assert description["BIDSVersion"] == "1.6.0"
    sites = [row["site"] for row in table(coarse) if row["split"] == "Training"]
    assert len(set(sites)) >= 4
    assert max(sites.count(site) for site in sites) > min(sites.count(site) for site in sites)


def test_test_subjects_have_their_masks_only_in_the_hidden_folder(coarse: Path) -> None:
    images = sorted((coarse / "ATLAS_2/Testing").rglob("*_T1w.nii.gz"))
    assert len(images) == 2
    assert not list((coarse / "ATLAS_2/Testing").rglob("*mask*"))
    hidden = {path.name for path in (coarse / "hidden_test_masks").iterdir()}
    assert hidden == {image.name.replace("_T1w", "_label-L_desc-T1lesion_mask") for image in images}
    training = {path.name for path in (coarse / "ATLAS_2/Training").rglob("*_T1w.nii.gz")}
    assert training.isdisjoint(image.name for image in images)


def test_the_table_tells_what_is_in_the_masks_and_that_it_is_synthetic(coarse: Path) -> None:
    rows = table(coarse)
    assert len(rows) == 9
    for row in rows:
        (mask,) = coarse.rglob(f"{row['subject']}_*_mask.nii.gz")
        volume_ml = np.count_nonzero(voxels(mask)) * COARSE**3 / 1000
        assert float(row["lesion_volume_ml"]) == pytest.approx(volume_ml, abs=1e-3)
        assert volume_ml > 0
        assert int(row["lesions"]) >= 1
        assert row["origin"] == "synthetic"
        assert row["seed"] == "4"
    assert (coarse / "README.txt").read_text().startswith("Synthetic data")


def test_at_1_mm_the_grid_is_exactly_that_of_atlas(full: Path) -> None:
    expected = np.diag([1.0, 1.0, 1.0, 1.0])
    expected[:3, 3] = (-98, -134, -72)
    files = sorted(full.rglob("*.nii.gz"))
    assert len(files) == 2
    for file in files:
        image = nibabel.load(file)
        assert image.shape == (197, 233, 189)
        np.testing.assert_array_equal(image.affine, expected)
        np.testing.assert_array_equal(image.get_qform(), expected)


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.5, 3.0, 4.0, 10.0])
def test_every_grid_covers_the_field_of_view_of_atlas_to_within_half_a_voxel(spacing: float) -> None:
    grid = tree.grid_at(spacing)
    first_edge = np.array(grid.origin) - spacing / 2
    last_edge = first_edge + spacing * np.array(grid.shape)
    assert (np.abs(first_edge - (-98.5, -134.5, -72.5)) <= spacing / 2).all()
    assert (np.abs(last_edge - (98.5, 98.5, 116.5)) <= spacing / 2).all()


def test_masks_are_binary_bytes_inside_the_head(coarse: Path) -> None:
    for mask_file in sorted((coarse / "ATLAS_2/Training").rglob("*_mask.nii.gz")):
        mask = voxels(mask_file)
        image = voxels(mask_file.with_name(mask_file.name.replace("label-L_desc-T1lesion_mask", "T1w")))
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        assert image.shape == mask.shape
        assert (image[mask == 1] > 0).all()


def test_a_lesion_is_darker_than_the_white_matter_around_it(full: Path) -> None:
    from nilearn.datasets import load_mni152_wm_template
    from scipy import ndimage

    (mask_file,) = full.rglob("*_mask.nii.gz")
    (image_file,) = full.rglob("*_T1w.nii.gz")
    lesion, image = voxels(mask_file) == 1, voxels(image_file)
    near = ndimage.binary_dilation(lesion, iterations=12) & ~ndimage.binary_dilation(lesion, iterations=3)
    white = np.asarray(load_mni152_wm_template(resolution=1).dataobj) > 0.9
    assert image[lesion].mean() < 0.8 * image[near & white].mean()


def test_the_head_reaches_beyond_the_brain_and_the_face_is_cut_away(full: Path) -> None:
    from nilearn.datasets import load_mni152_template

    (image_file,) = full.rglob("*_T1w.nii.gz")
    image = voxels(image_file)
    brain = np.asarray(load_mni152_template(resolution=1).dataobj) > 0
    bright = image > 0.5 * np.median(image[brain])
    assert np.count_nonzero(bright & ~brain) > 0.15 * np.count_nonzero(brain)
    chin = image[98, 215:, :20]
    assert not chin.any()


def test_subjects_differ_in_anatomy_and_in_the_side_of_the_lesion(coarse: Path) -> None:
    masks = [voxels(path) for path in sorted(coarse.rglob("*_mask.nii.gz"))]
    middle = masks[0].shape[0] // 2
    left_heavier = {int(mask[:middle].sum()) > int(mask[middle + 1 :].sum()) for mask in masks}
    assert left_heavier == {True, False}
    images = [voxels(path).astype(float) for path in sorted(coarse.rglob("*_T1w.nii.gz"))]
    correlations = [np.corrcoef(images[0].ravel(), image.ravel())[0, 1] for image in images[1:]]
    assert max(correlations) < 0.99


def test_given_masks_lend_shape_and_place(tmp_path: Path) -> None:
    centre, half = (36.0, -22.0, 26.0), (5.0, 24.0, 8.0)
    masks = tmp_path / "masks"
    masks.mkdir()
    write_mask(masks / "bar.nii.gz", centre, half)
    phantom = write_phantom(tmp_path / "phantom", subjects=3, spacing=COARSE, lesions=masks)
    for mask_file in sorted(phantom.rglob("*_mask.nii.gz")):
        image = nibabel.load(mask_file)
        mm = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj)))
        assert np.abs(mm.mean(axis=0) - centre).max() < 8
        # A cuboid's standard deviation is its half edge over √3; the voxels and the deformation add some.
        np.testing.assert_allclose(mm.std(axis=0), np.array(half) / 3**0.5, rtol=0.35, atol=1.5)
        np.testing.assert_allclose(len(mm) * COARSE**3, 8 * np.prod(half), rtol=0.5)
    assert {row["shape_source"] for row in table(phantom)} == {"bar.nii.gz"}


def test_given_masks_are_drawn_in_an_order_that_only_the_names_decide(tmp_path: Path) -> None:
    trees = []
    for order in ("abc", "cba"):
        masks = tmp_path / f"masks_{order}"
        masks.mkdir()
        for name in order:
            write_mask(masks / f"{name}.nii.gz", (20.0 + 10 * "abc".index(name), -20, 24), (6, 6, 6))
        trees.append(hashes(write_phantom(tmp_path / order, subjects=3, spacing=8, lesions=masks)))
    assert trees[0] == trees[1]


def test_a_given_lesion_smaller_than_a_voxel_keeps_one_voxel(tmp_path: Path) -> None:
    write_mask(tmp_path / "lacune.nii.gz", (26, -20, 30), (1, 1, 1))
    phantom = write_phantom(tmp_path / "phantom", subjects=2, spacing=8, lesions=tmp_path)
    assert all(voxels(path).sum() == 1 for path in phantom.rglob("*_mask.nii.gz"))


def test_an_existing_destination_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "phantom").mkdir()
    (tmp_path / "phantom" / "mine.txt").write_text("keep")
    before = hashes(tmp_path)
    with pytest.raises(PhantomError, match=r"not an empty folder(.|\n)*DESTINATION_EXISTS"):
        write_phantom(tmp_path / "phantom", subjects=1, spacing=8)
    assert hashes(tmp_path) == before


def test_an_empty_destination_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (write_phantom(tmp_path / "empty", subjects=1, spacing=8) / "phantom.tsv").is_file()
    assert (write_phantom(tmp_path / "new" / "deep", subjects=1, spacing=8) / "phantom.tsv").is_file()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing(
    stop: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []

    def interrupted(*arguments: object) -> object:
        if finished:
            raise stop
        finished.append(True)
        return make_subject(*arguments)

    make_subject = tree.make_subject
    monkeypatch.setattr(tree, "make_subject", interrupted)
    with pytest.raises(stop):
        write_phantom(tmp_path / "phantom", subjects=3, spacing=8)
    assert finished
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"subjects": 0}, "subjects"),
        ({"subjects": 1.5}, "subjects"),
        ({"subjects": 1501}, "subjects"),
        ({"subjects": 1, "test_subjects": -1}, "test subjects"),
        ({"subjects": 1, "seed": -1}, "seed"),
        ({"subjects": 1, "spacing": 0.4}, "spacing"),
        ({"subjects": 1, "spacing": 11}, "spacing"),
        ({"subjects": 1, "spacing": float("nan")}, "spacing"),
        ({"subjects": 1, "lesion_ml": (200, 60)}, "lesion volumes"),
        ({"subjects": 1, "lesion_ml": (60,)}, "lesion volumes"),
        ({"subjects": 1, "lesion_ml": (60, 500)}, "lesion volumes"),
        ({"subjects": 1, "lesion_ml": (60, 61)}, "lesion volumes"),
    ],
)
def test_a_number_out_of_range_is_named(arguments: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match=f"^{named}: "):
        write_phantom(tmp_path / "phantom", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "notes.txt", "._hidden.nii.gz"])
def test_a_folder_without_masks_is_named(content: str | None, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    if content:
        masks.mkdir()
        (masks / content).write_text("no mask")
    with pytest.raises(PhantomError) as caught:
        write_phantom(tmp_path / "phantom", subjects=1, spacing=8, lesions=masks)
    assert str(masks) in str(caught.value)
    assert not (tmp_path / "phantom").exists()


def bad_masks() -> dict[str, tuple[NDArray[np.generic], NDArray[np.float64]]]:
    mni = np.diag([4.0, 4.0, 4.0, 1.0])
    mni[:3, 3] = (-80, -110, -60)
    block = np.zeros((40, 48, 40), dtype=np.float32)
    block[25:30, 20:25, 20:25] = 1
    far = mni.copy()
    far[:3, 3] += 500
    return {
        "MASK_EMPTY": (np.zeros_like(block), mni),
        "MASK_NOT_FINITE": (np.where(block == 1, np.nan, block), mni),
        "NOT_A_MASK": (np.random.default_rng(0).random(block.shape, dtype=np.float32), mni),
        "NOT_3D": (np.stack([block, block], axis=-1), mni),
        "MASK_OUTSIDE": (block, far),
    }


@pytest.mark.parametrize("code", sorted(bad_masks()))
def test_a_mask_that_cannot_be_used_is_named_and_stops_the_run(code: str, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    nibabel.save(nibabel.Nifti1Image(*bad_masks()[code]), masks / "bad.nii.gz")
    with pytest.raises(PhantomError) as caught:
        write_phantom(tmp_path / "phantom", subjects=1, spacing=8, lesions=masks)
    assert str(masks / "bad.nii.gz") in str(caught.value)
    assert f"[{code}]" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "cut.nii.gz", (26, -20, 30), (9, 9, 9))
    whole = (tmp_path / "cut.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PhantomError, match=r"cut\.nii\.gz"):
        write_phantom(tmp_path / "phantom", subjects=1, spacing=8, lesions=tmp_path)


def test_without_nilearn_the_extra_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "load_template", load_template)
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(PhantomError, match=r"nnunet-transformers\[phantom\]"):
        write_phantom(tmp_path / "phantom", subjects=1, spacing=8)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_catches_it_as_any_other_conversion_error() -> None:
    assert issubclass(PhantomError, UserError)
