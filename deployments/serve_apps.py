"""What the node controller asks of Serve, and of a node's process, none of it waited for without end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.app_names import parse_node_app

log = logging.getLogger("modelyard.controller")
T = TypeVar("T")
ANSWER_S = 2.0
"""Longest wait for a node's own word on how it stands."""
SERVE_S = 30.0
"""Longest wait for Serve to take an order."""
RETRY_S = 3.0
"""Pause before Serve is asked again to remove an application."""


async def ask_serve(order: Callable[..., T], *args: Any) -> T:
    """Ask Serve in a thread. Raises `TimeoutError`; the thread cannot be stopped, but nobody waits for it longer."""
    try:
        async with asyncio.timeout(SERVE_S):
            return await asyncio.to_thread(order, *args)
    except TimeoutError:
        raise TimeoutError(f"Ray Serve did not answer within {SERVE_S:g} s") from None


def node_apps() -> dict[str, ApplicationStatus]:
    """Return the applications of nodes that are not being removed, each with how it stands."""
    found = serve.status().applications
    return {
        name: app.status
        for name, app in found.items()
        if parse_node_app(name) and app.status is not ApplicationStatus.DELETING
    }


def deploy_error(app: str) -> str:
    """Return why Serve could not start an application."""
    status = serve.status().applications.get(app)
    return status.message if status else "the application is gone"


async def load_error(app: str) -> str | None:
    """Ask a node why it could not be loaded; None if it is ready. Raises `TimeoutError`."""
    response = serve.get_app_handle(app).status.remote()
    try:
        async with asyncio.timeout(ANSWER_S):
            error: str | None = await response
    except TimeoutError:
        response.cancel()
        raise TimeoutError(f"the node's process did not answer within {ANSWER_S:g} s") from None
    return error


async def delete_app(app: str, after_s: float) -> None:
    """Remove an application after some seconds, and try again until Serve has taken the order."""
    await asyncio.sleep(after_s)
    while True:
        try:
            await ask_serve(lambda: serve.delete(app, _blocking=False))
            return
        except Exception as error:  # a boundary: nothing else removes this application
            log.warning("application %s could not be removed; trying again: %s", app, reason(error))
        await asyncio.sleep(RETRY_S)


def reason(error: Exception) -> str:
    """Return an error on one line: Ray's hold whole tracebacks."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
