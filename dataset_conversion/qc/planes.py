"""How slices are laid out on the page: all in the radiological convention, the patient's right on the left."""

from __future__ import annotations

import numpy as np

PLANES = ("axial", "coronal", "sagittal")
ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis that a plane cuts across: right, anterior, superior."""
LEFT_SIDE = {"axial": "R", "coronal": "R", "sagittal": "A"}
"""What lies at the left edge of the picture: the patient's right, or the front."""


def cut(volume: np.ndarray, plane: str, index: int) -> np.ndarray:
    """One slice as it is shown.

    Args:
        volume: (i, j, k), right, anterior, superior.
        plane: one of `PLANES`.
        index: along the axis that the plane cuts across.

    Returns:
        (rows, columns), a view: the top row is the most anterior (axial) or superior one, the left column lies at the
        patient's right (axial, coronal) or in front (sagittal).
    """
    return turn(np.moveaxis(volume, ACROSS[plane], 0)[index])


def turn(section: np.ndarray) -> np.ndarray:
    """(rows, columns) as shown, of a slice with its two axes in the order right, anterior, superior."""
    return section[::-1, ::-1].T
