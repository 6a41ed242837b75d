"""Statistics on the table of scores: seeded, without files or figures, on numpy and scipy alone.

`summary` describes each model, `paired` compares each with a baseline, `ranks` orders all of them, `strata` does the
first two by lesion size, site and fold, `methods` says in words what was done.

A subject is the independent unit. Estimates (means, medians, wins) are over cases, as a reader would recompute them
from the table, and their intervals resample subjects. Tests that need independent observations (Wilcoxon, Friedman, t)
see one value per subject: the mean over its cases. With one session per subject the two are the same.
"""
