"""Tests on the differences of pairs: Wilcoxon's signed ranks, two one-sided tests, and the correction for many of them.

Differences are those of independent subjects, in the metric's unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_EXACT_UP_TO = 50  # differences other than zero, as in scipy


@dataclass(frozen=True)
class SignedRanks:
    """Wilcoxon's signed-rank test.

    Attributes:
        p: two-sided; 1 if all differences are zero, not a number without any.
        rank_biserial: matched-pairs rank-biserial correlation, -1 to 1: the share of the rank sum that belongs to
            positive differences minus the share of negative ones (Kerby, Comprehensive Psychology 3, 2014). The ranks
            of zeros count in the whole, so that few differences among many zeros are a small effect.
    """

    p: float
    rank_biserial: float


def signed_rank_test(differences: np.ndarray) -> SignedRanks:
    """Wilcoxon, Biometrics Bulletin 1, 1945; zeros as in Pratt, JASA 54, 1959: ranked with the others, then left out.

    The distribution is that of the observed ranks under random signs, so ties need no correction: exact up to 50
    differences other than zero, normal without continuity correction above.

    Args:
        differences: (n,), finite.
    """
    n = len(differences)
    if n == 0:
        return SignedRanks(math.nan, math.nan)
    ranks = stats.rankdata(np.abs(differences))
    positive, negative = ranks[differences > 0].sum(), ranks[differences < 0].sum()
    signed = ranks[differences != 0]
    if len(signed) == 0:
        p = 1.0
    elif len(signed) <= _EXACT_UP_TO:
        p = _exact_p(signed, min(positive, negative))
    else:
        z = (positive - negative) / math.sqrt((signed**2).sum())
        p = float(2 * stats.norm.sf(abs(z)))
    return SignedRanks(p, float((positive - negative) / (n * (n + 1) / 2)))


def smallest_p(n: np.ndarray) -> np.ndarray:
    """The smallest p-value the signed-rank test can give for n subjects."""
    return 2.0 ** (1.0 - n)


def t_equivalence(differences: np.ndarray, margin: float) -> float:
    """p-value of two one-sided paired t tests: that the mean difference lies within ±margin.

    Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987. The larger of the two p-values; below alpha
    exactly if the t interval of confidence 1 - 2 alpha lies within the margin. Not a number for fewer than two
    differences.
    """
    n = len(differences)
    if n < 2:
        return math.nan
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / math.sqrt(n)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(mean)) / error, n - 1))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values of one family, in its order (Holm, Scandinavian Journal of Statistics 6, 1979).

    A p-value that is not a number stays so and does not count in the size of the family.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def wilson_interval(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Interval of a proportion (Wilson, JASA 22, 1927), never of width zero; not a number if there is no share."""
    if math.isnan(share) or not n > 0:
        return math.nan, math.nan
    z = float(stats.norm.isf((1 - confidence) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _exact_p(ranks: np.ndarray, smaller_sum: float) -> float:
    """Two-sided p-value of the smaller rank sum when every rank has a random sign."""
    doubled = np.rint(2 * ranks).astype(int)  # midranks are halves
    chance = np.zeros(doubled.sum() + 1)
    chance[0] = 1.0
    for rank in doubled:
        chance[rank:] = 0.5 * (chance[rank:] + chance[:-rank])
        chance[:rank] *= 0.5
    return min(1.0, float(2 * chance[: round(2 * smaller_sum) + 1].sum()))
