"""What each metric is and how it is computed. R is the lesion in the reference, P in the prediction.

A metric stands here and nowhere else: name, unit, direction, definition and function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from nnunet_transformers.comparison.metrics.lesions import PARTNERS_IOU, LesionCounts, Lesions
from nnunet_transformers.comparison.metrics.mask_pair import MaskPair
from nnunet_transformers.comparison.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Metric:
    """A number per case.

    Attributes:
        name: in tables.
        label: in figures and headings.
        unit: "" for ratios and counts.
        higher_is_better: None where neither is.
        definition: with its value where R, P or both are empty.
        source: who defined it.
        compute: its value for a case; NaN where it is undefined.
        needs_probability: whether masks alone do not tell it.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    definition: str
    source: str
    compute: Callable[[MaskPair], float] = field(repr=False, compare=False)
    needs_probability: bool = False

    @property
    def sign(self) -> int:
        """-1 where lower is better: a value or a difference times it is a gain."""
        return -1 if self.higher_is_better is False else 1


FACTS = ("reference_ml", "prediction_ml", "reference_empty", "prediction_empty", "both_empty")
"""What `case_metrics` returns beside the metrics: two volumes, and which of R and P hold no lesion."""

NSD_TOLERANCES_MM = {"nsd_1mm": 1.0, "nsd_2mm": 2.0}

CONNECTIVITIES: dict[str, Literal[6, 26]] = {"atlas": 6, "isles": 26, "isles26": 26}
"""Neighbours of a voxel that belong to the same lesion, by the challenge that counts so."""

_NIKOLOV = "Nikolov et al., J Med Internet Res 23:e26151 (2021)"
_HEIMANN = "Heimann et al., IEEE Trans Med Imaging 28:1251 (2009)"
_METRICS_RELOADED = "Maier-Hein et al., Nat Methods 21:195 (2024)"
_ISLES_PAPER = "Hernandez Petzsche et al., Sci Data 9:762 (2022)"
_ISLES_26 = "ISLES'26, github.com/ezequieldlrosa/isles26, utils/eval_utils.py"
_SCORERS = {
    "atlas": "ATLAS R2.0 challenge, github.com/npnl/atlas2_type2_eval, isles/scoring.py",
    "isles": f"ISLES'22, github.com/ezequieldlrosa/isles22, utils/eval_utils.py; {_ISLES_PAPER}",
    "isles26": f"{_ISLES_26}, with panoptica 1.0.1",
}
_CHALLENGES = {"atlas": "ATLAS", "isles": "ISLES'22", "isles26": "ISLES'26"}
_NEIGHBOURS = {6: "a face", 26: "a face, an edge or a corner"}


@dataclass(frozen=True)
class _Counting:
    """When a lesion is found: what counts so, the definition, and what it adds to labels and to the name of F1."""

    counts: Callable[[Lesions], LesionCounts]
    definition: str
    label: str = ""
    f1: str = ""


_BY_TOUCH = _Counting(
    lambda lesions: lesions.by_touch,
    "TP: lesions of R with at least one voxel in P. FN: the other lesions of R. FP: lesions of P without a voxel in R.",
)
_ONE_TO_ONE = _Counting(
    lambda lesions: lesions.one_to_one,
    f"TP: pairs of a lesion of R and one of P whose intersection is at least {PARTNERS_IOU:g} of their union, each "
    "lesion in one pair at most, the pair that shares most first. FN and FP: the other lesions of R and of P.",
    label=", one to one",
    f1=", also called recognition quality",
)
_COUNTINGS = {"atlas": _BY_TOUCH, "isles": _BY_TOUCH, "isles26": _ONE_TO_ONE}

_SURFACE = (
    "The surface of R or P is its voxels with at least one of their six face neighbours outside it or outside the "
    "image; distances are between voxel centres."
)
_DISTANCE_OF_EMPTY = (
    "Both empty: 0. One empty: the diagonal of the image (number of voxels times spacing along each axis)."
)


def _dice(pair: MaskPair) -> float:
    return 1.0 if pair.are_both_empty else 2 * pair.n_common / (pair.n_reference + pair.n_predicted)


def _volume_difference_ml(pair: MaskPair) -> float:
    return pair.millilitres(pair.n_predicted - pair.n_reference)


def _distance(of: Callable[[SurfaceDistances], float]) -> Callable[[MaskPair], float]:
    def compute(pair: MaskPair) -> float:
        if pair.distances is None:
            return 0.0 if pair.are_both_empty else pair.diagonal_mm
        return of(pair.distances)

    return compute


def _share_of_surfaces(tolerance_mm: float) -> Callable[[MaskPair], float]:
    def compute(pair: MaskPair) -> float:
        return float(pair.are_both_empty) if pair.distances is None else pair.distances.within(tolerance_mm)

    return compute


def _of_lesions(challenge: str, of: Callable[[LesionCounts], float]) -> Callable[[MaskPair], float]:
    return lambda pair: of(_COUNTINGS[challenge].counts(pair.lesions(CONNECTIVITIES[challenge])))


def _nsd(name: str) -> Metric:
    tolerance = f"{NSD_TOLERANCES_MM[name]:g} mm"
    return Metric(
        name,
        f"NSD at {tolerance}",
        "",
        True,
        f"Normalised surface Dice: of the surface voxels of R and P together, the fraction that lies no farther than "
        f"{tolerance} (and 0.0001 mm, for spacings rounded in headers) from the other surface. {_SURFACE} Voxels are "
        "counted, not their area. Both empty: 1. One empty: 0.",
        _NIKOLOV,
        _share_of_surfaces(NSD_TOLERANCES_MM[name]),
    )


def _lesion_metrics(challenge: str) -> list[Metric]:
    connectivity = CONNECTIVITIES[challenge]
    neighbours = _NEIGHBOURS[connectivity]
    counting = _COUNTINGS[challenge]
    counted = f"A lesion is a {connectivity}-connected component: voxels that share {neighbours}. {counting.definition}"
    label = f"{_CHALLENGES[challenge]}, {connectivity}-connected{counting.label}"
    source = _SCORERS[challenge]
    from_counts = f"From the counts of {source}"
    return [
        Metric(
            f"lesion_f1_{challenge}",
            f"Lesion F1 ({label})",
            "",
            True,
            f"TP / (TP + (FP + FN) / 2){counting.f1}. {counted} Both empty: 1. One empty: 0.",
            source,
            _of_lesions(challenge, lambda lesions: lesions.f1),
        ),
        Metric(
            f"lesion_precision_{challenge}",
            f"Lesion precision ({label})",
            "",
            True,
            f"TP / (TP + FP). {counted} P empty: 1 if R is empty too, else 0, so that a model gains nothing by "
            "predicting nothing. R empty and P not: 0.",
            from_counts,
            _of_lesions(challenge, lambda lesions: lesions.precision),
        ),
        Metric(
            f"lesion_recall_{challenge}",
            f"Lesion recall ({label})",
            "",
            True,
            f"TP / (TP + FN). {counted} R empty: undefined, whatever P is, so that it is undefined on the same cases "
            "for all models. P empty and R not: 0.",
            from_counts,
            _of_lesions(challenge, lambda lesions: lesions.recall),
        ),
    ]


def _count_difference(challenge: str) -> Metric:
    connectivity = CONNECTIVITIES[challenge]
    neighbours = _NEIGHBOURS[connectivity]
    challenges = "ISLES'22 and '26" if challenge == "isles" else _CHALLENGES[challenge]
    return Metric(
        f"lesion_count_difference_{challenge}",
        f"Lesion count difference ({challenges}, {connectivity}-connected)",
        "lesions",
        False,
        f"Absolute difference between the numbers of lesions in P and in R. A lesion is a {connectivity}-connected "
        f"component: voxels that share {neighbours}. An empty mask has 0 lesions.",
        _SCORERS[challenge],
        _of_lesions(challenge, lambda lesions: lesions.count_difference),
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        Metric(
            "dice",
            "Dice",
            "",
            True,
            "2 |R ∩ P| / (|R| + |P|) in voxels. Both empty: 1 (nnU-Net: not a number). One empty: 0.",
            "Dice, Ecology 26:297 (1945)",
            _dice,
        ),
        _nsd("nsd_1mm"),
        _nsd("nsd_2mm"),
        Metric(
            "hd95_mm",
            "HD95",
            "mm",
            False,
            "95th percentile of the Hausdorff distance: the distances from each surface voxel of R to the nearest one "
            "of P have a 95th percentile (interpolated linearly), those from P to R have another; the larger of the "
            f"two. {_SURFACE} {_DISTANCE_OF_EMPTY}",
            _METRICS_RELOADED,
            _distance(lambda distances: distances.hausdorff_95),
        ),
        Metric(
            "assd_mm",
            "ASSD",
            "mm",
            False,
            "Average symmetric surface distance: mean over the surface voxels of R and P together of the distance to "
            f"the nearest surface voxel of the other. {_SURFACE} {_DISTANCE_OF_EMPTY}",
            _HEIMANN,
            _distance(lambda distances: distances.average),
        ),
        Metric(
            "volume_difference_ml",
            "Volume difference",
            "ml",
            None,
            "Volume of P minus volume of R; negative where too little was segmented.",
            _ISLES_PAPER,
            _volume_difference_ml,
        ),
        Metric(
            "absolute_volume_difference_ml",
            "Absolute volume difference",
            "ml",
            False,
            "Absolute value of the volume of P minus the volume of R.",
            _ISLES_PAPER,
            lambda pair: abs(_volume_difference_ml(pair)),
        ),
        *_lesion_metrics("atlas"),
        _count_difference("atlas"),
        *_lesion_metrics("isles"),
        _count_difference("isles"),
        *_lesion_metrics("isles26"),
        Metric(
            "false_lesions_isles26",
            "False lesions (ISLES'26, 26-connected, one to one)",
            "lesions",
            False,
            f"FP. A lesion is a 26-connected component: voxels that share {_NEIGHBOURS[26]}. {_ONE_TO_ONE.definition}",
            f"From the counts of {_SCORERS['isles26']}",
            _of_lesions("isles26", lambda lesions: lesions.false),
        ),
        Metric(
            "pr_auc",
            "PR-AUC",
            "",
            True,
            "Area under precision over recall of the voxels, at all thresholds of the probability of a lesion, by "
            "trapezoids. R empty: 1 if all voxels have one probability, else 0, as the challenge has it, whatever P "
            "is. Undefined where probabilities were not kept.",
            _ISLES_26,
            lambda pair: pair.precision_recall_area,
            needs_probability=True,
        ),
    ]
}
"""By name, in the order of a table's columns."""

_CHALLENGE = ("dice", "absolute_volume_difference_ml")
SCORINGS: dict[str, tuple[str, ...]] = {
    "atlas22": (*_CHALLENGE, "lesion_count_difference_atlas", "lesion_f1_atlas"),
    "isles22": (*_CHALLENGE, "lesion_count_difference_isles", "lesion_f1_isles"),
    "isles26": (*_CHALLENGE, "lesion_count_difference_isles", "lesion_f1_isles26", "pr_auc"),
    "all": (
        *("dice", "nsd_1mm", "hd95_mm", "absolute_volume_difference_ml"),
        *("lesion_f1_atlas", "lesion_f1_isles", "lesion_f1_isles26"),
    ),
}
"""The metrics that rank models together: those of a challenge, or those that the main table shows otherwise."""
