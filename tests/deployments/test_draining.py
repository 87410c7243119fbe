"""Waiting for what a HAProxy passes on, by its command socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import draining

HEAD = "# pxname,svname,qcur,qmax,scur,smax\n"
IDLE = HEAD + "http_frontend,FRONTEND,,,3,9\nhttp-modelyard,a,0,1,0,9\nhttp-modelyard,BACKEND,0,2,0,9\n\n"
BUSY = IDLE.replace("BACKEND,0,2,0", "BACKEND,0,2,1")
QUEUED = IDLE.replace("BACKEND,0,2,0", "BACKEND,1,2,0")


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[list[str]]:
    """What a HAProxy at `admin.sock` was told; it is busy twice."""
    told: list[str] = []
    answers = iter([BUSY, QUEUED])
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "admin.sock"))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                told.append(connection.recv(100).decode().strip())
                if told[-1] == "show stat":
                    connection.sendall(next(answers, IDLE).encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield told
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_new_connections_are_refused_and_answers_waited_for(
    commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LOOK_S", 0.0)
    draining.let_answers_end([tmp_path / "admin.sock", tmp_path / "nobody.sock"], 30)
    assert commands == ["disable frontend http_frontend", *["show stat"] * 3]


def test_nothing_is_waited_for_longer_than_it_may(commands: list[str], tmp_path: Path) -> None:
    draining.let_answers_end([tmp_path / "admin.sock"], 0)
    assert commands == ["disable frontend http_frontend"]
