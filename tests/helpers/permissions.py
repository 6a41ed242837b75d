"""Root, who may read and write everything, as somebody who may not."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

_VERSION, _OVERRIDE, _READ_SEARCH = 0x20080522, 1 << 1, 1 << 2  # of linux/capability.h


@contextlib.contextmanager
def obeyed() -> Iterator[None]:
    """The modes of files and folders hold for this thread and those it starts, also where root runs the tests."""
    if not hasattr(os, "geteuid"):
        pytest.skip("Windows has no such modes")
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may read everything here")
    libc, header, sets = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(_VERSION), (ctypes.c_uint32 * 6)()
    assert not libc.capget(header, sets)
    effective = sets[0]
    sets[0] = effective & ~(_OVERRIDE | _READ_SEARCH)
    assert not libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = effective
        assert not libc.capset(header, sets)
