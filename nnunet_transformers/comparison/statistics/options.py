"""What a reader has to know to repeat the statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# With fewer subjects a bootstrap interval is too narrow to rest a claim of equivalence on, and a stratum is marked.
FEW_SUBJECTS = 10


@dataclass(frozen=True)
class Options:
    """Level, resampling and margins of all statistics of a report.

    Attributes:
        confidence: of intervals; tests are at the level 1 - confidence.
        resamples: bootstrap resamples.
        seed: of the bootstrap; equal seeds give equal numbers.
        margins: per metric the largest difference of means, in the metric's unit, that counts as none. Without a margin
            equivalence is not tested. The default is a convention, not a published threshold: state your own before
            looking at the results.

    Raises:
        ValueError: a confidence not between 0.5 and 1, fewer than 100 resamples, a margin that is not positive.
    """

    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 2006
    margins: Mapping[str, float] = field(default_factory=lambda: {"dice": 0.02})

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence must be between 0.5 and 1, got {self.confidence}")
        if self.resamples < 100:
            raise ValueError(f"at least 100 resamples are needed, got {self.resamples}")
        for metric, margin in self.margins.items():
            if not (margin > 0 and math.isfinite(margin)):
                raise ValueError(f"the equivalence margin of {metric} must be positive, got {margin}")

    @property
    def alpha(self) -> float:
        return 1 - self.confidence
