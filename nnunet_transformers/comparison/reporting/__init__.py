"""The report of a comparison: one HTML page that opens offline, with its tables and figures as files beside it."""

from nnunet_transformers.comparison.reporting.inputs import ReportInput, TestSet
from nnunet_transformers.comparison.reporting.page import write_report

__all__ = ["ReportInput", "TestSet", "write_report"]
