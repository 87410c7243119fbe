"""Keeps a native library from taking over the process's signals."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ACTION_BYTES = 512
"""More than `struct sigaction` takes on any platform."""


@contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM afterwards.

    `signal.signal` only works on the main thread and does not see handlers installed by C code, so this asks the C
    library itself.
    """
    libc = ctypes.CDLL(None)
    saved = {number: ctypes.create_string_buffer(_ACTION_BYTES) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, action in saved.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            libc.sigaction(int(number), action, None)
