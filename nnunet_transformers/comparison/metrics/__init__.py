"""Metrics of a segmented case, and the table of them over many cases."""
