"""HTTP written and read by hand, so that an answer can be wrong in every way."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any


class Wire:
    """Writes answers, byte by byte where it must."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int, **headers: str) -> None:
        lines = [
            f"HTTP/1.1 {status} Status",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def reply(self, status: int, body: Any, *, cut: float = 1.0, **headers: str) -> None:
        """Send a whole answer, or only a part of what its length promises."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.head(status, content_type="application/json", content_length=str(len(data)), **headers)
        await self.send(data[: int(len(data) * cut)])

    async def error(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        body = {"error": {"message": message, "type": "upstream_error", "param": None, "code": code}}
        await self.reply(status, body, **headers)

    async def event(self, data: Any) -> None:
        text = data if isinstance(data, bytes) else json.dumps(data).encode()
        line = b"data: " + text + b"\n\n"
        await self.send(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    async def end(self) -> None:
        await self.event(b"[DONE]")
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        self._writer.transport.abort()

    async def hold(self, seconds: float = 3600) -> None:
        """Do nothing until the time is over or the client hangs up."""
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(1024):
                    pass
        except TimeoutError:
            return
        raise ConnectionResetError("the client hung up")


async def read_request(reader: asyncio.StreamReader) -> tuple[str, Any] | None:
    """Read one request, its path and its JSON; None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    length = re.search(r"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    body = await reader.readexactly(int(length[1])) if length else b""
    return head.split(" ")[1], json.loads(body or b"null")
