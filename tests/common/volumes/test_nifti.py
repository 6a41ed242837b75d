from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers import permissions
from helpers.atlas_tree import RAS, save, voxels

from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.stored import BadFileError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "T1w.nii.gz", voxels("a"))


def refusal(path: Path) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        nifti.read(path)
    return caught.value


def patched(path: Path, offset: int, form: str, value: float) -> Path:
    """Change one header field in place."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(form, content, offset, value)
    path.write_bytes(gzip.compress(bytes(content)))
    return path


def test_a_plain_file_is_read_without_oddities(image: Path) -> None:
    volume = nifti.read(image)
    np.testing.assert_array_equal(volume.data, voxels("a"))
    np.testing.assert_array_equal(volume.affine, RAS)
    assert volume.oddities == ()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "cut in the middle": (lambda stored: stored[: len(stored) // 2], "TRUNCATED", "end too early"),
    "cut before the checksum": (lambda stored: stored[:-8], "TRUNCATED", "end too early"),
    "cut in the checksum": (lambda stored: stored[:-3], "TRUNCATED", "end too early"),
    "wrong checksum": (lambda stored: stored[:-8] + bytes(4) + stored[-4:], "UNREADABLE", "checksum"),
    "a byte flipped": (lambda stored: stored[:-900] + bytes([stored[-900] ^ 1]) + stored[-899:], "UNREADABLE", "gzip"),
    "voxels missing": (lambda stored: gzip.compress(gzip.decompress(stored)[:-40]), "TRUNCATED", "announces"),
    "no bytes": (lambda stored: b"", "UNREADABLE", "0 bytes"),
    "a web page": (lambda stored: b"<html>please log in</html>", "UNREADABLE", "not gzip"),
    "not NIfTI": (lambda stored: gzip.compress(b"hello" * 200), "UNREADABLE", "not a NIfTI"),
    "a few bytes": (lambda stored: gzip.compress(b"hello"), "UNREADABLE", "not a NIfTI"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(image: Path, damage: str) -> None:
    change, code, words = DAMAGES[damage]
    image.write_bytes(change(image.read_bytes()))
    error = refusal(image)
    assert error.code == code
    assert words in error.problem


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(40, "<h", 9), (42, "<h", -5), (42, "<h", 30000), (70, "<h", 4096), (108, "<f", 1e9), (108, "<f", float("nan"))],
)
def test_a_nonsensical_header_is_refused_and_not_believed(image: Path, offset: int, form: str, value: float) -> None:
    assert refusal(patched(image, offset, form, value)).code in ("UNREADABLE", "TRUNCATED", "NOT_3D")


@pytest.mark.parametrize("first", [900, 2000, 4544])
def test_a_file_of_two_gzip_members_is_read_wherever_it_was_cut(image: Path, first: int) -> None:
    content = gzip.decompress(image.read_bytes())
    assert len(content) == 2 * 4544
    image.write_bytes(gzip.compress(content[:first]) + gzip.compress(content[first:]))
    np.testing.assert_array_equal(nifti.read(image).data, voxels("a"))


def test_a_folder_a_dead_link_and_nothing_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "annexed.nii.gz").symlink_to(tmp_path / "objects" / "gone")
    assert "a folder" in refusal(tmp_path / "folder.nii.gz").problem
    assert "link" in refusal(tmp_path / "annexed.nii.gz").problem
    assert "does not exist" in refusal(tmp_path / "nothing.nii.gz").problem


def test_a_file_without_permission_is_refused(image: Path) -> None:
    image.chmod(0)
    with permissions.obeyed():
        assert "permission" in refusal(image).problem
    image.chmod(0o644)
    image.parent.chmod(0o600)
    with permissions.obeyed():
        found = refusal(image).problem
    image.parent.chmod(0o755)
    assert "permission" in found


def test_trailing_axes_of_one_are_dropped_and_others_refused(tmp_path: Path) -> None:
    volume = nifti.read(save(tmp_path / "a.nii.gz", voxels("a")[..., None, None]))
    assert volume.data.shape == voxels("a").shape
    assert volume.oddities == ("5 dimensions, the last of size 1",)
    assert refusal(save(tmp_path / "b.nii.gz", voxels("b", (4, 5, 6, 2)))).code == "NOT_3D"
    assert refusal(save(tmp_path / "c.nii.gz", voxels("c", (4, 5)))).code == "NOT_3D"
    assert refusal(save(tmp_path / "d.nii.gz", voxels("d", (4, 5, 1)))).code == "NOT_3D"


def test_colour_voxels_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refusal(save(tmp_path / "rgb.nii.gz", rgb)).code == "VOXEL_TYPE"


@pytest.mark.parametrize(("slope", "inter"), [(0.5, -3.0), (0.5, 0.0), (1.0, -3.0)])
def test_scale_factors_are_applied_and_noted(tmp_path: Path, slope: float, inter: float) -> None:
    stored = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    path = save(tmp_path / "a.nii.gz", stored)
    volume = nifti.read(patched(patched(path, 112, "<f", slope), 116, "<f", inter))
    np.testing.assert_allclose(volume.data, stored * slope + inter)
    assert volume.oddities == ("scale factors in the header",)


def test_a_header_without_orientation_is_refused(image: Path) -> None:
    assert refusal(patched(patched(image, 252, "<h", 0), 254, "<h", 0)).code == "NO_ORIENTATION"


def test_units_are_honoured_and_absurd_voxels_refused(image: Path) -> None:
    micrometres = 3
    error = refusal(patched(image, 123, "<b", micrometres))
    assert error.code == "BAD_AFFINE"
    assert "0.001 × 0.001 × 0.001 mm" in error.problem


def test_big_endian_nifti2_and_uncompressed_files_are_read(tmp_path: Path) -> None:
    big = nib.Nifti1Image(voxels("a"), RAS, nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii.gz")
    nib.save(nib.Nifti2Image(voxels("a"), RAS), tmp_path / "two.nii.gz")
    save(tmp_path / "plain.nii", voxels("a"))
    oddities = {"big.nii.gz": (), "two.nii.gz": ("NIfTI-2",), "plain.nii": ("not named .nii.gz",)}
    for name, expected in oddities.items():
        volume = nifti.read(tmp_path / name)
        np.testing.assert_array_equal(volume.data, voxels("a"))
        assert volume.oddities == expected


def test_a_written_file_has_one_grid_for_nibabel_and_simpleitk(tmp_path: Path) -> None:
    oblique = np.eye(4)
    turn = SimpleITK.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    oblique[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) * (0.6875, 0.6875, 3.0)
    oblique[:3, 3] = (-87.3, 120.1, -44.4)
    path = tmp_path / "a.nii.gz"
    nifti.write(path, voxels("a"), nifti.grid_header(oblique, 1))
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, oblique, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), oblique, atol=1e-3)
    np.testing.assert_array_equal(image.get_fdata(), voxels("a"))
    seen = nifti.seen_by_simpleitk(path, nifti.read_header(path))
    assert seen is not None
    np.testing.assert_allclose(seen, oblique, atol=1e-4)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T, voxels("a"))


def test_the_same_voxels_give_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(tmp_path / name, voxels("x"), nifti.grid_header(RAS, 4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    no_time_no_name = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert (tmp_path / "a.nii.gz").read_bytes().startswith(no_time_no_name)


def test_an_existing_file_is_not_overwritten(image: Path) -> None:
    with pytest.raises(FileExistsError):
        nifti.write(image, voxels("x"), nifti.grid_header(RAS, 4))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    assert "regular" in refusal(tmp_path / "pipe.nii.gz").problem


def test_voxels_that_begin_within_the_header_are_refused(image: Path) -> None:
    assert "cannot begin at byte 348" in refusal(patched(image, 108, "<f", 348)).problem


HEADERS: dict[str, tuple[int, str, float]] = {
    "voxels from byte 0": (108, "<f", 0),
    "the mark of NIfTI-2": (345, "<B", ord("+")),
    "a code of the sform that there is not": (254, "<h", 99),
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_readers_understand_in_different_ways_is_written_anew(tmp_path: Path, header: str) -> None:
    path = patched(save(tmp_path / "T1w.nii.gz", voxels("a")), *HEADERS[header])
    if header == "the mark of NIfTI-2":
        patched(path, 346, "<B", ord("2"))
    assert len(nifti.read(path).oddities) == 1
