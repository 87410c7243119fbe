"""When a gateway replica comes into service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import KINDS, FakeController

import deployments.api.app
import deployments.gateway
from deployments.api.app import create_app
from deployments.gateway import Gateway
from deployments.settings import Settings


@pytest.mark.parametrize("away", [False, True], ids=["controller starts late", "controller stays away"])
async def test_a_replica_gets_no_requests_before_it_knows_its_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    monkeypatch.setattr(deployments.gateway, "installed_kinds", lambda: KINDS)
    monkeypatch.setattr(deployments.api.app, "KNOWN_S", 0.2 if away else 20)
    gateway = Gateway(Settings(store=f"sqlite:///{tmp_path}/state.db", strategy="keyword", drain_s=0), None)
    controller, there = FakeController(gateway.store), asyncio.Event()

    async def watch(after: int) -> object:
        await there.wait()
        return await controller.watch.remote(after)

    gateway._controller = SimpleNamespace(watch=SimpleNamespace(remote=watch))
    app = create_app(gateway, standalone=False)
    context = app.router.lifespan_context(app)
    starting = asyncio.create_task(context.__aenter__())
    await asyncio.sleep(0.1)
    assert not starting.done() and not gateway.ready
    if not away:
        there.set()
    await asyncio.wait_for(starting, 10)
    assert gateway.ready is not away
    await context.__aexit__(None, None, None)
