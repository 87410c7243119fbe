"""The port on which each gateway gives its own metrics."""

from __future__ import annotations

import socket

import httpx
import pytest

from deployments.metrics import Metrics
from deployments.metrics_port import serve_metrics


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_gives_the_series_of_this_process(port: int) -> None:
    metrics = Metrics()
    metrics.fell_back("law", "general")
    server = serve_metrics(metrics.registry, port)
    assert server is not None
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    finally:
        server.shutdown()
        server.server_close()
    assert 'modelyard_fallbacks_total{source="law",target="general"} 1.0' in text


def test_a_port_that_is_taken_ends_nothing(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        assert serve_metrics(Metrics().registry, port) is None
    assert str(port) in caplog.text


def test_without_a_port_nothing_listens() -> None:
    assert serve_metrics(Metrics().registry, None) is None
