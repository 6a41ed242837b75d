"""Images of one subject on one grid: compare grids, resample, register rigidly.

grids.py         which image a mask was drawn on; how far two fields of view are apart, and how much they overlap
itk.py           arrays with a RAS affine to SimpleITK images, and back
resampling.py    an image or a mask on another grid
rigid.py         where one image lies relative to another of the same head
"""

from dataset_conversion.alignment.grids import Grid, check_overlap, drawn_on, same_space_distance, share_inside
from dataset_conversion.alignment.itk import from_sitk, to_sitk
from dataset_conversion.alignment.resampling import resample
from dataset_conversion.alignment.rigid import Registration, register_rigid, transform_text

__all__ = [
    "Grid",
    "Registration",
    "check_overlap",
    "drawn_on",
    "from_sitk",
    "register_rigid",
    "resample",
    "same_space_distance",
    "share_inside",
    "to_sitk",
    "transform_text",
]
