"""Comparisons of trainers: runs through nnU-Net's public commands, scores read from its result files, one report."""
