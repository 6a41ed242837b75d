"""Lesions found, missed and invented, under both connectivities."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.made_up_masks import mask_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from nnunet_transformers.comparison.metrics.case import case_metrics
from nnunet_transformers.comparison.metrics.definitions import CONNECTIVITIES, METRICS
from nnunet_transformers.comparison.metrics.lesions import LesionCounts, Lesions

STRUCTURES = {"atlas": ndimage.generate_binary_structure(3, 1), "isles": np.ones((3, 3, 3))}
BY_TOUCH = tuple(STRUCTURES)


def at(*voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((12, 12, 12), bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


def lesion_by_lesion(reference: np.ndarray, prediction: np.ndarray, structure: np.ndarray) -> LesionCounts:
    """The challenges' definition taken word for word, with SciPy's components."""
    of_reference, n_reference = ndimage.label(reference, structure)
    of_prediction, n_predicted = ndimage.label(prediction, structure)
    found = sum(prediction[of_reference == lesion].any() for lesion in range(1, n_reference + 1))
    false = sum(not reference[of_prediction == lesion].any() for lesion in range(1, n_predicted + 1))
    return LesionCounts(n_reference, n_predicted, int(found), int(false))


@st.composite
def sparse_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(*(st.integers(1, 6),) * 3))
    mask = arrays(bool, shape, elements=st.sampled_from([False, False, False, True]), fill=st.nothing())
    return draw(mask), draw(mask)


@settings(max_examples=100, deadline=None)
@given(sparse_pairs(), st.sampled_from(BY_TOUCH))
def test_counts_are_those_of_looking_at_one_lesion_after_the_other(
    two: tuple[np.ndarray, np.ndarray], challenge: str
) -> None:
    assert Lesions(*two, CONNECTIVITIES[challenge]).by_touch == lesion_by_lesion(*two, STRUCTURES[challenge])


@settings(max_examples=40, deadline=None)
@given(sparse_pairs(), st.sampled_from(BY_TOUCH))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(two: tuple[np.ndarray, np.ndarray], challenge: str) -> None:
    counts = Lesions(*two, CONNECTIVITIES[challenge]).by_touch
    if counts.found:
        assert counts.f1 == pytest.approx(2 / (1 / counts.precision + 1 / counts.recall))
    elif counts.reference or counts.predicted:
        assert counts.f1 == 0


def test_two_of_three_lesions_found_and_one_invented() -> None:
    reference = at((1, 1, 1), (1, 1, 2), (5, 5, 5), (9, 9, 9))
    prediction = at((1, 1, 2), (1, 1, 3), (5, 5, 5), (1, 9, 1))
    values = case_metrics(reference, prediction, (1, 1, 1))
    for challenge in CONNECTIVITIES:
        assert values[f"lesion_f1_{challenge}"] == pytest.approx(2 / 3)
        assert values[f"lesion_precision_{challenge}"] == pytest.approx(2 / 3)
        assert values[f"lesion_recall_{challenge}"] == pytest.approx(2 / 3)
    assert values["lesion_count_difference_atlas"] == values["lesion_count_difference_isles"] == 0
    assert values["false_lesions_isles26"] == 1


@pytest.mark.parametrize(("second", "atlas", "isles"), [((4, 4, 5), 1, 1), ((4, 5, 5), 2, 1), ((5, 5, 5), 2, 1)])
def test_voxels_that_share_an_edge_or_a_corner_are_one_lesion_for_isles_and_two_for_atlas(
    second: tuple[int, int, int], atlas: int, isles: int
) -> None:
    values = case_metrics(at((4, 4, 4), second), np.zeros((12, 12, 12), bool), (1, 1, 1))
    assert values["lesion_count_difference_atlas"] == atlas
    assert values["lesion_count_difference_isles"] == isles


@pytest.mark.parametrize("shape", [(1, 9, 1), (1, 9, 9), (9, 9, 1), (7, 7, 7)])
def test_every_second_voxel_is_a_lesion_of_its_own_in_images_however_thin(shape: tuple[int, int, int]) -> None:
    mask = (np.indices(shape) % 2 == 0).all(axis=0)
    counts = Lesions(mask, mask, 26).by_touch
    assert counts.reference == counts.found == np.prod([(size + 1) // 2 for size in shape])


def test_one_voxel_of_overlap_finds_a_lesion_also_in_boolean_arrays() -> None:
    """The ATLAS scorer looks for a sum above 1, which boolean arrays never reach."""
    reference = np.zeros((12, 12, 12), bool)
    reference[2:9, 2:9, 2:9] = True
    values = case_metrics(reference, at((8, 8, 8)), (1, 1, 1))
    assert values["lesion_f1_atlas"] == values["lesion_f1_isles"] == 1


def test_a_prediction_that_joins_two_lesions_finds_both() -> None:
    reference = at((4, 4, 2), (4, 4, 6))
    prediction = at(*((4, 4, k) for k in range(2, 7)))
    counts = Lesions(reference, prediction, 6).by_touch
    assert (counts.found, counts.missed, counts.false, counts.f1, counts.count_difference) == (2, 0, 0, 1, 1)


def test_fragments_that_hit_a_lesion_are_not_false() -> None:
    reference = at(*((4, 4, k) for k in range(2, 7)))
    counts = Lesions(reference, at((4, 4, 2), (4, 4, 6)), 26).by_touch
    assert (counts.found, counts.false, counts.precision, counts.count_difference) == (1, 0, 1, 1)


def test_recall_is_undefined_for_every_model_where_there_is_no_lesion() -> None:
    nothing = np.zeros((12, 12, 12), bool)
    for prediction in (nothing, at((1, 1, 1))):
        assert math.isnan(case_metrics(nothing, prediction, (1, 1, 1))["lesion_recall_atlas"])


@pytest.mark.parametrize("challenge", CONNECTIVITIES)
def test_definitions_name_the_connectivity(challenge: str) -> None:
    for name, metric in METRICS.items():
        if name.endswith(challenge):
            assert f"{CONNECTIVITIES[challenge]}-connected" in metric.definition
            assert f"{CONNECTIVITIES[challenge]}-connected" in metric.label


PANOPTICA = json.loads(Path(__file__).with_name("panoptica_1_0_1.json").read_text())


@pytest.mark.parametrize("start", range(0, len(PANOPTICA["rows"]), 500))
def test_one_to_one_is_what_panoptica_counts_in_made_up_pairs(start: int) -> None:
    """See benchmarks/panoptica_counts.py."""
    for seed, (n_reference, n_predicted, found, rq) in enumerate(PANOPTICA["rows"][start : start + 500], start):
        counts = Lesions(*mask_pair(seed), 26).one_to_one
        assert (counts.reference, counts.predicted, counts.found) == (n_reference, n_predicted, found), seed
        assert counts.f1 == (pytest.approx(rq, abs=1e-12) if rq is not None else 1), seed


def test_a_partner_shares_a_quarter_of_the_union_and_a_lesion_has_one_partner() -> None:
    lesion = at(*((4, 4, k) for k in range(2, 6)))
    for n, found in ((1, 1), (0, 0)):  # of 4 voxels
        assert Lesions(lesion, at(*((4, 4, k) for k in range(2, 2 + n)), (9, 9, 9)), 26).one_to_one.found == found
    assert Lesions(lesion, at((4, 4, 5), (4, 4, 6)), 26).one_to_one.found == 0  # 1 of 5
    halves = Lesions(lesion, at((4, 4, 2), (4, 4, 4), (4, 4, 5)), 26).one_to_one
    assert (halves.found, halves.false, halves.missed) == (1, 1, 0)
    assert case_metrics(lesion, at((4, 4, 2), (4, 4, 4), (4, 4, 5)), (1, 1, 1))["lesion_f1_isles26"] == pytest.approx(
        2 / 3
    )
