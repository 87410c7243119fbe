"""The upstream of the crash test, in a process that nobody kills: works as long as told, and records each call."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from benchmarks.services import free_port


@dataclass
class Recorded:
    """The calls for one key: when each began, in seconds since the epoch."""

    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)


class CrashUpstream:
    """`POST /work {key, ms}` answers `{key}` after so many milliseconds."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self._host = host
        self.calls: dict[str, Recorded] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._listening = threading.Event()

    def start(self) -> None:
        """Listen, in a thread."""
        self._thread.start()
        self._listening.wait(30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/work", self._work)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, self._host, self.port).start())
        self._listening.set()
        self._loop.run_forever()

    async def _work(self, request: web.Request) -> web.Response:
        asked: dict[str, Any] = await request.json()
        recorded = self.calls.setdefault(asked["key"], Recorded())
        recorded.begun.append(time.time())
        await asyncio.sleep(asked["ms"] / 1000)
        recorded.ended.append(time.time())
        return web.json_response({"key": asked["key"]})
