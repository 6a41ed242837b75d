from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_conversion.qc.pictures import OUTLINE, lesion_slices, montage
from dataset_conversion.qc.planes import PLANES

SHAPE = (60, 80, 50)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius_mm: float, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    squared = sum(((along - at) * step) ** 2 for along, at, step in zip(grid, centre, spacing, strict=True))
    return (squared <= radius_mm**2).astype(np.uint8)


def pixels(jpeg: bytes) -> np.ndarray:
    """(rows, columns, RGB)."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture.convert("RGB")).astype(int)


def panels(jpeg: bytes, widths: list[int]) -> dict[str, np.ndarray]:
    """The three planes of a montage of one image."""
    picture = pixels(jpeg)
    starts = [0, widths[0] + 4, widths[0] + widths[1] + 8]
    return {
        plane: picture[:, start : start + width] for plane, start, width in zip(PLANES, starts, widths, strict=True)
    }


def is_outline(picture: np.ndarray) -> np.ndarray:
    return np.abs(picture - OUTLINE).max(axis=-1) < 60


def noise(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(dtype)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_each_slice_goes_through_the_larger_of_two_lesions(data: st.DataObject) -> None:
    def centre(low: int, high: int) -> tuple[int, int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(12, 68), st.integers(12, 38)))

    larger, smaller = ball(SHAPE, centre(8, 18), 7), ball(SHAPE, centre(45, 54), 4)
    index = lesion_slices(larger | smaller)
    assert index is not None
    for axis, at in enumerate(index):
        voxels = larger.sum(axis=tuple({0, 1, 2} - {axis}))
        assert voxels[at] > 0.9 * voxels.max()


def test_each_slice_of_a_hollow_lesion_holds_lesion_although_its_centre_does_not() -> None:
    hollow = ball(SHAPE, (30, 40, 25), 15) & ~ball(SHAPE, (30, 40, 25), 12)
    hollow[:, :, 25:] = 0
    index = lesion_slices(hollow)
    assert index is not None
    assert all(np.take(hollow, at, axis).any() for axis, at in enumerate(index))


def test_an_empty_mask_has_no_slices_and_its_picture_shows_the_middle() -> None:
    image = np.zeros(SHAPE, np.float32)
    image[30, 40, 25] = 1000
    empty = np.zeros(SHAPE, np.uint8)
    assert lesion_slices(empty) is None
    picture = montage({"T1w": image}, empty, (1, 1, 1))
    assert picture == montage({"T1w": image}, None, (1, 1, 1))
    for panel in panels(picture, [120, 120, 160]).values():
        assert panel[:, 30:].max() > 100  # beside the letter


def test_right_front_and_top_are_on_the_left_and_at_the_top() -> None:
    image = np.zeros((160, 160, 160), np.float32)
    image[100:, 100:, 100:] = 1000
    mask = np.zeros(image.shape, np.uint8)
    mask[120:130, 120:130, 120:130] = 1
    shown = panels(montage({"T1w": image}, mask, (1, 1, 1)), [160, 160, 160])
    for panel in shown.values():
        brightness = panel.sum(axis=-1)
        assert brightness[5:55, 5:25].min() > 700
        assert brightness[70:, 70:].max() < 60
        assert brightness[5:55, 70:].max() < 60


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 3), (3, 1, 1), (0.4, 0.4, 6), (2, 2, 2)])
def test_a_ball_is_round_whatever_the_spacing(spacing: tuple[float, float, float]) -> None:
    shape = tuple(round(160 / step) for step in spacing)
    lesion = ball(shape, tuple(80 / step for step in spacing), 40, spacing)
    picture = montage({"T1w": np.zeros(shape, np.int16)}, lesion, spacing)
    height, width, _ = pixels(picture).shape
    assert (width - 8) / height == pytest.approx(3, rel=0.02)
    for panel in panels(picture, [height] * 3).values():
        rows, columns = np.nonzero(is_outline(panel))
        assert np.ptp(rows) == pytest.approx(height / 2, abs=8)
        assert np.ptp(columns) == pytest.approx(height / 2, abs=8)


def test_the_outline_lies_around_the_lesion_in_every_row_and_covers_nothing_of_it() -> None:
    image = np.full((160, 160, 160), 100, np.float32)
    lesion = ball(image.shape, (80, 80, 80), 20) != 0
    image[lesion] = 0
    picture = pixels(montage({"T1w": image, "FLAIR": image[::-1]}, lesion, (1, 1, 1)))
    assert picture.shape == (324, 488, 3)
    for top in (0, 164):
        for left in (0, 164, 328):
            panel = picture[top : top + 160, left : left + 160]
            rows, columns = np.nonzero(is_outline(panel))
            distance = np.hypot(rows - 79, columns - 79)
            assert len(distance) > 100
            assert distance.min() > 19
            assert distance.max() < 23


def test_a_lesion_of_one_voxel_is_seen_in_a_volume_scaled_to_half() -> None:
    mask = np.zeros((512, 512, 30), np.uint8)
    mask[301, 203, 11] = 1
    shown = panels(montage({"T1w": np.zeros(mask.shape, np.uint8)}, mask, (0.5, 0.5, 4)), [256, 256, 256])
    assert all(is_outline(panel).sum() >= 3 for panel in shown.values())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "image",
    [
        np.zeros(SHAPE),
        np.full(SHAPE, -7, np.int16),
        np.full(SHAPE, np.nan),
        np.where(noise() > 110, np.inf, noise()),
        np.where(noise() > 110, np.nan, -noise()),
        noise(">f8") * 1e30,
        noise("uint16"),
        noise() > 120,
        np.arange(SHAPE[0])[:, None, None] + np.zeros(SHAPE) == 30,
    ],
    ids=["zeros", "constant", "all NaN", "inf", "NaN and negative", "large", "integer", "bool", "few bright"],
)
def test_any_image_gives_a_picture(image: np.ndarray) -> None:
    picture = pixels(montage({"T1w": image}, ball(SHAPE, (20, 30, 20), 5), (1, 1, 1.3)))
    assert is_outline(picture).sum() > 50


@pytest.mark.parametrize(
    ("shape", "spacing"), [((1, 1, 1), (1, 1, 1)), ((3, 300, 2), (9, 0.1, 1)), ((9, 9, 9), (1, 1, 1e4))]
)
def test_any_shape_gives_a_picture(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    picture = pixels(montage({"T1w": np.zeros(shape)}, np.ones(shape, np.uint8), spacing))
    assert max(picture.shape) < 800


def test_a_few_bright_voxels_on_an_even_background_are_seen() -> None:
    image = np.full((160, 160, 160), 5, np.int16)
    image[80:82, 80:82, 80:82] = 6
    for panel in panels(montage({"T1w": image}, None, (1, 1, 1)), [160, 160, 160]).values():
        assert panel[70:90, 70:90].max() > 200
        assert panel[:, 100:].max() < 30


def test_the_grey_scale_does_not_depend_on_units() -> None:
    image = noise()
    one, other = (pixels(montage({"T1w": scaled}, None, (1, 1, 1))) for scaled in (image, image * 4096 - 1e4))
    assert np.abs(one - other).max() < 12
    assert np.ptp(one[:, 30:90]) > 200


def test_equal_input_gives_equal_bytes_however_it_lies_in_memory() -> None:
    image, mask = noise(), ball(SHAPE, (20, 30, 20), 5)
    first = montage({"T1w": image}, mask, (1, 1, 1))
    assert first == montage({"T1w": np.asfortranarray(image)}, np.asfortranarray(mask), (1, 1, 1))
    assert first == montage({"T1w": image[::-1].copy()[::-1]}, mask[:, ::-1].copy()[:, ::-1], (1, 1, 1))


def test_images_and_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        montage({"T1w": noise(), "FLAIR": noise()[1:]}, None, (1, 1, 1))
    with pytest.raises(ValueError, match="one shape"):
        montage({"T1w": noise()}, np.zeros((2, 2, 2), np.uint8), (1, 1, 1))
    with pytest.raises(ValueError, match="needs images"):
        montage({}, None, (1, 1, 1))
