"""SIGINT and SIGTERM: what asks the service to stop, and what still ends it where nobody can listen."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 2.0
"""How long a block may go on after a signal before it is given up."""


def stop_on_signals(stop: threading.Event) -> None:
    """Set an event on SIGINT and SIGTERM. Call it in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


@contextmanager
def given_up_on_signal(before: Callable[[], None], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """End the process where the block goes on for longer than `patience_s` after SIGINT or SIGTERM.

    For calls that block in native code, during which the interpreter runs no handler. `before` is called first, in
    another thread. Everything that the block has started must go by itself. Call it in the main thread.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)
    left = threading.Event()
    previous = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)  # written at once, by C

    def watch() -> None:
        while number := told.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                if not left.wait(patience_s):
                    before()
                    os._exit(0)  # nothing less ends a main thread that does not come back
                return

    watcher = threading.Thread(target=watch, name="stop-signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(previous)
        tell.close()
        watcher.join()
        told.close()
