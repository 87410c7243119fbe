"""Requests at a fixed rate over plain sockets: light enough that the client is not what is measured."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.load import Load

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """How one request ended: its status, 0 for none, and the milliseconds since it was due."""

    status: int
    ms: float


def paced(load: Load, per_s: float, seconds: float, patience_s: float) -> list[Answer]:
    """Send so many requests a second, whether or not answers come; one without an answer is left after a while."""
    return uvloop.run(_Client(load, patience_s).paced(per_s, int(per_s * seconds)))


def closed(load: Load, clients: int, seconds: float) -> list[Answer]:
    """Keep so many clients asking, each waiting for its answer."""
    return uvloop.run(_Client(load, 30.0).closed(clients, seconds))


class _Client:
    def __init__(self, load: Load, patience_s: float) -> None:
        parts = urlsplit(load.url)
        self._host, self._port, self._patience = str(parts.hostname), int(parts.port or 80), patience_s
        body = load.content()
        headers = load.headers | {"host": parts.netloc, "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
        self._idle: deque[_Connection] = deque()

    async def paced(self, per_s: float, count: int) -> list[Answer]:
        begun = time.perf_counter() + 0.2
        return await asyncio.gather(*(self._at(begun + number / per_s) for number in range(count)))

    async def closed(self, clients: int, seconds: float) -> list[Answer]:
        end = time.perf_counter() + seconds

        async def client() -> list[Answer]:
            found = []
            while (now := time.perf_counter()) < end:
                found.append(await self._ask(now))
            return found

        return [each for found in await asyncio.gather(*(client() for _ in range(clients))) for each in found]

    async def _at(self, due: float) -> Answer:
        await asyncio.sleep(due - time.perf_counter())
        return await self._ask(due)

    async def _ask(self, due: float) -> Answer:
        status = 0
        try:
            async with asyncio.timeout(self._patience):
                connection = self._idle.pop() if self._idle else await self._connect()
                try:
                    status = await connection.ask(self._request)
                    self._idle.append(connection)
                except BaseException:
                    connection.close()
                    raise
        except (OSError, TimeoutError):
            status = 0
        return Answer(status, (time.perf_counter() - due) * 1000)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, self._host, self._port))[1]


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection to a server that declares the length of its answers."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, separator, body = self._read.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if separator and length and len(body) >= int(length[1]) and self._answer and not self._answer.done():
            self._read = b""
            self._answer.set_result(int(head[9:12]))

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Leave."""
        self._transport.abort()
