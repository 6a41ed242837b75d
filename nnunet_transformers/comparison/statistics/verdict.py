"""The verdict on a model, from the numbers of its comparison, by rules that are stated in the report."""

from __future__ import annotations

import math
from enum import Enum

from nnunet_transformers.comparison.statistics.options import FEW_SUBJECTS

RULES = (
    "Equivalent: the two one-sided tests put the difference of the means within the stated margin (Holm-corrected), "
    f"with at least {FEW_SUBJECTS} subjects. Better or worse: the signed-rank test shows a difference "
    "(Holm-corrected), and the mean points the same way as the ranks; where sites are resampled, the test of the mean "
    "over sites shows one. Where both hold, the verdict is equivalent: a difference can be detected, but it is smaller "
    "than the margin. Everything else is undecided, which is not evidence of no difference."
)


class Verdict(str, Enum):
    """What a comparison with the baseline comes to; DIFFERENT where the metric has no better direction."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value

    def text(self, margin: float) -> str:
        """The word, with the margin that equivalence was tested for."""
        return f"{self} within {margin:g}" if self is Verdict.EQUIVALENT else str(self)


def verdict(
    *,
    n_subjects: int,
    by_sites: bool = False,
    mean_difference: float,
    rank_biserial: float,
    p: float,
    p_equivalence: float,
    margin: float,
    higher_is_better: bool | None,
    alpha: float,
) -> tuple[Verdict, str]:
    """Verdict and reason, by RULES.

    Args:
        by_sites: whether p is of the mean over sites; else of ranks.
        mean_difference: model minus baseline.
        rank_biserial: of the same differences; its sign is that of the rank sums.
        p, p_equivalence: corrected for the comparisons made.
        margin: not a number if none is stated.
        higher_is_better: None for a metric that has no better direction.

    Returns:
        The verdict, and the reason as a sentence without its full stop.
    """
    if n_subjects < 2:
        return Verdict.UNDECIDED, "no subject to compare on" if n_subjects == 0 else "a single subject cannot be tested"
    differs = p < alpha
    equivalent = p_equivalence < alpha and n_subjects >= FEW_SUBJECTS
    if equivalent:
        within = "the difference of the means lies within the margin"
        return Verdict.EQUIVALENT, f"a difference is shown, but {within}" if differs else within
    if differs and (by_sites or mean_difference * rank_biserial > 0):
        reason = "the signed-rank test shows a difference, and the mean points the same way"
        reason = "the test over sites shows a difference" if by_sites else reason
        if higher_is_better is None:
            return Verdict.DIFFERENT, reason
        return Verdict.BETTER if (mean_difference > 0) == higher_is_better else Verdict.WORSE, reason
    if differs:
        return Verdict.UNDECIDED, "the signed-rank test shows a difference, but the mean does not point the same way"
    if p_equivalence < alpha:
        return (
            Verdict.UNDECIDED,
            f"no difference is detected; fewer than {FEW_SUBJECTS} subjects cannot show equivalence",
        )
    shown = "" if math.isnan(margin) else f", nor equivalence within {margin:g}"
    return Verdict.UNDECIDED, f"no difference is shown{shown}"


def beside_interval(word: Verdict, low: float, high: float, margin: float, *, by_sites: bool = False) -> str:
    """Why a verdict is not what the interval printed beside it suggests, as a clause; nothing where it is.

    The verdict is by corrected tests, of ranks or of equivalence; the interval is of the mean difference of this one
    comparison.

    Args:
        low, high: of the mean difference.
        margin: of equivalence; not a number if none is stated.
        by_sites: see `verdict`.
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    reaches_zero = low <= 0 <= high
    within = -margin < low and high < margin
    if word in (Verdict.BETTER, Verdict.WORSE, Verdict.DIFFERENT) and reaches_zero:
        return "by ranks; the interval of the mean reaches zero"
    if word is Verdict.EQUIVALENT and not within:
        return "by one-sided tests; the two-sided interval reaches beyond the margin"
    if word is Verdict.UNDECIDED and not reaches_zero:
        test = "the test corrected for several models" if by_sites else "the corrected test of ranks"
        return f"by {test}; the interval of the mean, uncorrected, does not reach zero"
    if word is Verdict.UNDECIDED and within:
        return "the interval lies within the margin, the corrected tests of equivalence do not show it"
    return ""
