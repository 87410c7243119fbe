"""The Serve application: gateway replicas in front of one node controller."""

from __future__ import annotations

from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from deployments.api.app import create_app
from deployments.app_names import GATEWAY
from deployments.gateway import Gateway
from deployments.intake import Intake
from deployments.logs import configure_logging
from deployments.metrics_port import serve_metrics
from deployments.node_controller import NodeController
from deployments.settings import Settings, haproxy_socket


class GatewayReplica:
    """What Serve runs: a gateway, and the web application around it."""

    def __init__(self, settings: Settings, controller: Any) -> None:
        configure_logging(settings)
        self._gateway = Gateway(settings, controller, _intake(settings))
        self._metrics = serve_metrics(self._gateway.metrics.registry, settings.metrics_port)

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name for "build the app here"
        return create_app(self._gateway, standalone=False)


def _intake(settings: Settings) -> Intake:
    """Return what limits the requests that this replica is given by the HAProxy beside it."""
    replica = serve.get_replica_context().replica_id
    server = f"http-{GATEWAY}/SERVE_REPLICA_{GATEWAY}-{replica.deployment_id.name}-{replica.unique_id}"
    return Intake(haproxy_socket(ray.get_runtime_context().get_node_id()), server, settings.max_requests)


def from_args(args: dict[str, Any]) -> Application:
    """Return the application for Serve's own configuration: `import_path: deployments.app:from_args`.

    `args` are settings by name; what they leave out, and every secret, comes from `MODELYARD_…` variables of the
    process. Raises `InvalidRequest` that names each wrong setting as the chart does.
    """
    return build_app(Settings.from_env(label="settings.{}".format, **args))


def build_app(settings: Settings) -> Application:
    """Return the application that `modelyard up` and a RayService run."""
    controller = serve.deployment(NodeController).options(
        name="controller",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        graceful_shutdown_wait_loop_s=0.1,
    )
    # Requests are logged by ourselves, with their ids. Serve's own lines go into the same file.
    chatty = settings.log_level in ("debug", "info")
    encoding = "JSON" if settings.log_format == "json" else "TEXT"
    logging_config = LoggingConfig(
        encoding=encoding, enable_access_log=False, log_level="INFO" if chatty else "WARNING"
    )
    gateway = serve.deployment(serve.ingress()(GatewayReplica)).options(
        name="gateway",
        num_replicas=settings.replicas,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0.5},
        graceful_shutdown_timeout_s=settings.drain_s,
        logging_config=logging_config,
        graceful_shutdown_wait_loop_s=0.1,
    )
    return gateway.bind(settings, controller.bind(settings))
