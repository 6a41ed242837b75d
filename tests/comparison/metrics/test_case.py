"""Metrics of a case: analytic answers, brute force, MONAI and nnU-Net as oracles, and laws that hold for any masks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.results_folder import write_volume
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_transformers.common.volumes.boxes import bounding_box
from nnunet_transformers.comparison.metrics.case import case_metrics
from nnunet_transformers.comparison.metrics.definitions import CONNECTIVITIES, FACTS, METRICS
from nnunet_transformers.comparison.metrics.surface import surface

SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (3.0, 0.7, 0.45)]
SYMMETRIC = ("dice", "nsd_1mm", "nsd_2mm", "hd95_mm", "assd_mm", "absolute_volume_difference_ml")
masks = arrays(bool, st.tuples(*(st.integers(1, 6),) * 3))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(*(st.integers(1, 6),) * 3))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


spacings = st.tuples(*(st.sampled_from([0.5, 0.8, 1.0, 3.0]),) * 3)


def box(start: tuple[int, ...], size: tuple[int, ...], shape: tuple[int, ...] = (20, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def ball(radius: float, centre: tuple[float, ...], shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    grid = np.indices(shape).reshape(3, -1).T * spacing
    return (np.linalg.norm(grid - np.multiply(centre, spacing), axis=1) <= radius).reshape(shape)


def blobs(seed: int, shape: tuple[int, ...] = (18, 22, 14)) -> tuple[np.ndarray, np.ndarray]:
    """Two similar masks of several lesions, some of which touch the border."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    other = field + 0.4 * ndimage.gaussian_filter(rng.normal(size=shape), 2)
    return field > np.quantile(field, 0.85), other > np.quantile(other, 0.88)


def brute_force_surface(mask: np.ndarray) -> np.ndarray:
    """(n, 3) indices of lesion voxels of which a face neighbour is not lesion or not in the image."""
    voxels = {tuple(voxel) for voxel in np.argwhere(mask).tolist()}
    steps = [step for axis in range(3) for step in (np.eye(3, dtype=int)[axis], -np.eye(3, dtype=int)[axis])]
    return np.array([v for v in sorted(voxels) if any(tuple(np.add(v, step).tolist()) not in voxels for step in steps)])


def test_every_metric_is_returned_and_defined() -> None:
    values = case_metrics(box((2, 2, 2), (4, 4, 4)), box((2, 2, 2), (4, 4, 5)), (1, 1, 1))
    assert set(values) == set(METRICS) | set(FACTS)
    for name, metric in METRICS.items():
        assert (metric.name, bool(metric.definition), bool(metric.source)) == (name, True, True)
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)


def test_a_perfect_prediction_has_the_best_value_of_every_metric() -> None:
    mask, _ = blobs(0)
    values = case_metrics(mask, mask, (1, 1, 3), np.where(mask, 0.6, 0.4))
    for name, metric in METRICS.items():
        assert values[name] == (1 if metric.higher_is_better else 0), name


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plate_shifted_across_its_plane_is_off_by_the_shift(spacing: tuple[float, ...], axis: int) -> None:
    size = tuple(1 if a == axis else 20 for a in range(3))
    start, shifted = (tuple(position if a == axis else 0 for a in range(3)) for position in (4, 7))
    values = case_metrics(box(start, size), box(shifted, size), spacing)
    shift = 3 * spacing[axis]
    assert values["hd95_mm"] == pytest.approx(shift)
    assert values["assd_mm"] == pytest.approx(shift)
    assert values["nsd_1mm"] == 0
    assert values["nsd_2mm"] == (shift <= 2)
    assert values["dice"] == 0


def test_a_shifted_cube_has_the_dice_and_the_volumes_of_its_overlap() -> None:
    values = case_metrics(box((5, 5, 5), (6, 6, 6)), box((5, 5, 7), (6, 6, 8)), (1, 1, 3))
    assert values["dice"] == pytest.approx(2 * 36 * 4 / (36 * 6 + 36 * 8))
    assert values["reference_ml"] == pytest.approx(36 * 6 * 3 / 1000)
    assert values["prediction_ml"] == pytest.approx(36 * 8 * 3 / 1000)
    assert values["volume_difference_ml"] == pytest.approx(36 * 2 * 3 / 1000)


def test_too_little_is_a_negative_volume_difference_and_its_size_is_not_lost() -> None:
    """The ATLAS scorer's single-case branch subtracts the prediction from itself and always gives 0."""
    values = case_metrics(box((5, 5, 5), (6, 6, 6)), box((5, 5, 5), (6, 6, 5)), (2, 2, 2))
    assert values["volume_difference_ml"] == pytest.approx(-36 * 8 / 1000)
    assert values["absolute_volume_difference_ml"] == pytest.approx(36 * 8 / 1000)


def test_concentric_balls_are_apart_by_the_difference_of_their_radii() -> None:
    spacing, shape, centre = (1.0, 1.0, 0.5), (48, 48, 96), (23.5, 23.5, 47.5)
    values = case_metrics(ball(20, centre, shape, spacing), ball(16, centre, shape, spacing), spacing)
    assert values["assd_mm"] == pytest.approx(4, abs=0.25)
    assert values["hd95_mm"] == pytest.approx(4, abs=0.8)
    assert values["dice"] == pytest.approx(2 * 16**3 / (16**3 + 20**3), abs=0.01)
    assert values["volume_difference_ml"] == pytest.approx(4 / 3 * math.pi * (16**3 - 20**3) / 1000, rel=0.01)


def test_a_lesion_that_fills_the_image_has_the_image_border_as_surface() -> None:
    full = np.ones((9, 9, 9), bool)
    assert np.count_nonzero(surface(full)) == 9**3 - 7**3
    inner = box((4, 4, 4), (1, 1, 1), (9, 9, 9))
    assert case_metrics(full, inner, (1, 1, 1))["hd95_mm"] > 4  # from the corners and edges, not from the centre


def test_a_distance_of_one_mm_is_within_one_mm_whatever_the_header_rounds() -> None:
    size = (1, 20, 20)
    for spacing in (0.2, float(np.float32(0.2)), float(np.float32(1.1)) / 5.5):
        values = case_metrics(box((2, 0, 0), size), box((7, 0, 0), size), (spacing, 1, 1))
        assert values["nsd_1mm"] == 1
    assert case_metrics(box((2, 0, 0), size), box((7, 0, 0), size), (0.2001, 1, 1))["nsd_1mm"] == 0


def test_hd95_is_the_larger_of_the_directed_percentiles_not_of_both_together() -> None:
    reference = box((0, 0, 0), (1, 20, 20))
    prediction = reference.copy()
    prediction[0, 0, 0] = False
    prediction[10, 0, :3] = True  # under 5 % of the prediction's surface
    assert case_metrics(reference, prediction, (1, 1, 1))["hd95_mm"] == 0
    prediction[10, 0, :] = prediction[10, 1, :] = True  # 40 of 439: above 5 % of one surface
    assert case_metrics(reference, prediction, (1, 1, 1))["hd95_mm"] == 10


EMPTY = np.zeros((10, 20, 30), bool)
LESION = box((0, 0, 0), (2, 2, 2), (10, 20, 30))
DIAGONAL = math.sqrt(10**2 + 20**2 + 90**2)


@pytest.mark.parametrize(
    ("reference", "prediction", "flags", "score", "distance", "precision", "recall", "count"),
    [
        (EMPTY, EMPTY, (True, True, True), 1, 0, 1, None, 0),
        (LESION, EMPTY, (False, True, False), 0, DIAGONAL, 0, 0, 1),
        (EMPTY, LESION, (True, False, False), 0, DIAGONAL, 0, None, 1),
    ],
    ids=["both", "prediction", "reference"],
)
def test_empty_masks_have_stated_values(
    reference: np.ndarray,
    prediction: np.ndarray,
    flags: tuple[bool, bool, bool],
    score: float,
    distance: float,
    precision: float,
    recall: float | None,
    count: int,
) -> None:
    values = case_metrics(reference, prediction, (1, 1, 3))
    assert (values["reference_empty"], values["prediction_empty"], values["both_empty"]) == flags
    assert {values[name] for name in ("dice", "nsd_1mm", "nsd_2mm")} == {score}
    assert values["hd95_mm"] == values["assd_mm"] == pytest.approx(distance)
    for challenge in CONNECTIVITIES:
        assert values[f"lesion_f1_{challenge}"] == score
        assert values[f"lesion_precision_{challenge}"] == precision
        assert values.get(f"lesion_count_difference_{challenge}", count) == count
        found = values[f"lesion_recall_{challenge}"]
        assert math.isnan(found) if recall is None else found == recall


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_surface_metrics_are_those_of_monai(seed: int, spacing: tuple[float, ...]) -> None:
    reference, prediction = blobs(seed)
    values = case_metrics(reference, prediction, spacing)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    common = {"include_background": True, "spacing": spacing}
    hd95 = compute_hausdorff_distance(*tensors, percentile=95, **common)
    assd = compute_average_surface_distance(*tensors, symmetric=True, **common)
    assert values["hd95_mm"] == pytest.approx(float(hd95), rel=1e-5)
    assert values["assd_mm"] == pytest.approx(float(assd), rel=1e-5)
    for tolerance in (1.0, 2.0):
        nsd = compute_surface_dice(*tensors, [tolerance], **common)
        assert values[f"nsd_{tolerance:g}mm"] == pytest.approx(float(nsd), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(pairs(), spacings)
def test_surface_metrics_are_those_of_brute_force(
    two: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]
) -> None:
    reference, prediction = two
    assume(reference.any() and prediction.any())
    values = case_metrics(reference, prediction, spacing)
    distances = cdist(*(brute_force_surface(mask) * spacing for mask in two))
    to_prediction, to_reference = distances.min(axis=1), distances.min(axis=0)
    both = np.r_[to_prediction, to_reference]
    assert values["assd_mm"] == pytest.approx(both.mean())
    assert values["hd95_mm"] == pytest.approx(max(np.percentile(d, 95) for d in (to_prediction, to_reference)))
    assert values["nsd_1mm"] == pytest.approx(np.mean(both <= 1 + 1e-9))
    assert values["nsd_2mm"] == pytest.approx(np.mean(both <= 2 + 1e-9))


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_nnunet(seed: int, tmp_path: Path) -> None:
    reference, prediction = blobs(seed)
    paths = [
        str(write_volume(tmp_path / name, mask.astype(np.uint8)))
        for name, mask in (("reference.nii.gz", reference), ("prediction.nii.gz", prediction))
    ]
    theirs = compute_metrics(*paths, SimpleITKIO(), [1])["metrics"][1]["Dice"]
    assert case_metrics(reference, prediction, (2, 2, 2))["dice"] == pytest.approx(theirs, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(pairs(), spacings)
def test_exchanging_the_masks_changes_nothing_but_signs_and_roles(
    two: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]
) -> None:
    values, exchanged = case_metrics(*two, spacing), case_metrics(*two[::-1], spacing)
    for name in SYMMETRIC:
        assert values[name] == pytest.approx(exchanged[name]), name
    assert values["volume_difference_ml"] == -exchanged["volume_difference_ml"]
    assert values["lesion_count_difference_isles"] == exchanged["lesion_count_difference_isles"]


@settings(max_examples=40, deadline=None)
@given(pairs(), spacings, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_flipped_and_turned_images_have_the_same_values(
    two: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...], order: list[int], flipped: set[int]
) -> None:
    turned = [np.flip(mask.transpose(order), tuple(flipped)) for mask in two]
    values = case_metrics(*two, spacing)
    assert case_metrics(*turned, [spacing[axis] for axis in order]) == pytest.approx(values, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.tuples(*(st.tuples(st.integers(0, 3), st.integers(0, 3)),) * 3))
def test_background_around_the_lesions_changes_nothing_unless_one_mask_is_empty(
    two: tuple[np.ndarray, np.ndarray], width: tuple[tuple[int, int], ...]
) -> None:
    assume(two[0].any() == two[1].any())
    padded = [np.pad(mask, width) for mask in two]
    values = case_metrics(*two, (1, 1, 3))
    assert case_metrics(*padded, (1, 1, 3)) == pytest.approx(values, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(pairs(), spacings)
def test_values_stay_in_their_ranges(two: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]) -> None:
    values = case_metrics(*two, spacing)
    diagonal = np.linalg.norm(np.multiply(spacing, two[0].shape))
    for name, metric in METRICS.items():
        if metric.higher_is_better:
            assert math.isnan(values[name]) or 0 <= values[name] <= 1, name
    assert values["nsd_1mm"] <= values["nsd_2mm"]
    assert 0 <= values["hd95_mm"] <= diagonal
    assert 0 <= values["assd_mm"] <= diagonal


@settings(max_examples=40, deadline=None)
@given(pairs(), st.data())
def test_one_more_voxel_of_the_lesion_found_raises_dice(
    two: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    reference, prediction = two
    missed = np.argwhere(reference & ~prediction)
    assume(len(missed))
    better = prediction.copy()
    better[tuple(missed[data.draw(st.integers(0, len(missed) - 1))])] = True
    assert case_metrics(reference, better, (1, 1, 1))["dice"] > case_metrics(reference, prediction, (1, 1, 1))["dice"]


@pytest.mark.parametrize("name", ["hd95_mm", "assd_mm"])
def test_the_farther_a_lesion_is_predicted_the_larger_the_distance(name: str) -> None:
    reference = box((1, 8, 8), (4, 4, 4))
    distances = [case_metrics(reference, box((start, 8, 8), (4, 4, 4)), (1, 1, 1))[name] for start in range(1, 16)]
    assert distances == sorted(set(distances))


@given(masks)
def test_the_box_is_the_smallest_that_holds_the_mask(mask: np.ndarray) -> None:
    inside = mask[bounding_box(mask)]
    assert np.count_nonzero(inside) == np.count_nonzero(mask)
    if mask.any():
        assert all(inside.any(axis=tuple({0, 1, 2} - {axis}))[[0, -1]].all() for axis in range(3))


def test_the_arguments_are_not_changed_and_integers_are_masks_too() -> None:
    reference, prediction = blobs(1)
    as_integers = [mask.astype(np.uint8) for mask in (reference, prediction)]
    copies = [mask.copy() for mask in as_integers]
    values = case_metrics(*as_integers, (1, 1, 1))
    assert values == pytest.approx(case_metrics(reference, prediction, (1, 1, 1)), rel=0, abs=0, nan_ok=True)
    assert all(np.array_equal(a, b) for a, b in zip(as_integers, copies, strict=True))


@pytest.mark.parametrize(
    ("reference", "prediction", "spacing", "message"),
    [
        (EMPTY, EMPTY[1:], (1, 1, 1), "reference is .10, 20, 30. and the prediction .9, 20, 30."),
        (EMPTY, np.full(EMPTY.shape, 0.5), (1, 1, 1), "prediction holds values other than 0 and 1"),
        (np.full(EMPTY.shape, np.nan), EMPTY, (1, 1, 1), "reference holds values other than 0 and 1"),
        (EMPTY[0], EMPTY[0], (1, 1), "2 axes instead of 3"),
        (EMPTY, EMPTY, (1, 1), "three positive numbers"),
        (EMPTY, EMPTY, (1, 1, 0), "three positive numbers"),
        (EMPTY, EMPTY, (1, 1, math.nan), "three positive numbers"),
    ],
)
def test_what_is_not_two_masks_on_a_grid_is_refused(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        case_metrics(reference, prediction, spacing)


def test_the_committed_benchmark_keeps_the_promise_of_the_documentation() -> None:
    result = json.loads((Path(__file__).parents[3] / "benchmarks" / "results" / "metrics.json").read_text())
    assert result["seconds per case"]["longest"] <= 0.25
    assert result["ratio"]["largest"] <= 0.5
