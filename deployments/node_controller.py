"""Brings Serve to what the registry says: one application for each version of each hosted node.

There is one controller in a cluster. A new version is loaded beside the serving one and takes over when it is ready,
so an update loses no request, and a version that cannot be loaded changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.app_names import node_app, parse_node_app
from deployments.logs import configure_logging
from deployments.node_deployment import HostedNode
from deployments.settings import Settings
from deployments.snapshot import NodeStatus, Snapshot, State
from graph.node import installed_kinds
from graph.registry import NodeVersion, Registry
from graph.spec import NodeSpec
from graph.stores import make_store
from graph.types import NodeName

log = logging.getLogger("modelyard.controller")

LOOK_EVERY_S = 0.5
"""How often the registry's revision is read, for changes made through another gateway."""
RETIRE_AFTER_S = 3.0
"""How long a replaced version goes on serving, so that every gateway has heard of its successor."""


class NodeController:
    """The one writer of Serve applications; gateways watch it."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings)
        self._settings = settings
        self._store = make_store(settings.store)
        self._registry = Registry(self._store)
        self._kinds = installed_kinds()
        self._serving: dict[NodeName, NodeVersion] = {}
        self._failed: dict[str, str] = {}
        self._snapshot = Snapshot()
        self._changed = asyncio.Condition()
        self._wake = asyncio.Event()
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def watch(self, after: int, timeout_s: float = 20.0) -> Snapshot:
        """Return the snapshot as soon as its number is above `after`, or as it is when the time is over."""
        await self._start()
        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(lambda: self._snapshot.number > after)
            except TimeoutError:
                pass
        return self._snapshot

    async def look(self) -> None:
        """Look at the registry now rather than at the next tick."""
        await self._start()
        self._wake.set()

    async def check_health(self) -> None:
        """Start working, also when nobody has asked yet; die when the loop has died, so that Serve starts anew."""
        await self._start()
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception():
                raise RuntimeError("the controller's loop has ended") from task.exception()

    async def _start(self) -> None:
        if self._started:
            return
        self._started = True
        try:
            await self._store.open()
        except BaseException:
            self._started = False  # the store is away, or the caller gave up: the next health check tries again
            raise
        self._tasks.add(asyncio.create_task(self._loop()))

    async def _loop(self) -> None:
        seen = -1
        while True:
            try:
                revision = await self._registry.revision()
                if revision != seen or self._wake.is_set() or self._unsettled():
                    self._wake.clear()
                    await self._reconcile()
                    seen = revision
            except Exception:  # a boundary: the store or Serve may be away for a while; the next round sees
                log.exception("nodes could not be brought up to date; trying again")
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY_S)
            except TimeoutError:
                continue

    def _unsettled(self) -> bool:
        return any(
            s.state == "loading" or s.version != s.serving_version
            for s in self._snapshot.nodes.values()
            if node_app(s.name, s.version) not in self._failed
        )

    async def _reconcile(self) -> None:
        wanted = await self._registry.current()
        apps = await asyncio.to_thread(_node_apps)
        statuses = {name: await self._settle(version, apps) for name, version in wanted.items()}
        await self._publish(statuses)
        needed = {node_app(s.name, v) for s in statuses.values() for v in (s.version, s.serving_version) if v}
        for app in apps:
            if app not in needed or app in self._failed:
                self._retire(app, at_once=app in self._failed)

    async def _settle(self, wanted: NodeVersion, apps: Mapping[str, ApplicationStatus]) -> NodeStatus:
        """Bring one node nearer to its wanted version and say where it stands."""
        assert wanted.spec is not None  # noqa: S101  # `current` has live versions only
        app = node_app(wanted.name, wanted.version)
        serving = self._serving.get(wanted.name) or await self._recover(wanted.name, apps)
        error = self._failed.get(app)
        if self._runs_in_gateway(wanted.spec):
            serving, error = wanted, None
        elif app not in apps and error is None:
            log.info("loading node %s version %d", wanted.name, wanted.version)
            await asyncio.to_thread(_deploy, app, wanted.spec, self._settings)
        elif apps.get(app) in (ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY) and serving != wanted:
            error = await serve.get_app_handle(app).status.remote()
            serving = wanted if error is None else serving
        elif apps.get(app) is ApplicationStatus.DEPLOY_FAILED:
            error = await asyncio.to_thread(_deploy_error, app)
        if error is not None:
            self._failed[app] = error
        if serving is not None:
            self._serving[wanted.name] = serving
        return _status(
            wanted,
            serving,
            error,
            None if serving is None or self._runs_in_gateway(serving.spec) else node_app(serving.name, serving.version),
        )

    async def _recover(self, name: NodeName, apps: Mapping[str, ApplicationStatus]) -> NodeVersion | None:
        """Find what serves a node when this controller was restarted and forgot."""
        for version in await self._registry.history(name):
            app = node_app(name, version.version)
            if version.spec is not None and apps.get(app) is ApplicationStatus.RUNNING:
                if await serve.get_app_handle(app).status.remote() is None:
                    return version
        return None

    def _runs_in_gateway(self, spec: NodeSpec | None) -> bool:
        kind = self._kinds.get(spec.kind) if spec else None
        return kind is not None and kind.placement == "gateway"

    async def _publish(self, statuses: dict[NodeName, NodeStatus]) -> None:
        for name in set(self._serving) - set(statuses):
            del self._serving[name]
        if statuses == self._snapshot.nodes and self._snapshot.number:
            return
        async with self._changed:
            # Numbers rise over a restart of this controller, too: they begin at the time of day.
            self._snapshot = Snapshot(max(self._snapshot.number + 1, int(time.time())), statuses)
            self._changed.notify_all()

    def _retire(self, app: str, *, at_once: bool) -> None:
        async def retire() -> None:
            await asyncio.sleep(0 if at_once else RETIRE_AFTER_S)
            await asyncio.to_thread(serve.delete, app, _blocking=False)

        task = asyncio.create_task(retire(), name=app)
        if any(other.get_name() == app for other in self._tasks):
            task.cancel()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _node_apps() -> dict[str, ApplicationStatus]:
    found = serve.status().applications
    return {
        name: app.status
        for name, app in found.items()
        if parse_node_app(name) and app.status is not ApplicationStatus.DELETING
    }


def _deploy_error(app: str) -> str:
    status = serve.status().applications.get(app)
    return status.message if status else "the application is gone"


def _status(wanted: NodeVersion, serving: NodeVersion | None, error: str | None, app: str | None) -> NodeStatus:
    assert wanted.spec is not None  # noqa: S101
    state: State = "ready" if serving is not None else "failed" if error is not None else "loading"
    return NodeStatus(
        wanted.name,
        wanted.version,
        wanted.spec,
        state,
        serving.spec if serving else None,
        serving.version if serving else None,
        app,
        error,
    )


def _deploy(app: str, spec: NodeSpec, settings: Settings) -> None:
    """Start an application for one version of a node; returns before its model is loaded."""
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
    application = serve.deployment(HostedNode).options(**options).bind(spec.model_dump(mode="json"), settings)
    target = serve.RunTarget(application, name=app, route_prefix=None)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
