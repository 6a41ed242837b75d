"""Learning curves of several folds as one."""

from __future__ import annotations

import math

import pytest

from nnunet_transformers.comparison.reporting.learning_curves import mean_curve


def test_folds_are_averaged_over_the_epochs_that_all_of_them_have() -> None:
    folds = [{0: 1.0, 1: 0.5, 2: 0.0}, {0: 3.0, 1: 0.7}]
    assert mean_curve(folds) == [(0.0, 2.0), (1.0, pytest.approx(0.6))]
    assert mean_curve([]) == []


def test_an_undefined_epoch_leaves_a_gap_and_long_curves_keep_their_mean() -> None:
    assert mean_curve([{0: 1.0, 1: math.nan, 2: 3.0}]) == [(0.0, 1.0), (2.0, 3.0)]
    long = mean_curve([{epoch: float(epoch) for epoch in range(1000)}])
    assert len(long) <= 150
    assert all(epoch == value for epoch, value in long)
    assert (long[0][0], long[-1][0]) == (3.0, 997.0) or long[0][0] < 10
