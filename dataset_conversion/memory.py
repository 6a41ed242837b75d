"""How a program that reads one volume after another should hold its memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Keep the memory of a volume for the next one.

    glibc gives blocks of that size back to the kernel when they are freed, and gets them again page by page: a quarter
    of the time of a conversion (benchmarks/conversion.py). For the whole process, so for programs to call and not for
    libraries; does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
