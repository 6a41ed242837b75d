"""Ctrl-C ends a program with exit code 130 and without a traceback, at any moment from `take_over` on.

Python's own way, an exception, comes through wherever the program is: halfway through an import, in a destructor, which
swallows it, or while threads are waited for at the exit. Work that may be killed at any moment can end at once instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

_taken_over = False
_last_words: Callable[[], str] | None = None


def take_over() -> None:
    """End this process at once at Ctrl-C, but where `as_exception` says otherwise; for programs, not for libraries.

    Does nothing where Ctrl-C is ignored, as in a shell's background, or somebody else's already.
    """
    global _taken_over
    if not _taken_over and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _taken_over = True
        signal.signal(signal.SIGINT, _end)
        # Python gives signals back to the system as it ends, which would end the process in another way.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _end(*_: object) -> None:
    try:
        words = _last_words() if _last_words else ""
        # The words begin on a line of their own: a progress bar ends none.
        os.write(2, (f"\n{words}\nInterrupted.\n" if words else "Interrupted.\n").encode(errors="backslashreplace"))
    finally:
        os._exit(130)


@contextlib.contextmanager
def as_exception() -> Iterator[None]:
    """Ctrl-C in the block is a KeyboardInterrupt."""
    with _handled(signal.default_int_handler):
        yield


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Ctrl-C in the block ends the process, if it was taken over: nothing is cleared away, as if it were killed."""
    with _handled(_end):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[..., object]) -> Iterator[None]:
    if not _taken_over:
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def last_words(words: Callable[[], str]) -> Iterator[None]:
    """What is printed if Ctrl-C ends the block, in either way."""
    global _last_words
    _last_words = words
    try:
        yield
    except KeyboardInterrupt:
        print(words(), file=sys.stderr)
        raise
    finally:
        _last_words = None
