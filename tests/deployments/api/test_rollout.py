"""A new version on trial, over HTTP, with the real controller and two gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import KINDS, spec
from gateway_service import Service, Start
from waiting import until

import deployments.canary_watch
import deployments.node_controller
import deployments.serve_apps
from deployments.node_controller import NodeController
from deployments.snapshot import Snapshot

SHARE = {"share": 0.5, "max_flips": 0.2, "min_answers": 4, "check": {"must_not_match": "sorry"}}


class Followed:
    """The real controller, asked as through Serve handles."""

    def __init__(self, controller: NodeController) -> None:
        self.watch = SimpleNamespace(remote=controller.watch)
        self.look = SimpleNamespace(remote=controller.look)


@pytest.fixture
async def two(start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Service, Service]]:
    """Two gateways that follow one controller, with one node whose newer version apologises."""
    monkeypatch.setattr(deployments.node_controller, "installed_kinds", lambda: KINDS)
    monkeypatch.setattr(deployments.node_controller, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(deployments.node_controller, "JUDGE_EVERY_S", 0.02)
    monkeypatch.setattr(deployments.canary_watch, "FOLLOW_S", 0.02)
    monkeypatch.setattr(
        deployments.serve_apps, "serve", SimpleNamespace(status=lambda: SimpleNamespace(applications={}))
    )
    law = spec("law", params={"reply": "yes indeed"})
    first, second = await start(law), await start(law)
    controller = NodeController(first.gateway.settings)
    for service in (first, second):
        service.gateway._controller = Followed(controller)
        await follow_anew(service)
    await until(lambda: controller._snapshot.nodes)  # a version that comes before another serves is not on trial
    yield first, second
    for task in list(controller._tasks):
        task.cancel()
    await asyncio.gather(*controller._tasks, return_exceptions=True)
    await controller._store.aclose()


async def follow_anew(service: Service) -> None:
    gateway = service.gateway
    assert gateway._watcher is not None
    gateway._watcher.cancel()
    await asyncio.gather(gateway._watcher, return_exceptions=True)
    gateway._watcher = asyncio.create_task(gateway._watch())


async def register(service: Service, reply: str, **fields: Any) -> None:
    declared = spec("law", params={"reply": reply}, rollout=SHARE, **fields)
    answer = await service.http.put("/v1/nodes/law", json=declared.to_yaml_dict())
    assert answer.status_code == 200, answer.text


async def on_trial(*services: Service) -> None:
    for service in services:
        await until(lambda service=service: "law" in service.gateway.snapshot.canaries)


async def test_a_worse_version_is_taken_back_and_nobody_got_its_answers(two: tuple[Service, Service]) -> None:
    await register(two[0], "sorry no")
    await on_trial(*two)
    assert 'modelyard_rollbacks_total{modelyard_node="law"} 0.0' in (await two[0].http.get("/metrics")).text
    answers = [await two[number % 2].chat("law", f"question {number}") for number in range(24)]
    texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    assert texts == {"yes indeed"}
    for service in two:
        await until(lambda service=service: service.gateway.snapshot.nodes["law"].serving_version == 3)
    node = (await two[1].http.get("/v1/nodes/law")).json()
    assert "rollout" not in node and node["spec"]["params"] == {"reply": "yes indeed"}
    latest = (await two[0].http.get("/v1/nodes/law/history")).json()["data"][0]
    assert latest["source"] == "rollback" and "negative flips" in latest["author"]
    scraped = (await two[0].http.get("/metrics")).text
    assert 'modelyard_rollbacks_total{modelyard_node="law"} 1.0' in scraped
    assert 'verdict="flip"' in scraped and "law@v2" not in scraped


async def test_a_good_version_takes_its_share_and_is_promoted(two: tuple[Service, Service]) -> None:
    await register(two[0], "yes of course")
    await on_trial(*two)
    texts = [(await two[n % 2].chat("law", f"q {n}")).json()["choices"][0]["message"]["content"] for n in range(24)]
    assert set(texts) == {"yes indeed", "yes of course"}

    async def answers() -> int:
        node = (await two[1].http.get("/v1/nodes/law")).json()
        return int(node["rollout"]["answers"])

    limit = asyncio.get_running_loop().time() + 10
    while await answers() < texts.count("yes of course"):
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.02)
    listed = (await two[0].http.get("/v1/nodes")).json()["data"][0]
    assert (listed["version"], listed["serving_version"], listed["rollout"]["share"]) == (2, 1, 0.5)
    promoted = await two[1].http.post("/v1/nodes/law/promote")
    assert promoted.json()["version"] == 2
    for service in two:
        await until(lambda service=service: service.gateway.snapshot.nodes["law"].serving_version == 2)
        answer = await service.chat("law", "again")
        assert answer.json()["choices"][0]["message"]["content"] == "yes of course"
    again = await two[0].http.post("/v1/nodes/law/promote")
    assert again.status_code == 400 and "in no rollout" in again.json()["error"]["message"]


async def test_a_version_that_failed_to_load_is_not_promoted(two: tuple[Service, Service]) -> None:
    await register(two[0], "yes of course")
    await on_trial(*two)
    gateway = two[0].gateway
    status = gateway.snapshot.nodes["law"]
    gateway.snapshot = Snapshot(
        gateway.snapshot.number, {"law": replace(status, canary=None, error="the weights are missing")}
    )
    refused = await two[0].http.post("/v1/nodes/law/promote")
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (409, "name", "node_refused")
    assert error["message"].startswith("version 2 of node 'law' is not loaded: the weights are missing; put one that")
    progress = await gateway.canary_watch.rollouts.progress("law")
    assert progress is not None and not progress.promoted


async def test_a_promotion_of_nothing_is_404(two: tuple[Service, Service]) -> None:
    assert (await two[0].http.post("/v1/nodes/nobody/promote")).status_code == 404
