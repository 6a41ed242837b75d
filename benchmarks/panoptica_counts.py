"""What panoptica 1.0.1, as ISLES'26 uses it, counts in made-up pairs of masks; a test compares ours with the result.

    python benchmarks/panoptica_counts.py [--pairs 3000]      in an environment with panoptica==1.0.1

writes tests/comparison/metrics/panoptica_1_0_1.json: per seed the lesions of the reference, of the prediction, the
pairs (TP) and the recognition quality.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from helpers.made_up_masks import mask_pair  # noqa: E402


def main() -> None:
    import panoptica
    from panoptica import _functionals

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3000)
    n_pairs = parser.parse_args().pairs
    _functionals.Pool = _OneProcess  # it starts a pool of processes for every pair
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.25),
        instance_metrics=[panoptica.Metric.DSC],
    )
    rows = []
    for seed in range(n_pairs):
        reference, prediction = (mask.astype(int) for mask in mask_pair(seed))
        result, _ = evaluator.evaluate(prediction, reference, verbose=False)["ungrouped"]
        counts = result.num_ref_instances, result.num_pred_instances, result.tp
        rq = float(result.rq) if np.isfinite(result.rq) else None
        rows.append([*map(int, counts), rq])
    content = {"panoptica": version("panoptica"), "rows": rows}
    target = REPOSITORY / "tests" / "comparison" / "metrics" / "panoptica_1_0_1.json"
    target.write_text(json.dumps(content, separators=(",", ":")) + "\n")


class _OneProcess:
    """What of multiprocessing.Pool is used."""

    def __enter__(self) -> _OneProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def starmap(self, function, arguments):
        return [function(*each) for each in arguments]


if __name__ == "__main__":
    main()
