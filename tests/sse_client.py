"""Reads server-sent events, and speaks ASGI with a client that can leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any


def events_of(body: str) -> list[dict[str, Any]]:
    """Every event as `{"id", "event", "data"}`; `[DONE]` stays a string."""
    found = []
    for block in body.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields.get("data", "")
        found.append(fields | {"data": data if data == "[DONE]" else json.loads(data)})
    return found


class LeavingClient:
    """Posts a request straight to an ASGI application, and leaves when told."""

    def __init__(
        self, app: Any, path: str, body: Any, *, method: str = "POST", headers: Mapping[str, str] = {}
    ) -> None:
        self.received = b""
        self.status = 0
        self._left = asyncio.Event()
        content = json.dumps(body).encode()
        self._ahead = [{"type": "http.request", "body": content, "more_body": False}]
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
            "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"",
            "headers": [(b"content-type", b"application/json"), *sent], "client": ("127.0.0.1", 1), "server": ("x", 80),
        }  # fmt: skip
        self._work = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._ahead:
            return self._ahead.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.received += message.get("body", b"")

    async def leave(self) -> None:
        """Go, and wait for the application to notice."""
        self._left.set()
        async with asyncio.timeout(10):
            await self._work
