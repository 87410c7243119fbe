"""Logging of the service's processes: the command's own, the gateway's, the controller's, the nodes'."""

from __future__ import annotations

import logging

from deployments.settings import Settings

OURS = ("modelyard", "deployments", "graph", "router")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure_logging(settings: Settings) -> None:
    """Write what our own loggers say, from `log_level` on, to standard error; Ray keeps that in a file per replica."""
    logging.basicConfig(format=FORMAT)
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())
