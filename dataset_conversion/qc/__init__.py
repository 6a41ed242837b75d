"""A page to look at: pictures of the cases, where the lesions are, and what was found, in one HTML file."""

from dataset_conversion.qc.lesion_load import coarse, occupancy
from dataset_conversion.qc.page import QcCase, qc_page
from dataset_conversion.qc.pictures import montage

__all__ = ["QcCase", "coarse", "montage", "occupancy", "qc_page"]
