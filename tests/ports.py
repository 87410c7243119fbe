"""Ports of the loopback interface that nobody listens on."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return one, of those that the system gives away: two processes of tests do not get the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
