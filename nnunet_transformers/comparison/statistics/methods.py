"""What was done, in words: text for the report and for the methods section of a paper, from the options used."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_transformers.comparison.statistics.options import FEW_SUBJECTS, Options
from nnunet_transformers.comparison.statistics.sites import RULE
from nnunet_transformers.comparison.statistics.verdict import RULES

CAVEAT_CROSS_VALIDATION = (
    "Cross-validation scores every case once, by a network that has not seen it. But the networks of different folds "
    "share most of their training data, and all cases of one fold are scored by the same network, so the differences "
    "are not independent samples of how the training methods compare: their variance over new training data cannot "
    "be estimated without bias from one cross-validation, and tests that assume independence reject too often "
    "(Nadeau and Bengio 2003; Demšar 2006; Benavoli et al. 2016 on what follows for mean ranks). The p-values and "
    "intervals here describe these trained networks on subjects like these; as statements about the methods they are "
    "descriptive. What supports a difference is that it appears in every fold, on a test set, and after training "
    "again with another seed."
)

CAVEAT_TEST_SET = (
    "On a test set the intervals and p-values hold for these trained models on subjects from the same source. They "
    "do not contain the variation between trainings, and a model that was selected on the test set looks better on "
    "it than it is."
)

REFERENCES = (
    "Bell RM, McCaffrey DF. Bias reduction in standard errors for linear regression with multi-stage samples. Survey "
    "Methodology 28:169–181, 2002.",
    "Benavoli A, Corani G, Mangili F. Should we really use post-hoc tests based on mean-ranks? JMLR 17(5):1–10, 2016.",
    "Demšar J. Statistical comparisons of classifiers over multiple data sets. JMLR 7:1–30, 2006.",
    "Hesterberg TC. What teachers should know about the bootstrap. The American Statistician 69(4):371–386, 2015.",
    "Holm S. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6:65–70, "
    "1979.",
    "Imbens GW, Kolesár M. Robust standard errors in small samples: some practical advice. The Review of Economics and "
    "Statistics 98:701–712, 2016.",
    "Iman RL, Davenport JM. Approximations of the critical region of the Friedman statistic. Communications in "
    "Statistics A9:571–595, 1980.",
    "Kerby DS. The simple difference formula: an approach to teaching nonparametric correlation. Comprehensive "
    "Psychology 3:1, 2014.",
    "Kish L. Survey sampling. Wiley, 1965.",
    "Nadeau C, Bengio Y. Inference for the generalization error. Machine Learning 52:239–281, 2003.",
    "Pratt JW. Remarks on zeros and ties in the Wilcoxon signed rank procedures. JASA 54:655–667, 1959.",
    "Schuirmann DJ. A comparison of the two one-sided tests procedure and the power approach for assessing the "
    "equivalence of average bioavailability. Journal of Pharmacokinetics and Biopharmaceutics 15:657–680, 1987.",
    "Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bulletin 1:80–83, 1945.",
    "Wilson EB. Probable inference, the law of succession, and statistical inference. JASA 22:209–212, 1927.",
)


def methods_text(options: Options, baseline: str, units: dict[str, str]) -> Sequence[str]:
    """Paragraphs for a methods section.

    Args:
        options: those that the numbers were computed with.
        baseline: name of the model that the others are compared with.
        units: unit of each metric reported, by its name; "" for ratios and counts.
    """
    level = f"{100 * options.confidence:g} %"
    margins = [
        f"±{margin:g}{f' {units[metric]}' if units[metric] else ''} for {metric}"
        for metric, margin in options.margins.items()
        if metric in units
    ]
    equivalence = (
        "Equivalence was tested with two one-sided tests (Schuirmann 1987) on the mean difference, its distribution "
        f"taken from the bootstrap; the margin was {', '.join(margins)}. The paired t version is given for reference."
        if margins
        else "Equivalence was not tested, as no margin was stated."
    )
    return (
        f"Means, medians and quartiles are over cases; their {level} confidence intervals come from a bootstrap that "
        f"resamples subjects with all of their cases ({options.resamples:,} resamples, seed {options.seed}; expanded "
        "percentile intervals, Hesterberg 2015). Undefined values are counted and left out. "
        f"{RULE.capitalize()}, sites are resampled instead, each with all of its subjects: of means by the "
        "cluster-robust standard error for uneven sites (Bell and McCaffrey 2002) with "
        "degrees of freedom by Imbens and Kolesár (2016), of medians and quartiles by as much wider resamples; the "
        "interval of subjects stands beside it in the tables.",
        f"Each model was compared with {baseline} on the cases that both were scored on. The difference is model "
        "minus baseline; the mean and the median difference are over cases, with intervals as above. P-values are "
        "two-sided, of Wilcoxon's signed-rank test on one mean difference per subject, with zeros ranked and then "
        "left out (Pratt 1959); exact up to 50 non-zero differences, normal above; where sites were resampled, of the "
        "mean difference by its t statistic over sites, equivalence too. They were corrected by Holm's "
        "method (1979) over the models, for each metric and set separately; within lesion sizes, sites or folds over "
        "all models and strata of one kind. The effect size is the matched-pairs rank-biserial correlation (Kerby "
        "2014), zeros counted in the rank sum. The probability that a model is better on a case counts ties half; "
        "its interval is Wilson's (1927), with the cases of a subject counted as if they agreed (Kish 1965).",
        f"{equivalence} {RULES} The level was {options.alpha:.3g}.",
        "All models were ranked on each subject (mean over its cases), on the cases that all of them have a value "
        "for, and compared by Friedman's test, corrected for ties, and its F version (Iman and Davenport 1980). "
        "Models are grouped by pairwise signed-rank tests with Holm's correction, as recommended by Benavoli et al. "
        "(2016); Nemenyi's critical difference (Demšar 2006) is given for comparison.",
        "Lesion sizes are quarters of the reference volumes above 0 ml of the cases of a set, each case once. Strata "
        f"of fewer than {FEW_SUBJECTS} subjects are marked.",
    )
