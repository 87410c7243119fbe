"""A port of its own for a gateway's metrics: a scrape through the proxy in front would meet any of the gateways."""

from __future__ import annotations

import logging
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

log = logging.getLogger("modelyard.metrics")


def serve_metrics(registry: CollectorRegistry, port: int | None) -> WSGIServer | None:
    """Answer `GET /metrics` on every address of this machine, from a thread that ends with the process.

    Where the port is taken, by another gateway of this machine, the log says so and the service runs all the same.
    """
    if port is None:
        return None
    try:
        server, _ = start_http_server(port, registry=registry)
    except OSError as error:
        log.warning("metrics_port %d cannot be listened on: %s", port, error.strerror)
        return None
    return server
