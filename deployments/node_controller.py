"""Brings Serve to what the registry says: one application for each version of each hosted node.

There is one controller in a cluster. A new version is loaded beside the serving one and takes over when it is ready,
so an update loses no request, and a version that cannot be loaded changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from ray import serve
from ray.serve.schema import ApplicationStatus

from deployments.app_names import node_app
from deployments.logs import configure_logging
from deployments.node_deployment import HostedNode
from deployments.node_files import NodeFiles
from deployments.rollouts import AUTHOR, Rollouts
from deployments.serve_apps import ask_serve, delete_app, deploy_error, deploy_options, load_error, node_apps, reason
from deployments.settings import Settings
from deployments.snapshot import Canary, NodeStatus, Snapshot, State
from graph.node import installed_kinds
from graph.registry import NodeVersion, Registry
from graph.spec import NodeSpec
from graph.stores import make_store
from graph.types import NodeName

log = logging.getLogger("modelyard.controller")
_ALIVE = (ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY)

LOOK_EVERY_S = 0.5
"""How often the registry's revision is read, for changes made through another gateway."""
JUDGE_EVERY_S = 2.0
"""How often it is looked at how newer versions on trial do."""
RETIRE_AFTER_S = 3.0
"""How long a replaced version goes on serving, so that every gateway has heard of its successor."""
MISSES = 3
"""Rounds in a row that may go wrong with a node before it is shown as failed; each round tries again."""


class NodeController:
    """The one writer of Serve applications; gateways watch it."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings)
        self._settings = settings
        self._store = make_store(settings.store)
        self._registry = Registry(self._store)
        self._kinds = installed_kinds()
        self._files = NodeFiles(settings.nodes, self._kinds, settings.watch_nodes_s)
        self._rollouts = Rollouts(self._store)
        self._serving: dict[NodeName, NodeVersion] = {}
        self._canaries: dict[NodeName, NodeVersion] = {}
        """Newest versions that are loaded and take a share of their node's calls."""
        self._judged_at = 0.0
        self._stable: dict[NodeName, int] = {}
        """Of nodes in a rollout: the version that serves meanwhile."""
        self._failed: dict[str, str] = {}
        """Applications whose node said that it cannot be loaded, and why."""
        self._misses: dict[str, int] = {}
        """Applications that something else is wrong with, and for how many rounds."""
        self._deployed: set[str] = set()
        """Applications that this controller has asked for, as opposed to those that it found."""
        self._deploying = asyncio.Lock()
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
        except BaseException:  # raised again: the store is away, or nobody waits; the next look tries again
            self._started = False
            raise
        self._tasks.add(asyncio.create_task(self._loop()))

    async def _loop(self) -> None:
        seen = -1
        while True:
            try:
                await self._files.sync(self._registry)
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
            if node_app(s.name, s.version) not in self._failed and s.canary is None
        ) or (bool(self._canaries) and time.monotonic() - self._judged_at >= JUDGE_EVERY_S)

    async def _reconcile(self) -> None:
        self._judged_at = time.monotonic()
        wanted = await self._registry.current()
        apps = await ask_serve(node_apps)
        settled = await asyncio.gather(*(self._settle(version, apps) for version in wanted.values()))
        statuses = {status.name: status for status in settled}
        await self._publish(statuses)
        needed = {node_app(s.name, v) for s in statuses.values() for v in (s.version, s.serving_version) if v}
        needed |= {node_app(name, version) for name, version in self._stable.items()}
        for app in apps:
            if app not in needed or app in self._failed:
                self._retire(app, at_once=app in self._failed)
        self._failed = {app: why for app, why in self._failed.items() if app in needed}
        self._misses = {app: count for app, count in self._misses.items() if app in needed}
        self._deployed &= needed

    async def _settle(self, wanted: NodeVersion, apps: Mapping[str, ApplicationStatus]) -> NodeStatus:
        """Bring one node nearer to its wanted version and say where it stands, whatever goes wrong with it."""
        app = node_app(wanted.name, wanted.version)
        trouble = None
        try:
            await self._advance(wanted, apps)
            self._misses.pop(app, None)
        except Exception as error:  # a boundary: one sick node must not keep the others from being seen and loaded
            trouble = reason(error)
            self._misses[app] = self._misses.get(app, 0) + 1
            if self._misses[app] == 1:
                log.warning("node %s version %d: %s", wanted.name, wanted.version, trouble, exc_info=True)
        return self._status(wanted, app, trouble)

    async def _advance(self, wanted: NodeVersion, apps: Mapping[str, ApplicationStatus]) -> None:
        name = wanted.name
        rollout = await self._rollouts.of(wanted, self._serving.get(name))
        if name not in self._serving:
            await self._recover(name, apps, without=wanted.version if rollout else None)
            rollout = rollout or await self._rollouts.of(wanted, self._serving.get(name))
        if rollout is None:
            self._canaries.pop(name, None)
            self._stable.pop(name, None)
            if await self._loaded(wanted, apps):
                self._serving[name] = wanted
            return
        self._stable[name] = rollout.stable
        if name not in self._serving:  # the whole service was started anew
            await self._revive(wanted, rollout.stable, apps)
        if await self._loaded(wanted, apps):
            self._canaries[name] = wanted
            await self._judge(wanted, rollout.stable)

    async def _revive(self, wanted: NodeVersion, number: int, apps: Mapping[str, ApplicationStatus]) -> None:
        history = await self._registry.history(wanted.name)
        stable = next((version for version in history if version.version == number), wanted)
        if await self._loaded(stable, apps):
            self._serving[wanted.name] = stable
        elif node_app(stable.name, stable.version) in self._failed and wanted.name in self._canaries:
            self._serving[wanted.name] = wanted  # better than nothing

    async def _judge(self, canary: NodeVersion, stable: int) -> None:
        """Bring the older version back if too many calls suffer from the newer one."""
        assert canary.spec is not None and canary.spec.rollout is not None  # noqa: S101  # it is in a rollout
        why = await self._rollouts.too_many(canary.name, canary.version, canary.spec.rollout)
        if why is not None:
            log.warning("node %s version %d is rolled back: %s", canary.name, canary.version, why)
            author = f"{AUTHOR}: version {canary.version}: {why}"
            await self._registry.rollback(canary.name, to=stable, author=author)
            self._wake.set()

    async def _loaded(self, version: NodeVersion, apps: Mapping[str, ApplicationStatus]) -> bool:
        """Bring one version nearer to being loaded; say whether it can take calls."""
        assert version.spec is not None  # noqa: S101  # versions that are wanted live
        app = node_app(version.name, version.version)
        if self._runs_in_gateway(version.spec):
            self._failed.pop(app, None)
            return True
        if app in self._failed:
            return False
        if app not in apps:
            log.info("loading node %s version %d", version.name, version.version)
            self._deployed.add(app)
            async with self._deploying:
                await ask_serve(deploy_app, app, version.spec, self._settings)
        elif apps[app] is ApplicationStatus.DEPLOY_FAILED:
            self._failed[app] = await ask_serve(deploy_error, app)
        elif apps[app] in _ALIVE:
            if version in (self._serving.get(version.name), self._canaries.get(version.name)):
                return True
            error = await load_error(app)
            if error is None:
                return True
            self._failed[app] = error
        return False

    async def _recover(self, name: NodeName, apps: Mapping[str, ApplicationStatus], *, without: int | None) -> None:
        """Find what serves a node when this controller was restarted and forgot; not the version that is on trial."""
        for version in await self._registry.history(name):
            app = node_app(name, version.version)
            found, state = app not in self._deployed, apps.get(app)
            # One that lost replicas with their machine is deploying again, and those that are left serve.
            alive = state in _ALIVE or (found and state is ApplicationStatus.DEPLOYING)
            if version.spec is None or version.version == without or not alive:
                continue
            try:
                serves = await load_error(app) is None
            except TimeoutError:
                serves = found and state in _ALIVE  # one that served before is busy with calls
            except Exception as error:  # a boundary: whatever is wrong with this version, another one may serve
                log.info("node %s version %d: %s", name, version.version, reason(error))
                serves = False
            if serves:
                self._serving[name] = version
                return

    def _runs_in_gateway(self, spec: NodeSpec | None) -> bool:
        kind = self._kinds.get(spec.kind) if spec else None
        return kind is not None and kind.placement == "gateway"

    async def _publish(self, statuses: dict[NodeName, NodeStatus]) -> None:
        for name in set(self._serving) - set(statuses):
            del self._serving[name]
            self._canaries.pop(name, None)
            self._stable.pop(name, None)
            await self._rollouts.forget(name)
        if statuses == self._snapshot.nodes and self._snapshot.number:
            return
        async with self._changed:
            # Numbers rise over a restart of this controller, too: they begin at the time of day.
            self._snapshot = Snapshot(max(self._snapshot.number + 1, int(time.time())), statuses)
            self._changed.notify_all()

    def _status(self, wanted: NodeVersion, app: str, trouble: str | None) -> NodeStatus:
        assert wanted.spec is not None  # noqa: S101  # `current` has live versions only
        serving, error = self._serving.get(wanted.name), self._failed.get(app)
        failed = error is not None or self._misses.get(app, 0) >= MISSES
        state: State = "ready" if serving is not None else "failed" if failed else "loading"
        hosted = serving is not None and not self._runs_in_gateway(serving.spec)
        return NodeStatus(
            wanted.name,
            wanted.version,
            wanted.spec,
            state,
            serving.spec if serving else None,
            serving.version if serving else None,
            node_app(serving.name, serving.version) if serving and hosted else None,
            error or trouble,
            self._canary(wanted),
        )

    def _canary(self, wanted: NodeVersion) -> Canary | None:
        spec = wanted.spec
        if self._canaries.get(wanted.name) != wanted or spec is None or spec.rollout is None:
            return None
        app = None if self._runs_in_gateway(spec) else node_app(wanted.name, wanted.version)
        return Canary(spec, wanted.version, spec.rollout.share, app)

    def _retire(self, app: str, *, at_once: bool) -> None:
        if any(task.get_name() == app for task in self._tasks):
            return
        task = asyncio.create_task(delete_app(app, 0 if at_once else RETIRE_AFTER_S), name=app)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def deploy_app(app: str, spec: NodeSpec, settings: Settings) -> None:
    """Start an application for one version of a node; returns before its model is loaded."""
    deployment = serve.deployment(HostedNode).options(**deploy_options(spec, settings))
    application = deployment.bind(spec.model_dump(mode="json"), settings)
    target = serve.RunTarget(application, name=app, route_prefix=None)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
