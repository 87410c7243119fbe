"""Lets the answers end that a HAProxy of ours is passing on, before the service goes.

Serve ends its proxies at once when it is told to stop, and cuts every answer with them.
"""

from __future__ import annotations

import csv
import logging
import socket
import time
from pathlib import Path

log = logging.getLogger("modelyard.ray")

LOOK_S = 0.1
ANSWER_S = 2.0
FRONTEND = "http_frontend"


def let_answers_end(sockets: list[Path], patience_s: float) -> None:
    """Have HAProxies take no new connections, and wait until they pass nothing on, at most so long.

    `sockets` are where they take commands. One that does not answer is not waited for.
    """
    limit = time.monotonic() + patience_s
    for path in sockets:
        _command(path, f"disable frontend {FRONTEND}")
    while time.monotonic() < limit and any(map(_passing_on, sockets)):
        time.sleep(LOOK_S)


def _passing_on(path: Path) -> int:
    """Return how many requests a HAProxy has at its servers, or waiting for them."""
    rows = csv.DictReader(_command(path, "show stat").removeprefix("# ").splitlines())
    backends = [row for row in rows if row.get("svname") == "BACKEND"]
    return sum(int(row["qcur"] or 0) + int(row["scur"] or 0) for row in backends)


def _command(path: Path, text: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(f"{text}\n".encode())
            pieces = iter(lambda: connection.recv(65536), b"")
            return b"".join(pieces).decode(errors="replace")
    except OSError as error:
        log.info("HAProxy at %s did not take %r: %s", path, text, error)
        return ""
