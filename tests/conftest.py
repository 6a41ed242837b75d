"""How nnU-Net runs in the tests: one process, one thread, nothing compiled."""

import functools
import itertools
import os
import tempfile
from collections.abc import Iterator

# nnU-Net and torch read these when they are imported, so they are set before any test module is.
os.environ["nnUNet_def_n_proc"] = "1"
os.environ["nnUNet_compile"] = "f"
os.environ["OMP_NUM_THREADS"] = "1"
if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
    # Of this run alone, for all of its workers: a run that was killed as it compiled leaves libraries cut off.
    _compiled = tempfile.TemporaryDirectory(prefix="torchinductor-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = _compiled.name

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings

# A loaded machine is not a failure.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture
def convolutions_right_in_bfloat16() -> Iterator[None]:
    """Without oneDNN where its bfloat16 gradient of a 3D convolution is wrong, as it is on 2^3 maps with AVX-512."""
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = enabled and _gradients_are_right()
    yield
    torch.backends.mkldnn.enabled = enabled


@functools.cache
def _gradients_are_right() -> bool:
    torch.manual_seed(0)
    for width_in, width in itertools.product((4, 8, 16, 32, 64), repeat=2):
        weight, x = torch.randn(width, width_in, 3, 3, 3), torch.randn(1, width_in, 2, 2, 2)
        right, low = (
            torch.autograd.grad(F.conv3d(x.to(dtype), w, padding=1).float().square().sum(), w)[0].float()
            for dtype in (torch.float32, torch.bfloat16)
            for w in [weight.to(dtype).requires_grad_()]
        )
        if not (right - low).norm() < 0.1 * right.norm():  # nor where it is NaN
            return False
    return True
