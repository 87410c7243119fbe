"""Starts gateways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes import KINDS, FakeController, FakeNode
from gateway_service import Service, Start

import deployments.gateway
from deployments.api.app import create_app
from deployments.gateway import Gateway
from deployments.settings import Settings
from graph.spec import NodeSpec


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start a gateway with these nodes, routed by keywords."""
    monkeypatch.setattr(deployments.gateway, "installed_kinds", lambda: KINDS)
    for noted in (FakeNode.calls, FakeNode.closed, FakeNode.gates):
        noted.clear()
    async with AsyncExitStack() as stack:

        async def begin(*specs: NodeSpec, **settings: Any) -> Service:
            options = {"store": f"sqlite:///{tmp_path}/state.db", "strategy": "keyword", "drain_s": 0.2} | settings
            gateway = Gateway(Settings(**options), None)
            gateway._controller = FakeController(gateway.store)
            app = create_app(gateway)
            await gateway.store.open()
            for spec in specs:
                await gateway.registry.put(spec, source="file", author="test")
            await stack.enter_async_context(app.router.lifespan_context(app))
            service = Service(gateway, app)
            stack.push_async_callback(service.http.aclose)
            await service.settle(1)
            return service

        yield begin
