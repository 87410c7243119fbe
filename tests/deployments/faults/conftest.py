"""A gateway whose upstream plays a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from fakes import FakeController
from faulty_service import FaultyService, Play, nodes_for
from gateway_service import Service

import deployments.gateway
from benchmarks.fault_cells import BACKUP
from benchmarks.fault_upstream import Times, fault_upstream
from deployments.api.app import create_app
from deployments.gateway import Gateway
from deployments.nodes.openai import OpenAINode
from deployments.settings import Settings


@pytest.fixture
async def play(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    """Start an upstream that plays a fault and a gateway with a node there, named like the fault, and its fallback."""
    monkeypatch.setattr(deployments.gateway, "installed_kinds", lambda: {"openai": OpenAINode})
    async with AsyncExitStack() as stack:

        async def begin(fault: str, fallback: str = BACKUP, **limits: object) -> FaultyService:
            upstream = await stack.enter_async_context(fault_upstream(Times()))
            settings = Settings(store="memory://", strategy="keyword", drain_s=0.2, allow_private=True)
            gateway = Gateway(settings, None)
            gateway._controller = FakeController(gateway.store)
            app = create_app(gateway)
            await gateway.store.open()
            for spec in nodes_for(fault, upstream.url, fallback, limits):
                await gateway.registry.put(spec, source="file", author="test")
            await stack.enter_async_context(app.router.lifespan_context(app))
            service = Service(gateway, app)
            stack.push_async_callback(service.http.aclose)
            await service.settle(1)
            return FaultyService(service, upstream)

        yield begin
