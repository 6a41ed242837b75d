"""How nnU-Net runs in the tests: one process, one thread, nothing compiled."""

import os

# nnU-Net and torch read these when they are imported, so they are set before any test module is.
os.environ["nnUNet_def_n_proc"] = "1"
os.environ["nnUNet_compile"] = "f"
os.environ["OMP_NUM_THREADS"] = "1"

from hypothesis import settings

# A loaded machine is not a failure.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
