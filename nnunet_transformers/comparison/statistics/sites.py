"""Sites as the unit that was drawn: hospitals differ, and results are to hold for those that nobody has seen.

Sites are resampled, each with all of its subjects: drawing subjects within them too would count their variation twice
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The standard error that this gives of
a mean has a closed form, which is widened for sites of uneven size (Bell and McCaffrey, Survey Methodology 28, 2002:
CR2) and taken with a t quantile whose degrees of freedom follow from the sizes and from how much sites differ (Imbens
and Kolesár, Review of Economics and Statistics 98, 2016). Other statistics have the error of their resamples, scaled as
that of the mean is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

FEWEST_SITES = 6

RULE = f"where the site of each case is known and there are {FEWEST_SITES} or more"


@dataclass(frozen=True)
class SiteLevel:
    """What turns sites into intervals and tests.

    Attributes:
        codes: (n,), 0 to n_sites - 1, of each value.
        mean: of the values.
        error: its standard error.
        degrees: of freedom.
    """

    codes: np.ndarray
    n_sites: int
    mean: float
    error: float
    degrees: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the mean."""
        half = self._t(confidence) * self.error
        return self.mean - half, self.mean + half

    def interval_of(
        self, estimate: float, distribution: np.ndarray, means: np.ndarray, confidence: float
    ) -> tuple[float, float]:
        """Of another statistic, from its values and those of the mean on the same resampled sites."""
        spread = float(np.std(means))
        error = float(np.std(distribution)) * (self.error / spread if spread else 1.0)
        half = self._t(confidence) * error
        return estimate - half, estimate + half

    @property
    def p(self) -> float:
        """Two-sided, of the hypothesis that the mean is 0."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.degrees))

    def p_equivalence(self, margin: float) -> float:
        """The larger p-value of two one-sided tests that the mean lies within ±margin."""
        if self.error == 0:
            return 0.0 if abs(self.mean) < margin else 1.0
        return float(stats.t.sf((margin - abs(self.mean)) / self.error, self.degrees))

    def _t(self, confidence: float) -> float:
        return float(stats.t.isf((1 - confidence) / 2, self.degrees))


@dataclass(frozen=True)
class Heterogeneity:
    """How much the mean difference varies between sites.

    Attributes:
        agreeing: sites whose mean difference has the sign of the mean over all cases.
        between_sd: standard deviation of the true site means, in the metric's unit (DerSimonian and Laird, Controlled
            Clinical Trials 7, 1986, with the variance within sites pooled).
        i_squared: share of the variation of site means that is not chance (Higgins and Thompson, Statistics in Medicine
            21, 2002).
        p: of Cochran's Q, that there is none.
    """

    n_sites: int
    agreeing: int
    between_sd: float
    i_squared: float
    p: float


def site_codes(sites: np.ndarray | None) -> np.ndarray | None:
    """Numbers from 0 for the names (n,) of sites; None where RULE does not hold.

    Args:
        sites: None or an empty name: not known.
    """
    names = np.asarray([] if sites is None else sites, dtype=object)
    if not all(isinstance(name, str) and name for name in names):
        return None
    found, codes = np.unique(names.astype(str), return_inverse=True)
    return codes if len(found) >= FEWEST_SITES else None


def site_level(values: np.ndarray, sites: np.ndarray | None) -> SiteLevel | None:
    """The level of sites; None where RULE does not hold.

    Args:
        values: (n,), finite.
        sites: (n,), see `site_codes`.
    """
    codes = site_codes(sites)
    if codes is None:
        return None
    sizes = np.bincount(codes)
    share = sizes / len(values)
    mean = float(values.mean())
    centred = values - mean
    contributions = np.bincount(codes, weights=centred) / len(values)
    error = math.sqrt((contributions**2 / (1 - share)).sum())
    between, within = _components(centred, codes, sizes)
    # Weights of the site means in the adjusted residuals whose squares are summed.
    adjusted = (np.eye(len(sizes)) - share) * (share / np.sqrt(1 - share))[:, None]
    variances = between + within / sizes if between + within > 0 else np.ones(len(sizes))
    form = (adjusted * variances) @ adjusted.T
    degrees = float(np.trace(form) ** 2 / (form**2).sum())
    return SiteLevel(codes, len(sizes), mean, error, degrees)


def heterogeneity(values: np.ndarray, sites: np.ndarray) -> Heterogeneity | None:
    """Of the differences (n,) of cases at sites (n,); None for a single site."""
    _, codes = np.unique(np.asarray(sites).astype(str), return_inverse=True)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        return None
    means = np.bincount(codes, weights=values) / sizes
    agreeing = int((np.sign(means) == np.sign(values.mean())).sum())
    between, within = _components(values - values.mean(), codes, sizes)
    spread = float((sizes * (means - values.mean()) ** 2).sum())
    q = spread / within if within > 0 else math.inf if spread > 0 else 0.0
    freedom = len(sizes) - 1
    i_squared = max(0.0, 1 - freedom / q) if q > 0 else 0.0
    return Heterogeneity(len(sizes), agreeing, math.sqrt(between), i_squared, float(stats.chi2.sf(q, freedom)))


def site_agreement(scores: pd.DataFrame, baseline: str) -> dict[str, Heterogeneity]:
    """How the difference of each model to the baseline varies between sites, where there are two or more.

    Args:
        scores: of one set and metric.
    """
    values = scores.pivot(index="case", columns="model", values="value")
    sites = scores.drop_duplicates("case").set_index("case")["site"].reindex(values.index).fillna("")
    found = {}
    for model in values.columns.drop(baseline, errors="ignore") if baseline in values else ():
        difference = (values[model] - values[baseline])[sites != ""].dropna()
        if len(difference) and (of_sites := heterogeneity(difference.to_numpy(), sites[difference.index].to_numpy())):
            found[str(model)] = of_sites
    return found


def _components(centred: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Variance between and within sites, by moments."""
    n, n_sites = len(centred), len(sizes)
    means = np.bincount(codes, weights=centred) / sizes
    freedom = n - n_sites
    within = float(((centred - means[codes]) ** 2).sum() / freedom) if freedom else 0.0
    scale = n - float((sizes.astype(float) ** 2).sum()) / n
    spread = float((sizes * means**2).sum())
    between = max(0.0, (spread - (n_sites - 1) * within) / scale) if scale > 0 else 0.0
    return between, within
