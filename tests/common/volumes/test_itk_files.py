"""NRRD and MHA files: what SimpleITK wrote is read as it reads it, and whatever is damaged is refused."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from helpers.atlas_tree import RAS, lesion, voxels
from helpers.itk_masks import RAS_LPS, save_itk, turned, with_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_transformers.common.volumes.reading import read, read_header
from nnunet_transformers.common.volumes.stored import BadFileError

FORMS = [(ending, compress) for ending in (".nrrd", ".seg.nrrd", ".mha") for compress in (False, True)]
GRIDS = {
    "RAS": RAS,
    "LPS": RAS_LPS @ RAS,
    "oblique": turned(0.3, -0.2, 0.1),
    "left-handed": turned(0.3, -0.2, 0.1, flip=-1),
    "sagittal": RAS[:, [1, 2, 0, 3]] @ np.diag([-1.0, 1, 1, 1]),
}


def refusal(path: Path) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        read(path)
    return caught.value


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and RAS affine."""
    image = SimpleITK.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, RAS_LPS @ lps


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("ending", "compress"), FORMS)
def test_voxels_and_grid_are_those_that_were_written(tmp_path: Path, ending: str, compress: bool, grid: str) -> None:
    path = save_itk(tmp_path / f"mask{ending}", lesion("a"), GRIDS[grid], compress=compress)
    volume = read(path)
    np.testing.assert_array_equal(volume.data, lesion("a"))
    np.testing.assert_allclose(volume.affine, GRIDS[grid], atol=1e-12)
    np.testing.assert_allclose(volume.affine, by_simpleitk(path)[1], atol=1e-12)
    np.testing.assert_array_equal(read_header(path).affine, volume.affine)
    assert volume.oddities == (f"stored as {'MetaImage' if ending == '.mha' else 'NRRD'}",)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_every_type_that_simpleitk_writes_is_read(tmp_path: Path, ending: str, kind: str) -> None:
    data = voxels("x").astype(kind)
    volume = read(save_itk(tmp_path / f"mask{ending}", data, RAS))
    assert volume.data.dtype == volume.header.dtype == np.dtype(kind)
    np.testing.assert_array_equal(volume.data, data)


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-anterior-superior", "LPS"])
def test_nrrd_says_what_its_axes_mean(tmp_path: Path, space: str) -> None:
    path = save_itk(tmp_path / "mask.nrrd", lesion("a"), GRIDS["oblique"])
    path.write_bytes(path.read_bytes().replace(b"left-posterior-superior", space.encode()))
    np.testing.assert_allclose(read(path).affine, by_simpleitk(path)[1], atol=1e-12)


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".nrrd", b"encoding: raw", b"encoding: raw\nendian: big"),
        (".mha", b"ByteOrderMSB = False", b"ByteOrderMSB = True"),
    ],
)
def test_big_endian_voxels_are_read(tmp_path: Path, ending: str, old: bytes, new: bytes) -> None:
    path = save_itk(tmp_path / f"mask{ending}", lesion("a").astype(np.int16), RAS, compress=False)
    content = path.read_bytes().replace(b"endian: little\n", b"")
    size = lesion("a").size * 2
    swapped = np.frombuffer(content[-size:], "<i2").astype(">i2").tobytes()
    path.write_bytes(content[:-size].replace(old, new) + swapped)
    np.testing.assert_array_equal(read(path).data, lesion("a"))
    np.testing.assert_array_equal(by_simpleitk(path)[0], lesion("a"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `raw` and `compressed` files of each ending."""
    folder = tmp_path_factory.mktemp("stored")
    for ending, compress in FORMS:
        save_itk(folder / f"{'compressed' if compress else 'raw'}{ending}", lesion("a"), RAS, compress=compress)
    return folder


STORED = [f"{how}{ending}" for how in ("raw", "compressed") for ending in (".nrrd", ".seg.nrrd", ".mha")]
many = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("name", STORED)
@many
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, stored: Path, name: str, place: float) -> None:
    content = (stored / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(place * len(content))])
    assert refusal(tmp_path / name).code in ("TRUNCATED", "UNREADABLE")


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("missing", range(1, 12))
def test_a_file_that_lacks_its_last_bytes_is_refused(tmp_path: Path, stored: Path, name: str, missing: int) -> None:
    (tmp_path / name).write_bytes((stored / name).read_bytes()[:-missing])
    assert refusal(tmp_path / name).code == "TRUNCATED"


@pytest.mark.parametrize("name", STORED[3:])
@many
@given(from_end=st.integers(1, 60), bit=st.integers(0, 7))
def test_damaged_compressed_voxels_never_become_others(
    tmp_path: Path, stored: Path, name: str, from_end: int, bit: int
) -> None:
    content = bytearray((stored / name).read_bytes())
    content[-from_end] ^= 1 << bit
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(BadFileError):  # a few bits mean nothing
        np.testing.assert_array_equal(read(tmp_path / name).data, lesion("a"))


@pytest.mark.parametrize("name", STORED[:3])
@many
@given(start=st.integers(0, 500), length=st.integers(0, 9), new=st.binary(max_size=9) | st.from_regex(rb"[-0-9. ]+"))
def test_a_nonsensical_header_is_an_error_of_ours(
    tmp_path: Path, stored: Path, name: str, start: int, length: int, new: bytes
) -> None:
    content = (stored / name).read_bytes()
    (tmp_path / name).write_bytes(content[:start] + new + content[start + length :])
    with contextlib.suppress(BadFileError):
        read(tmp_path / name)


CHANGED = {
    "four bytes less than announced": (".nrrd", b"sizes: 12 14 13", b"sizes: 12 14 14", "TRUNCATED", "announces"),
    "no space": (".nrrd", b"space: left-posterior-superior\n", b"", "NO_ORIENTATION", "left and right"),
    "a space without sides": (".nrrd", b"left-posterior-superior", b"3D-right-handed", "NO_ORIENTATION", "position"),
    "another unit": (".nrrd", b"encoding:", b'space units: "m" "m" "m"\nencoding:', "BAD_AFFINE", "unit is m"),
    "absurd voxels": (".nrrd", b"(-1,0,0)", b"(-1e9,0,0)", "BAD_AFFINE", "voxel size"),
    "hexadecimal": (".nrrd", b"encoding: raw", b"encoding: hex", "UNREADABLE", "encoding hex"),
    "voxels elsewhere": (".nrrd", b"encoding: raw", b"encoding: raw\ndata file: x.raw", "UNREADABLE", "another file"),
    "a block": (".nrrd", b"type: unsigned char", b"type: block", "VOXEL_TYPE", "block"),
    "a web page": (".nrrd", b"NRRD0004", b"<html>", "UNREADABLE", "not a file of the form NRRD"),
    "a note of git-annex": (".nrrd", b"NRRD0004", b"/annex/objects/MD5", "UNREADABLE", "git-annex"),
    "elsewhere, MHA": (".mha", b"= LOCAL", b"= x.raw", "UNREADABLE", "another file"),
    "as text, MHA": (".mha", b"BinaryData = True", b"BinaryData = False", "UNREADABLE", "way that is not read"),
    "no place, MHA": (".mha", b"Offset", b"Ofset", "NO_ORIENTATION", "left and right"),
    "no type, MHA": (".mha", b"ElementType", b"Elementtype", "UNREADABLE", "no ElementType"),
    "another unit, MHA": (".mha", b"NDims", b"DistanceUnits = um\nNDims", "BAD_AFFINE", "unit is um"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_what_cannot_be_meant_as_a_mask_is_refused_with_the_reason(tmp_path: Path, change: str) -> None:
    ending, old, new, code, words = CHANGED[change]
    path = save_itk(tmp_path / f"mask{ending}", lesion("a"), RAS_LPS @ np.eye(4), compress=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new, 1) if old in content else content.replace(b"(1,0,0)", new, 1))
    assert path.read_bytes() != content
    error = refusal(path)
    assert (error.code, words in error.problem) == (code, True), error.problem


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_single_slice_is_refused(tmp_path: Path, ending: str) -> None:
    assert refusal(save_itk(tmp_path / f"mask{ending}", lesion("a")[..., :1], RAS)).code == "NOT_3D"


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_several_numbers_per_voxel_and_other_dimensions_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mask{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(path))
    assert (refusal(path).code, refusal(path).problem[:19]) == ("VOXEL_TYPE", "3 numbers per voxel")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(path))
    assert (refusal(path).code, "5 × 4" in refusal(path).problem) == ("NOT_3D", True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 4, 5, 6), np.uint8), isVector=False), str(path))
    assert (refusal(path).code, "6 × 5 × 4 × 2" in refusal(path).problem) == ("NOT_3D", True)


def test_layers_of_segments_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mask.seg.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 2), np.uint8), isVector=True), str(path))
    path.write_bytes(path.read_bytes().replace(b"kinds: vector", b"kinds: list"))
    error = refusal(with_texts(path, {"Segment0_Name": "lésion", "Segment1_Name": "oedème", "Segment1_Layer": "1"}))
    assert error.code == "NOT_3D"
    assert "2 layers of segments, which may overlap: lésion, oedème" in error.problem
    assert "labelmap" in error.remedy


def test_the_values_of_segments_have_their_names(tmp_path: Path) -> None:
    path = save_itk(tmp_path / "mask.seg.nrrd", lesion("a"), RAS)
    with_texts(path, {"Segment0_Name": "a: b", "Segment0_LabelValue": "2", "Segment1_LabelValue": "1"})
    assert read(path).header.label_names == ((2.0, "a: b"), (1.0, ""))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_name_that_is_not_utf8_is_read(tmp_path: Path, ending: str) -> None:
    path = save_itk(tmp_path / f"mask{ending}", lesion("a"), RAS)
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/l\xe9sion" + ending.encode()))
    path.rename(odd)
    np.testing.assert_array_equal(read(odd).data, lesion("a"))
