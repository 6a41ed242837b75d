"""The same numbers by lesion size, by site and by fold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.statistics.options import FEW_SUBJECTS, Options
from nnunet_transformers.comparison.statistics.paired import comparisons_by
from nnunet_transformers.comparison.statistics.scores import checked
from nnunet_transformers.comparison.statistics.summary import summaries_by

LESION_SIZE, SITE, FOLD = "lesion size", "site", "fold"

NO_LESION, UNKNOWN_VOLUME = "no lesion", "volume unknown"

_KINDS = (LESION_SIZE, SITE, FOLD)


def lesion_size_cuts(scores: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Per set, the quartiles (ml) of the reference volumes of its cases, each case once.

    Cases without a lesion (0 ml) or of unknown volume are in none of the quarters. Sets without any other are left out.

    Raises:
        ComparisonError: a case has two reference volumes.
    """
    volumes = _reference_volumes(scores)
    volumes = volumes[volumes > 0]
    cuts = {}
    for set_, group in volumes.groupby(level="set", sort=False):
        first, second, third = np.quantile(group, (0.25, 0.5, 0.75)).tolist()
        cuts[str(set_)] = (first, second, third)
    return cuts


def with_strata(scores: pd.DataFrame, kinds: Sequence[str] = _KINDS) -> pd.DataFrame:
    """The scores once for each kind of strata, with columns `by` and `stratum`, in the order to be shown.

    Lesion size: quarters of the cases of each set, see `lesion_size_cuts`; a case on a cut is in the smaller quarter.
    Fold: cases of cross-validation; on test sets there is none.
    """
    parts = []
    if LESION_SIZE in kinds:
        parts.append(_by_size(scores))
    if SITE in kinds:
        site = scores["site"].where(scores["site"].notna() & (scores["site"] != ""), "site unknown")
        parts.append(_part(scores, SITE, site, sorted(site.unique(), key=lambda name: (name == "site unknown", name))))
    if FOLD in kinds:
        folded = scores[scores["fold"].notna()]
        names = {fold: f"fold {fold}" for fold in sorted(folded["fold"].unique())}
        parts.append(_part(folded, FOLD, folded["fold"].map(names), list(names.values())))
    return pd.concat(parts, ignore_index=True)


def stratum_summaries(scores: pd.DataFrame, options: Options, kinds: Sequence[str] = _KINDS) -> pd.DataFrame:
    """A row per set, metric, kind of strata (`by`), stratum and model, with the fields of `Summary`.

    `few` marks strata of fewer than 10 subjects.
    """
    table, order = _tables(scores, kinds)
    return _mark(summaries_by(table, ["set", "metric", "by", "stratum", "model"], order, options))


def stratum_comparisons(
    scores: pd.DataFrame, baseline: str, options: Options, kinds: Sequence[str] = _KINDS
) -> pd.DataFrame:
    """`paired.comparisons` within each stratum, with columns `by`, `stratum`, and `few` as in `stratum_summaries`.

    Holm's correction is over all models and all strata of one kind, for one set and metric.
    """
    table, order = _tables(scores, kinds)
    return _mark(comparisons_by(table, ["by", "stratum"], baseline, order, options))


def _tables(scores: pd.DataFrame, kinds: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The strata of the checked scores; and the order of sets, metrics, models and strata."""
    table = with_strata(checked(scores, also=("site", "fold", "reference_ml")), kinds)
    order = pd.concat([scores[["set", "metric", "model"]], table[["by", "stratum"]]], ignore_index=True)
    return table, order


def volume_range(low_ml: float, high_ml: float) -> str:
    """The volumes of a quarter in words."""
    if not low_ml:
        return f"up to {high_ml:.3g} ml"
    return f"above {low_ml:.3g} ml" if math.isinf(high_ml) else f"{low_ml:.3g} to {high_ml:.3g} ml"


def with_volumes(frame: pd.DataFrame, cuts: Mapping[str, tuple[float, float, float]]) -> pd.DataFrame:
    """A table of strata with the volumes (ml) a quarter lies between, `low_ml` < volume <= `high_ml`; NaN for others.

    Args:
        cuts: see `lesion_size_cuts`.
    """
    bounds = {
        (set_, LESION_SIZE, name): limits
        for set_, of_set in cuts.items()
        for name, limits in zip(_quarter_names(of_set), _limits(of_set), strict=True)
    }
    keys = frame[["set", "by", "stratum"]].itertuples(index=False, name=None)
    limits = [bounds.get(key, (math.nan, math.nan)) for key in keys]
    return frame.assign(low_ml=[low for low, _ in limits], high_ml=[high for _, high in limits])


def _mark(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(few=frame["n_subjects"] < FEW_SUBJECTS)


def _limits(cuts: tuple[float, float, float]) -> list[tuple[float, float]]:
    return list(pairwise((0.0, *cuts, math.inf)))


def _reference_volumes(scores: pd.DataFrame) -> pd.Series:
    """ml by (set, case): the one volume that is known of a case."""
    per_case = scores.groupby(["set", "case"], sort=False)["reference_ml"].agg(["min", "max"]).astype(float)
    differing = per_case[~np.isclose(per_case["min"], per_case["max"], rtol=1e-4, atol=0, equal_nan=True)]
    if len(differing):
        (set_, case), row = next(differing.iterrows())
        raise ComparisonError(
            f"two reference volumes of {case}, {set_}: {row['min']:g} and {row['max']:g} ml",
            "Models are compared on one reference: evaluate them with the same one, or report them apart. "
            "Nothing was written.",
            "REFERENCES_DIFFER",
        )
    return per_case["max"]


def _by_size(scores: pd.DataFrame) -> pd.DataFrame:
    parts = []
    cuts = lesion_size_cuts(scores)
    volumes = _reference_volumes(scores)
    for set_, group in scores.groupby("set", sort=False):
        volume = group["case"].map(volumes[set_])
        quarters = cuts.get(str(set_), (np.inf,) * 3)  # without a lesion none is used
        names = [*_quarter_names(quarters), NO_LESION, UNKNOWN_VOLUME]
        place = np.searchsorted(quarters, volume)
        place = np.select([volume > 0, volume == 0], [place, 4], 5)
        parts.append(_part(group, LESION_SIZE, pd.Series([names[i] for i in place], index=group.index), names))
    return pd.concat(parts, ignore_index=True)


def _quarter_names(cuts: tuple[float, float, float]) -> list[str]:
    return [f"Q{number}: {volume_range(*limits)}" for number, limits in enumerate(_limits(cuts), 1)]


def _part(scores: pd.DataFrame, by: str, strata: pd.Series, order: Sequence[str]) -> pd.DataFrame:
    place = strata.map({name: i for i, name in enumerate(order)})
    return scores.assign(by=by, stratum=strata, place=place).sort_values("place", kind="stable").drop(columns="place")
