"""What the node controller asks of Serve, and of a node's process, none of it waited for without end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.app_names import parse_node_app
from deployments.settings import Settings
from graph.spec import NodeSpec

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


def deploy_options(spec: NodeSpec, settings: Settings) -> dict[str, Any]:
    """Return how Serve is to run a node."""
    scale, limits = spec.scale, spec.limits
    options: dict[str, Any] = {
        "name": spec.name,
        "user_config": {},
        "ray_actor_options": {"num_cpus": scale.cpus, "num_gpus": scale.gpus},
        "max_ongoing_requests": limits.concurrency,
        "graceful_shutdown_timeout_s": settings.drain_s,
        "graceful_shutdown_wait_loop_s": 0.1,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
    }
    if scale.max > scale.min:
        options["autoscaling_config"] = {
            "min_replicas": scale.min,
            "max_replicas": scale.max,
            "target_ongoing_requests": limits.concurrency,
        }
    else:
        options["num_replicas"] = scale.min
    return options
