"""The controller, with a Serve that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import KINDS, spec
from ray.serve.schema import ApplicationStatus
from waiting import until

import deployments.node_controller
import deployments.serve_apps
from deployments.node_controller import NodeController
from deployments.rollouts import Tally
from deployments.settings import Settings
from deployments.snapshot import NodeStatus
from graph.loader import dump_yaml


class Hosted(KINDS["fake"]):  # type: ignore[misc]
    """A node with a process of its own."""

    placement = "replica"


class Answer:
    """What a handle's method returns: awaited, it answers, raises, or says nothing."""

    def __init__(self, said: Any) -> None:
        self._said = said

    def __await__(self) -> Any:
        if self._said == "silence":
            yield from asyncio.Event().wait().__await__()
        if isinstance(self._said, Exception):
            raise self._said
        return self._said

    def cancel(self) -> None: ...


class FakeServe:
    """Serve's functions that the controller uses."""

    def __init__(self) -> None:
        self.apps: dict[str, ApplicationStatus] = {}
        self.said: dict[str, Any] = {}
        self.refused: list[str] = []
        """Applications whose removal goes wrong, once each."""
        self.undeployable: set[str] = set()

    def status(self) -> Any:
        apps = {name: SimpleNamespace(status=status, message="no GPU") for name, status in self.apps.items()}
        return SimpleNamespace(applications=apps)

    def get_app_handle(self, app: str) -> Any:
        return SimpleNamespace(status=SimpleNamespace(remote=lambda: Answer(self.said.get(app))))

    def delete(self, app: str, _blocking: bool) -> None:
        if app in self.refused:
            self.refused.remove(app)
            raise RuntimeError("Serve is away")
        del self.apps[app]

    def deploy(self, app: str, *_: Any) -> None:
        if app in self.undeployable:
            raise RuntimeError("no such runtime environment")
        self.apps[app] = ApplicationStatus.RUNNING


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> FakeServe:
    serve = FakeServe()
    monkeypatch.setattr(deployments.serve_apps, "serve", serve)
    monkeypatch.setattr(deployments.node_controller, "deploy_app", serve.deploy)
    monkeypatch.setattr(deployments.node_controller, "installed_kinds", lambda: KINDS | {"hosted": Hosted})
    monkeypatch.setattr(deployments.node_controller, "RETIRE_AFTER_S", 0.01)
    monkeypatch.setattr(deployments.node_controller, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(deployments.node_controller, "JUDGE_EVERY_S", 0.01)
    monkeypatch.setattr(deployments.serve_apps, "ANSWER_S", 0.02)
    monkeypatch.setattr(deployments.serve_apps, "RETRY_S", 0.01)
    return serve


Begin = Callable[..., NodeController]


@pytest.fixture
async def begin(serve: FakeServe, tmp_path: Path) -> AsyncIterator[Begin]:
    """Make a controller; a second one is what comes after a restart."""
    made: list[NodeController] = []

    def controller(**settings: Any) -> NodeController:
        made.append(NodeController(Settings(store=f"sqlite:///{tmp_path}/state.db", **settings)))
        return made[-1]

    yield controller
    for one in made:
        await stop(one)


async def stop(controller: NodeController) -> None:
    for task in list(controller._tasks):
        task.cancel()
    await asyncio.gather(*controller._tasks, return_exceptions=True)
    await controller._store.aclose()


async def put(controller: NodeController, name: str, **more: Any) -> None:
    await controller.look()
    await controller._registry.put(spec(name, kind="hosted", **more), source="api", author="test")


async def shown(controller: NodeController, condition: Callable[[dict[str, NodeStatus]], Any]) -> dict[str, NodeStatus]:
    """Wait until the snapshot is as it should be, and return it."""
    nodes = lambda: dict(controller._snapshot.nodes)  # noqa: E731
    await until(lambda: condition(nodes()), 10)
    return nodes()


def is_ready(nodes: dict[str, NodeStatus], name: str) -> bool:
    return name in nodes and nodes[name].state == "ready"


async def test_a_node_is_loaded_updated_and_removed(begin: Begin, serve: FakeServe) -> None:
    controller = begin()
    await put(controller, "a")
    nodes = await shown(controller, lambda nodes: is_ready(nodes, "a"))
    assert (nodes["a"].app, nodes["a"].error) == ("node-a-v1", None)
    await put(controller, "a", description="Another.")
    nodes = await shown(controller, lambda nodes: nodes["a"].serving_version == 2)
    await until(lambda: set(serve.apps) == {"node-a-v2"})
    await controller._registry.remove("a", author="test")
    await shown(controller, lambda nodes: not nodes)
    await until(lambda: not serve.apps)
    assert (controller._serving, controller._deployed) == ({}, set())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("silence", "TimeoutError: the node's process did not answer within 0.02 s"),
        (RuntimeError("The actor died\nand a traceback"), "RuntimeError: The actor died"),
    ],
    ids=["silent", "dead"],
)
async def test_a_sick_node_does_not_keep_others_from_coming_and_going(
    begin: Begin, serve: FakeServe, said: Any, words: str
) -> None:
    controller = begin()
    serve.said["node-sick-v1"] = said
    await put(controller, "sick")
    await shown(controller, lambda nodes: "sick" in nodes and nodes["sick"].error)
    await put(controller, "well")
    nodes = await shown(controller, lambda nodes: is_ready(nodes, "well") and nodes["sick"].state == "failed")
    assert (nodes["sick"].error, nodes["sick"].serving) == (words, None)
    await controller._registry.remove("well", author="test")
    await shown(controller, lambda nodes: set(nodes) == {"sick"})
    await until(lambda: set(serve.apps) == {"node-sick-v1"})
    serve.said.clear()
    nodes = await shown(controller, lambda nodes: is_ready(nodes, "sick"))
    assert nodes["sick"].error is None


async def test_a_passing_trouble_is_no_failure(begin: Begin, serve: FakeServe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.node_controller, "MISSES", 10**6)
    controller = begin()
    serve.said["node-a-v1"] = "silence"
    await put(controller, "a")
    nodes = await shown(controller, lambda nodes: "a" in nodes and nodes["a"].error)
    assert nodes["a"].state == "loading"


async def test_an_application_that_cannot_be_made_is_one_nodes_trouble(begin: Begin, serve: FakeServe) -> None:
    controller = begin()
    serve.undeployable.add("node-odd-v1")
    await put(controller, "odd")
    await put(controller, "well")
    nodes = await shown(controller, lambda nodes: is_ready(nodes, "well") and nodes["odd"].state == "failed")
    assert nodes["odd"].error == "RuntimeError: no such runtime environment"


async def test_a_version_that_cannot_be_loaded_changes_nothing_and_is_forgotten_with_its_successor(
    begin: Begin, serve: FakeServe
) -> None:
    controller = begin()
    await put(controller, "a")
    await shown(controller, lambda nodes: is_ready(nodes, "a"))
    serve.said["node-a-v2"] = "the weights are missing"
    await put(controller, "a", description="Broken.")
    nodes = await shown(controller, lambda nodes: nodes["a"].error)
    assert (nodes["a"].state, nodes["a"].serving_version, nodes["a"].error) == ("ready", 1, "the weights are missing")
    await until(lambda: set(serve.apps) == {"node-a-v1"})
    assert set(controller._failed) == {"node-a-v2"}
    await put(controller, "a", description="Mended.")
    await shown(controller, lambda nodes: nodes["a"].serving_version == 3)
    await until(lambda: not controller._failed)


async def test_a_removal_that_goes_wrong_is_tried_again(begin: Begin, serve: FakeServe) -> None:
    controller = begin()
    await put(controller, "a")
    await shown(controller, lambda nodes: is_ready(nodes, "a"))
    serve.refused = ["node-a-v1", "node-a-v1"]
    await controller._registry.remove("a", author="test")
    await until(lambda: not serve.apps)
    assert serve.refused == []


@pytest.mark.parametrize(
    ("state", "said", "shows"),
    [
        ("RUNNING", "silence", "ready"),
        ("UNHEALTHY", "silence", "ready"),
        ("DEPLOYING", None, "ready"),  # some replicas are left
        ("DEPLOYING", "silence", "loading"),
    ],
)
async def test_a_restarted_controller_finds_what_serves_even_where_it_is_busy(
    begin: Begin, serve: FakeServe, state: str, said: str | None, shows: str
) -> None:
    first = begin()
    await put(first, "a")
    await put(first, "b")
    await shown(first, lambda nodes: is_ready(nodes, "a") and is_ready(nodes, "b"))
    await stop(first)
    serve.apps["node-a-v1"] = ApplicationStatus[state]
    serve.said["node-a-v1"] = said
    second = begin()
    await second.look()
    nodes = await shown(second, lambda nodes: len(nodes) == 2)
    assert [nodes[name].state for name in "ab"] == [shows, "ready"]


async def test_files_that_are_watched_are_registered_before_anything_is_shown(
    begin: Begin, serve: FakeServe, tmp_path: Path
) -> None:
    folder = tmp_path / "nodes"
    folder.mkdir()
    (folder / "a.yaml").write_text(dump_yaml(spec("a", kind="hosted")))
    controller = begin(nodes=(folder,), watch_nodes_s=0.01)
    first = await controller.watch(0)
    assert set(first.nodes) == {"a"}
    (folder / "b.yaml").write_text(dump_yaml(spec("b", kind="hosted")))
    await shown(controller, lambda nodes: is_ready(nodes, "b"))


TRIAL = {"share": 0.2, "max_flips": 0.1, "min_answers": 5}


async def on_trial(begin: Begin) -> NodeController:
    """A controller with version 1 of node `a` serving, and version 2 on trial."""
    controller = begin()
    await put(controller, "a")
    await shown(controller, lambda nodes: is_ready(nodes, "a"))
    await put(controller, "a", model="new", rollout=TRIAL)
    await shown(controller, lambda nodes: nodes["a"].canary)
    return controller


async def test_a_new_version_on_trial_stands_beside_the_old_one_until_it_is_promoted(
    begin: Begin, serve: FakeServe
) -> None:
    controller = await on_trial(begin)
    status = controller._snapshot.nodes["a"]
    assert status.canary is not None
    assert (status.state, status.version, status.serving_version, status.app) == ("ready", 2, 1, "node-a-v1")
    assert (status.canary.version, status.canary.share, status.canary.app) == (2, 0.2, "node-a-v2")
    await controller._rollouts.promote("a", 2, by="test")
    nodes = await shown(controller, lambda nodes: nodes["a"].serving_version == 2)
    assert (nodes["a"].canary, nodes["a"].app) == (None, "node-a-v2")
    await until(lambda: set(serve.apps) == {"node-a-v2"})


async def test_too_many_negative_flips_bring_the_old_version_back(begin: Begin, serve: FakeServe) -> None:
    controller = await on_trial(begin)
    await controller._rollouts.add("a", 2, Tally(answers=4, flips=4), [])
    await asyncio.sleep(0.05)
    assert controller._snapshot.nodes["a"].canary is not None  # too few to say
    await controller._rollouts.add("a", 2, Tally(answers=4), [])
    nodes = await shown(controller, lambda nodes: nodes["a"].serving_version == 3)
    assert nodes["a"].canary is None and nodes["a"].serving is not None and nodes["a"].serving.model is None
    latest = (await controller._registry.history("a"))[0]
    assert (latest.version, latest.source) == (3, "rollback")
    assert latest.author == "modelyard rollout: version 2: 4 of 8 answers are negative flips, 50.0% > 10.0%"
    await until(lambda: set(serve.apps) == {"node-a-v3"})


@pytest.mark.parametrize("apps_too", [False, True], ids=["controller", "everything"])
async def test_a_rollout_survives_a_restart(begin: Begin, serve: FakeServe, apps_too: bool) -> None:
    await stop(await on_trial(begin))
    if apps_too:
        serve.apps.clear()
    second = begin()
    await second.look()
    nodes = await shown(second, lambda nodes: "a" in nodes and nodes["a"].canary and nodes["a"].serving_version == 1)
    assert nodes["a"].state == "ready"
    assert set(serve.apps) == {"node-a-v1", "node-a-v2"}


async def test_a_version_on_trial_that_cannot_be_loaded_takes_no_calls(begin: Begin, serve: FakeServe) -> None:
    controller = begin()
    await put(controller, "a")
    await shown(controller, lambda nodes: is_ready(nodes, "a"))
    serve.said["node-a-v2"] = "the weights are missing"
    await put(controller, "a", model="new", rollout=TRIAL)
    nodes = await shown(controller, lambda nodes: nodes["a"].error)
    assert (nodes["a"].canary, nodes["a"].serving_version) == (None, 1)


async def test_a_node_that_is_removed_on_trial_leaves_nothing(begin: Begin, serve: FakeServe) -> None:
    controller = await on_trial(begin)
    await controller._registry.remove("a", author="test")
    await shown(controller, lambda nodes: not nodes)
    await until(lambda: not serve.apps)
    assert (controller._serving, controller._canaries, controller._stable) == ({}, {}, {})
    assert await controller._rollouts.progress("a") is None
