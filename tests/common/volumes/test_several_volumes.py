"""One volume of a 4D NIfTI file, by its number."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, save, voxels
from helpers.itk_masks import turned

from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.names import file_and_volume, identity
from nnunet_transformers.common.volumes.reading import read, read_header
from nnunet_transformers.common.volumes.stored import BadFileError

FOUR = voxels("four", (6, 7, 5, 4))


def refusal(path: Path) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        read(path)
    return caught.value


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "A.NII.GZ"])
@pytest.mark.parametrize("affine", [RAS, turned(0.3, 0.1, -0.2, flip=-1)], ids=["RAS", "oblique"])
def test_a_volume_is_that_of_the_number_counted_from_0(tmp_path: Path, name: str, affine: np.ndarray) -> None:
    path = save(tmp_path / name.lower(), FOUR, affine).rename(tmp_path / name)
    for number in range(4):
        volume = read(Path(f"{path}#{number}"))
        np.testing.assert_array_equal(volume.data, FOUR[..., number])
        np.testing.assert_allclose(volume.affine, nib.load(save(tmp_path / "b.nii", FOUR, affine)).affine)
        assert f"volume {number} of 4" in volume.oddities
        assert read_header(Path(f"{path}#{number}")).shape == (6, 7, 5)


def test_scale_factors_and_further_axes_count(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(np.arange(6 * 7 * 5 * 6, dtype=np.int16).reshape(6, 7, 5, 1, 6), RAS)
    stored.header.set_slope_inter(0.5, 10)
    nib.save(stored, tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata()
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz#4").data, expected[..., 0, 4])


def test_a_number_beyond_the_last_is_refused_and_no_number_says_how_to_give_one(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", FOUR)
    error = refusal(tmp_path / "a.nii.gz#4")
    assert (error.code, error.problem) == ("NO_VOLUME", "has no volume 4: there are 4, counted from 0")
    assert refusal(tmp_path / "a.nii.gz").code == "NOT_3D"
    assert "a.nii.gz#0" in refusal(tmp_path / "a.nii.gz").remedy
    save(tmp_path / "b.nii.gz", FOUR[..., 0])
    assert refusal(tmp_path / "b.nii.gz#1").code == "NO_VOLUME"
    np.testing.assert_array_equal(read(tmp_path / "b.nii.gz#0").data, FOUR[..., 0])
    assert "does not exist" in refusal(tmp_path / "b.nii.gz#x").problem


@pytest.mark.parametrize("missing", [1, 100, FOUR[..., 0].nbytes + 1])
def test_the_first_volume_of_a_file_that_is_cut_behind_it_is_refused(tmp_path: Path, missing: int) -> None:
    path = save(tmp_path / "a.nii.gz", FOUR)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-missing]))
    assert refusal(tmp_path / "a.nii.gz#0").code == "TRUNCATED"


def test_the_last_file_is_inflated_once_for_all_its_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.nii.gz", FOUR)
    save(tmp_path / "b.nii.gz", FOUR[..., ::-1])
    inflated = []
    monkeypatch.setattr(nifti, "inflate", lambda stored: inflated.append(1) or gzip.decompress(stored))
    with nifti.last_file_kept():
        for name in ("a", "b"):
            for number in range(4):
                expected = FOUR[..., number] if name == "a" else FOUR[..., 3 - number]
                np.testing.assert_array_equal(read(tmp_path / f"{name}.nii.gz#{number}").data, expected)
        assert len(inflated) == 2
        read(tmp_path / "a.nii.gz#0")  # only the last one is kept
        assert len(inflated) == 3
    read(tmp_path / "a.nii.gz#0")
    assert len(inflated) == 4


def test_only_the_end_of_a_nifti_name_is_a_number(tmp_path: Path) -> None:
    assert file_and_volume("x#1/a.nii.gz#12") == (Path("x#1/a.nii.gz"), 12)
    for path in ("a.nii.gz", "a#1.nii.gz", "a.nrrd#1", "a.nii.gz#", "a.nii.gz#-1", "a.nii.gz#٣"):
        assert file_and_volume(path) == (Path(path), None)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    assert identity(tmp_path / "link.nii.gz#0") == identity(tmp_path / "a.nii.gz")
    assert identity(tmp_path / "link.nii.gz#1") != identity(tmp_path / "a.nii.gz#0")
