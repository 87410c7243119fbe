"""Bare Ray Serve, as the gateway's peer, with the gateway's settings.

A no-op, a no-op with one deployment hop, and a pass-through: what one would write by hand to reach one upstream, with
no routing, limits, retries, traces or metrics.

python -m benchmarks.bare_serve PORT READY_FILE UPSTREAM_PORT
"""

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI, Request, Response

from benchmarks.upstream_app import COMPLETION
from deployments.ray_host import RayHost
from deployments.settings import Settings


def applications(upstream_port: int) -> dict[str, Any]:
    """Return the applications, by name, which is also their path."""
    from ray import serve  # Ray reads its environment, which the host sets, when it is imported

    near, far, through = FastAPI(), FastAPI(), FastAPI()
    gateway = {"max_ongoing_requests": 10_000, "ray_actor_options": {"num_cpus": 0.1}}

    @serve.deployment(**gateway)
    @serve.ingress(near)
    class Noop:
        @near.post("/")
        async def answer(self, request: Request) -> Response:
            await request.body()
            return Response(COMPLETION, media_type="application/json")

    @serve.deployment(**gateway)
    class Behind:
        async def answer(self, body: bytes) -> bytes:
            return COMPLETION

    @serve.deployment(**gateway)
    @serve.ingress(far)
    class Hop:
        def __init__(self, behind: Any) -> None:
            self._behind = behind

        @far.post("/")
        async def answer(self, request: Request) -> Response:
            body = await self._behind.answer.remote(await request.body())
            return Response(body, media_type="application/json")

    @serve.deployment(**gateway)
    @serve.ingress(through)
    class Pass:
        def __init__(self) -> None:
            self._session: aiohttp.ClientSession | None = None

        @through.post("/")
        async def answer(self, request: Request) -> Response:
            self._session = self._session or aiohttp.ClientSession()
            url = f"http://127.0.0.1:{upstream_port}/v1/chat/completions"
            headers = {"content-type": "application/json"}
            async with self._session.post(url, data=await request.body(), headers=headers) as answer:
                return Response(await answer.read(), answer.status, media_type="application/json")

    return {"noop": Noop.bind(), "hop": Hop.bind(Behind.bind()), "pass": Pass.bind()}


def main() -> None:
    """Serve them until SIGTERM."""
    stop = threading.Event()
    host = RayHost(Settings(port=int(sys.argv[1]), store="memory://"))
    host.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    from ray import serve

    try:
        for name, application in applications(int(sys.argv[3])).items():
            serve.run(application, name=name, route_prefix=f"/{name}")
        Path(sys.argv[2]).touch()
        stop.wait()
    finally:
        host.stop()


if __name__ == "__main__":
    main()
