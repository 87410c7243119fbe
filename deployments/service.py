"""`modelyard up`: the whole service from start to a clean end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from deployments.addresses import is_loopback
from deployments.app_names import GATEWAY
from deployments.logs import configure_logging
from deployments.models import resolve_model
from deployments.ray_host import RayHost, port_owner
from deployments.settings import Settings, misspelt_variables
from deployments.stop_signals import given_up_on_signal, stop_on_signals
from graph.errors import InvalidRequest, InvalidSpec, ModelyardError, Problem
from graph.loader import load_paths
from graph.model_graph import ModelGraph
from graph.node import installed_kinds
from graph.registry import Registry
from graph.spec import NodeSpec
from graph.stores import make_store
from router.artifact import read_card
from router.choice.correctness import ChoiceDataError, read_correctness
from router.planner_artifact import read_card as read_planner_card

EventKind = Literal["starting", "ray", "gateway", "node", "ready", "stopping", "stopped", "warning", "error"]
LOOK_EVERY_S = 0.3
GATEWAY_S = 180.0
"""How long the gateway may take to answer at all."""


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """One step of the service's life, for whoever shows it."""

    kind: EventKind
    message: str
    node: str | None = None
    state: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


OnEvent = Callable[[ServiceEvent], None]


def serve_forever(settings: Settings, on_event: OnEvent) -> int:
    """Run the service until SIGINT or SIGTERM; return the exit code. Raises `InvalidSpec` before anything starts."""
    configure_logging(settings)
    specs = _read_specs(settings)
    if (taken := port_owner(settings.host, settings.port)) is not None:
        on_event(ServiceEvent("error", f"{taken}. Stop that process or choose another --port"))
        return 1
    if settings.api_key is None and not settings.oidc_issuer and not is_loopback(settings.host):
        reached = f"others reach {settings.host}, and without a key anyone could use and change this service"
        advice = "set MODELYARD_API_KEY (`openssl rand -hex 32` makes one), or listen on 127.0.0.1"
        raise InvalidRequest(f"{reached}: {advice}", param="api_key")
    _find_encoder(settings)
    for warning in _warnings(settings):
        on_event(ServiceEvent("warning", warning))
    asyncio.run(_sync(settings, specs))
    stop = threading.Event()
    stop_on_signals(stop)
    host = RayHost(settings)
    on_event(ServiceEvent("starting", f"nodes declared: {len(specs)}"))
    try:
        _start(settings, host, stop, on_event)
        stop.wait()
    except ModelyardError as error:
        on_event(ServiceEvent("error", error.message))
        return 1
    finally:
        on_event(ServiceEvent("stopping", f"letting answers finish for at most {settings.drain_s:g} s"))
        host.stop()
        on_event(ServiceEvent("stopped", "stopped"))
    return 0


def _read_specs(settings: Settings) -> tuple[NodeSpec, ...]:
    loaded = load_paths(settings.nodes, installed_kinds())
    between = ModelGraph(loaded.specs).problems()
    problems = [*loaded.problems, *(Problem(loaded.sources[p.where], p.key, p.message) for p in between)]
    if settings.quality_data is not None:
        try:
            read_correctness(settings.quality_data)
        except ChoiceDataError as error:
            problems.append(Problem("settings", "quality_data", str(error)))
    if settings.router_artifact is not None:
        try:
            read_card(settings.router_artifact)
        except InvalidRequest as error:
            problems.append(Problem("settings", "router_artifact", error.message))
    if settings.planner_artifact is not None:
        try:
            read_planner_card(settings.planner_artifact)
        except InvalidRequest as error:
            problems.append(Problem("settings", "planner_artifact", error.message))
    if problems:
        raise InvalidSpec(problems)
    return loaded.specs


def _find_encoder(settings: Settings) -> None:
    try:
        resolve_model(settings.encoder_reference())
    except InvalidSpec as error:
        raise InvalidSpec([Problem("settings", "encoder", problem.message) for problem in error.problems]) from error


def _warnings(settings: Settings) -> list[str]:
    found = misspelt_variables()
    if settings.store.startswith("memory"):
        found.append("the store is memory://: nothing is kept, and node processes do not share it")
    return found


async def _sync(settings: Settings, specs: tuple[NodeSpec, ...]) -> None:
    """Bring the files' nodes into the registry before anything is started."""
    try:
        store = make_store(settings.store)
        await store.open()
    except (ValueError, ConnectionError) as error:
        raise InvalidSpec([Problem("settings", "store", str(error))]) from error
    try:
        if settings.nodes:
            await Registry(store).sync_files(specs, author="modelyard up")
    finally:
        await store.aclose()


def _start(settings: Settings, host: RayHost, stop: threading.Event, on_event: OnEvent) -> None:
    on_event(ServiceEvent("ray", "starting Ray" if settings.address is None else f"joining {settings.address}"))
    try:
        _start_ray(settings, host, on_event)
    except SystemExit:  # from Ray's own handler of SIGTERM
        stop.set()
        return
    stop_on_signals(stop)  # again: Ray puts handlers of its own in their place
    from ray import serve

    from deployments.app import build_app

    on_event(ServiceEvent("gateway", "starting the gateway"))
    target = serve.RunTarget(build_app(settings), name=GATEWAY, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    _await_nodes(settings, stop, on_event)


def _start_ray(settings: Settings, host: RayHost, on_event: OnEvent) -> None:
    if settings.address is None:
        host.start()
        return
    # Joining may block for minutes where the address takes connections and says nothing. It starts no process.
    with given_up_on_signal(lambda: on_event(ServiceEvent("stopped", f"stopped before {settings.address} answered"))):
        host.start()


def _await_nodes(settings: Settings, stop: threading.Event, on_event: OnEvent) -> None:
    """Report nodes as they come up, and readiness once none is loading any more."""
    shown: dict[str, str] = {}
    limit = time.monotonic() + GATEWAY_S
    with httpx.Client(base_url=url_of(settings), timeout=5, trust_env=False, headers=_headers(settings)) as client:
        while not stop.is_set():
            nodes = _ask(client)
            if nodes is None and not shown and time.monotonic() > limit:
                raise ModelyardError(f"the gateway did not answer within {GATEWAY_S:g} s")
            for node in nodes or ():
                if shown.get(node["name"]) != node["state"]:
                    shown[node["name"]] = node["state"]
                    message = node["error"] or node["state"]
                    on_event(ServiceEvent("node", message, node["name"], node["state"]))
            if nodes is not None and all(node["state"] != "loading" for node in nodes):
                on_event(ServiceEvent("ready", _summary(nodes), data=_places(settings, nodes)))
                return
            stop.wait(LOOK_EVERY_S)


def _summary(nodes: list[dict[str, Any]]) -> str:
    if not nodes or any(node["state"] == "ready" for node in nodes):
        return "ready"
    failed = "the node" if len(nodes) == 1 else f"all {len(nodes)} nodes"
    advice = "`modelyard nodes list` says why; mend that and start again, or `modelyard nodes add` the mended YAML"
    return f"up, but no node serves: {failed} failed to load. {advice}"


def _ask(client: httpx.Client) -> list[dict[str, Any]] | None:
    """Return the nodes once the gateway serves them; None before."""
    try:
        ready = client.get("/readyz")
        if ready.headers.get("content-type") != "application/json" or "nodes" not in ready.json():
            return None
        answer = client.get("/v1/nodes")
        known: list[dict[str, Any]] = answer.json()["data"] if answer.status_code == 200 else []
        return known if ready.json()["ready"] or known else None
    except (httpx.HTTPError, ValueError):
        return None


def url_of(settings: Settings) -> str:
    """Return the address at which this machine reaches the service."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "localhost") else settings.host  # noqa: S104  # compared
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _headers(settings: Settings) -> dict[str, str]:
    return {"authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}


def _places(settings: Settings, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    url = url_of(settings)
    return {
        "url": url,
        "openai_base_url": f"{url}/v1",
        "docs_url": f"{url}/docs",
        "metrics_url": f"{url}/metrics",
        "store": settings.store.split("@")[-1] if "@" in settings.store else settings.store,
        "nodes": {node["name"]: node["state"] for node in nodes},
    }
