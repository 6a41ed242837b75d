"""How long all metrics of a case take beside MONAI's HD95, surface Dice and average surface distance alone.

    python benchmarks/metrics.py MASKS [--cases 24] [--rounds 3] [--json benchmarks/results/metrics.json]

MASKS is a folder of lesion masks (NIfTI, 1 mm). Those taken are spread evenly over their order by volume and placed in
the middle of an image of 197 × 233 × 189 voxels, the size of ATLAS. The prediction is the mask with a layer of voxels
added, moved by one and two voxels, without its second largest component, and with a false lesion of 5 × 5 × 5 voxels.
Both ways run on one thread, take turns, and start from arrays in memory; that they agree is checked first.
"""

from __future__ import annotations

import argparse
import json
import statistics
from importlib.metadata import version
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import torch
from measure import alternate, paired_ratio, provenance
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from nnunet_transformers.comparison.metrics.case import case_metrics

SHAPE = (197, 233, 189)
SPACING = (1.0, 1.0, 1.0)


def chosen_masks(folder: Path, n: int) -> list[np.ndarray]:
    """Masks spread evenly over their order by volume, smallest first, in the middle of an image of SHAPE."""
    masks = [np.asarray(nib.load(path).dataobj) > 0 for path in sorted(folder.glob("*.nii*"))]
    masks = sorted((mask for mask in masks if mask.any()), key=np.count_nonzero)
    ranks = np.unique(np.linspace(0, len(masks) - 1, n).round().astype(int))
    return [placed(masks[rank]) for rank in ranks]


def placed(mask: np.ndarray) -> np.ndarray:
    image = np.zeros(SHAPE, bool)
    common = [min(a, b) for a, b in zip(mask.shape, SHAPE, strict=True)]
    source, target = (
        tuple(slice((whole - part) // 2, (whole - part) // 2 + part) for whole, part in zip(shape, common, strict=True))
        for shape in (mask.shape, SHAPE)
    )
    image[target] = mask[source]
    return image


def perturbed(mask: np.ndarray) -> np.ndarray:
    labels, n = cc3d.connected_components(mask, connectivity=26, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    kept = mask & (labels != 1 + np.argsort(sizes)[-2]) if n > 1 else mask
    prediction = np.roll(ndimage.binary_dilation(kept), (1, 2), (0, 1))
    prediction[30:35, 40:45, 60:65] = True
    return prediction


def monai_metrics(prediction: Tensor, reference: Tensor) -> dict[str, float]:
    """Three of them, from (1, 1, i, j, k)."""
    settings = {"include_background": True, "spacing": SPACING}
    return {
        "hd95_mm": float(compute_hausdorff_distance(prediction, reference, percentile=95, **settings)),
        "nsd_1mm": float(compute_surface_dice(prediction, reference, [1.0], **settings)),
        "assd_mm": float(compute_average_surface_distance(prediction, reference, symmetric=True, **settings)),
    }


def measured(mask: np.ndarray, rounds: int) -> dict[str, float]:
    prediction = perturbed(mask)
    tensors = [torch.from_numpy(array)[None, None].float() for array in (prediction, mask)]
    ours = case_metrics(mask, prediction, SPACING)
    theirs = monai_metrics(*tensors)
    for name, value in theirs.items():
        if not np.isclose(ours[name], value, rtol=1e-5):
            raise SystemExit(f"{name} is {ours[name]} here and {value} in MONAI")
    ways = {"ours": lambda: case_metrics(mask, prediction, SPACING), "monai": lambda: monai_metrics(*tensors)}
    times = alternate(ways, rounds, torch.device("cpu"))
    return {
        "lesion ml": np.count_nonzero(mask) / 1000,
        "seconds": statistics.median(times["ours"]),
        "MONAI seconds": statistics.median(times["monai"]),
        "ratio": paired_ratio(times["ours"], times["monai"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", type=Path, help="folder of lesion masks")
    parser.add_argument("--cases", type=int, default=24, help="masks taken (default 24)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way per case (default 3)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    masks = chosen_masks(arguments.masks, arguments.cases)
    cases = [measured(mask, arguments.rounds) for mask in tqdm(masks, unit="case", disable=None)]
    seconds, monai, ratios = ([case[key] for case in cases] for key in ("seconds", "MONAI seconds", "ratio"))
    origin = provenance(torch.device("cpu"), 1)
    origin["versions"] |= {name: version(name) for name in ("numpy", "scipy", "connected-components-3d", "monai")}
    result = origin | {
        "voxels": SHAPE,
        "seconds per case": {"median": statistics.median(seconds), "longest": max(seconds)},
        "MONAI's HD95 + NSD + ASSD": {"median": statistics.median(monai), "longest": max(monai)},
        "ratio": {"median": statistics.median(ratios), "largest": max(ratios)},
        "cases": cases,
    }
    for case in cases:
        print("  ".join(f"{name} {value:7.3f}" for name, value in case.items()))
    print(f"all metrics: {statistics.median(seconds):.3f} s per case (median), {max(seconds):.3f} s (longest)")
    print(f"of MONAI's three: {statistics.median(ratios):.2f} times their time (median), {max(ratios):.2f} (largest)")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
