"""PR-AUC beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import auc, precision_recall_curve

from nnunet_transformers.comparison.metrics.precision_recall import area_under_precision_recall


def scikit_learn(reference: np.ndarray, probability: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(reference.ravel(), probability.astype(np.float32).ravel())
    return float(auc(recall, precision))


@settings(max_examples=300)
@given(st.data(), st.integers(1, 60), st.sampled_from([2, 4, 1000]))
def test_the_area_is_that_of_scikit_learn(data: st.DataObject, n: int, levels: int) -> None:
    reference = data.draw(arrays(bool, n))
    probability = data.draw(arrays(int, n, elements=st.integers(0, levels))) / levels
    reference[data.draw(st.integers(0, n - 1))] = True
    assert area_under_precision_recall(reference, probability) == pytest.approx(
        scikit_learn(reference, probability), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_area_of_a_map_with_missed_lesions_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = np.zeros((20, 24, 28), bool)
    reference[3:7, 4:9, 5:10] = reference[14:16, 14:16, 14:16] = True
    logits = rng.normal(-6, 3, reference.shape) + 9 * np.roll(reference, seed, 0)
    probability = 1 / (1 + np.exp(-logits))
    probability = probability.astype(np.float16) if seed % 2 else probability  # many ties
    assert area_under_precision_recall(reference, probability) == pytest.approx(
        scikit_learn(reference, probability), abs=1e-12
    )


def test_without_a_lesion_only_a_constant_map_is_right() -> None:
    nothing = np.zeros((2, 3, 4), bool)
    assert area_under_precision_recall(nothing, np.full(nothing.shape, 0.3)) == 1
    assert area_under_precision_recall(nothing, np.linspace(0, 1e-6, 24).reshape(2, 3, 4)) == 0


def test_a_map_of_lesion_alone_is_found_at_every_threshold() -> None:
    everything = np.ones((2, 2, 2), bool)
    assert area_under_precision_recall(everything, np.linspace(0, 1, 8).reshape(2, 2, 2)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_maps_that_are_not_finite_or_of_another_shape_are_refused(bad: float) -> None:
    reference = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="not finite"):
        area_under_precision_recall(reference, np.full((2, 2, 2), bad))
    with pytest.raises(ValueError, match="probability map"):
        area_under_precision_recall(reference, np.zeros((2, 2, 3)))
