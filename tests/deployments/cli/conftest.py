"""Runs the command line, against a server on loopback where it needs one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from fake_native_service import Handler, Service
from typer.testing import CliRunner, Result

from deployments.cli.app import build_app


@pytest.fixture
def service() -> Iterator[Service]:
    """A running server; its `url` is where."""
    found = Service()
    handler = type("Bound", (Handler,), {"service": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line with these arguments in this process."""
    for name in ("MODELYARD_URL", "MODELYARD_API_KEY", "FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(build_app(), [str(argument) for argument in arguments], **options)

    return run


@pytest.fixture
def modelyard(cli: Callable[..., Result], service: Service) -> Callable[..., Result]:
    """Runs the command line against the running server."""
    return lambda *arguments, **options: cli(*arguments, "--url", service.url, **options)
