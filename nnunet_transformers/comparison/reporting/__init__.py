"""The report of a comparison: one HTML page that opens offline, with its tables and figures as files beside it."""

from nnunet_transformers.comparison.reporting.inputs import PredictedSet, ReportInput
from nnunet_transformers.comparison.reporting.page import write_report

__all__ = ["PredictedSet", "ReportInput", "write_report"]
