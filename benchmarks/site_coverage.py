"""How often intervals of a mean difference hold the truth when it differs between sites of uneven size.

    python benchmarks/site_coverage.py [--repeats 2000] [--json benchmarks/results/site_coverage.json]

Differences have heavy tails (Student's t with 4 degrees of freedom, scaled by 0.08) around a site's own mean, which is
normal around 0; sizes of sites are log-normal (sigma 0.9). The intervals of `statistics.sites` stand beside those that
resample subjects.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from measure import provenance
from tqdm import tqdm

from nnunet_transformers.comparison.statistics.bootstrap import bootstrap_means, interval, resample_weights
from nnunet_transformers.comparison.statistics.sites import site_level

SETTINGS = ((655, 33), (200, 10))
BETWEEN = (0.0, 0.01, 0.02, 0.04)


def coverage(rng: np.random.Generator, n: int, n_sites: int, between: float, repeats: int) -> dict[str, float]:
    """Shares of the repeats in which the interval holds 0, and in which the test over sites finds a difference."""
    sites = subjects = found = 0
    weights = resample_weights(n, 2000, 2006)
    for _ in tqdm(range(repeats), f"{n_sites} sites, {between}", leave=False):
        sizes = rng.lognormal(2.5, 0.9, n_sites)
        codes = rng.choice(n_sites, n, p=sizes / sizes.sum())
        differences = rng.normal(0, between, n_sites)[codes] + rng.standard_t(4, n) * 0.08
        level = site_level(differences, np.array([f"site{code}" for code in codes]))
        assert level
        low, high = level.interval(0.95)
        sites += low <= 0 <= high
        found += level.p < 0.05
        low, high = interval(bootstrap_means(differences, np.arange(n), weights), n, 0.95)
        subjects += low <= 0 <= high
    return {"sites": sites / repeats, "subjects": subjects / repeats, "p below 0.05": found / repeats}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    for n, n_sites in SETTINGS:
        for between in BETWEEN:
            shares = coverage(rng, n, n_sites, between, arguments.repeats)
            rows.append({"cases": n, "sites": n_sites, "SD between sites": between, "coverage": shares})
            print(f"{n} cases, {n_sites} sites, SD {between}: {shares}", flush=True)
    if arguments.json:
        content = {**provenance(torch.device("cpu"), 1), "repeats": arguments.repeats, "rows": rows}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
