"""Damaged images are refused, whoever reads them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.evaluation import Pair, evaluate
from nnunet_transformers.comparison.metrics.images import UnreadableImageError, read_image, read_volume

VOXELS = (np.random.default_rng(0).random((20, 22, 24)) < 0.1).astype(np.uint8)


@pytest.fixture(params=["nii", "nii.gz", "nrrd", "mha"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"mask.{request.param}"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path), useCompression=True)
    return path


def test_a_whole_image_is_read(path: Path) -> None:
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), VOXELS)


@pytest.mark.parametrize("missing", [8, 60, 1000])
def test_an_image_that_was_cut_off_is_refused(path: Path, missing: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-missing])
    for read in (read_image, read_volume):
        with pytest.raises(UnreadableImageError, match=path.name):
            read(path)


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[:500] + bytes([content[500] ^ 16]) + content[501:],
        lambda content: content[:-8] + bytes(4) + content[-4:],
        lambda content: content[:-4] + bytes(4),
        lambda content: content[:-1],
        lambda content: content + b"more",
        lambda content: gzip.compress(gzip.decompress(content)[:-1000]),
        lambda content: b"",
    ],
    ids=["a bit", "CRC", "length", "its last byte", "something after it", "fewer voxels", "empty"],
)
def test_damaged_gzip_data_are_refused(tmp_path: Path, damaged: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(UnreadableImageError):
        read_image(path)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), VOXELS)


@pytest.mark.parametrize("which", ["reference", "prediction"])
def test_a_segmentation_that_was_cut_off_is_not_scored(tmp_path: Path, which: str) -> None:
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("reference", "prediction")}
    for path in files.values():
        sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    files[which].write_bytes(files[which].read_bytes()[:-60])
    with pytest.raises(ComparisonError, match=f"cannot be read: {files[which]}") as error:
        evaluate([Pair("unet", "clinic", None, "a", "a", "", **files)])
    assert error.value.code == "UNREADABLE_SEGMENTATION"
