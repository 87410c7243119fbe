"""A gateway without Ray, behind its real web application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from waiting import until

from deployments.gateway import Gateway

Start = Callable[..., Awaitable["Service"]]


class Service:
    """A running gateway and a client of it."""

    def __init__(self, gateway: Gateway, app: Any) -> None:
        self.gateway = gateway
        self.app = app
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://modelyard")

    async def chat(self, model: str, text: str = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | fields
        return await self.http.post("/v1/chat/completions", json=body)

    async def settle(self, number: int) -> None:
        """Wait until the gateway follows the controller's snapshot of this number."""
        await until(lambda: self.gateway.ready and self.gateway.snapshot.number >= number)
