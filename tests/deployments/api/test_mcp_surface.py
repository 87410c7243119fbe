"""The service as an MCP server, asked by the official SDK's client."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fakes import FakeNode, spec
from gateway_service import Service, Start
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent
from typer.testing import CliRunner
from waiting import until

from deployments.cli.app import build_app

LAW = spec("law", description="Contracts and leases.", examples=["Is this lease enforceable?"])
GENERAL = spec("general", description="Anything else.", default=True)
EAR = spec("ear", kind="speech", description="Hears.", accepts=["audio"])
TOOL = spec(
    "orders.find",
    description="Finds orders.",
    arguments={
        "customer": {"description": "Who"},
        "limit": {"type": "integer", "default": 5, "required": False},
        "states": {"type": "array", "required": False},
        "size": {"enum": ["s", "l"], "required": False},
    },
)


@asynccontextmanager
async def client_of(service: Service, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(app=service.app)
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers, base_url="http://modelyard") as http,
        Client(streamable_http_client("http://modelyard/mcp", http_client=http), mode=mode, cache=None) as client,
    ):
        yield client


def text_of(result: Any) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_nodes_are_tools(start: Start, mode: str) -> None:
    service = await start(LAW, GENERAL, EAR, TOOL, spec("vectors", kind="embedder"))
    async with client_of(service, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["auto", "plan", "ear", "general", "law", "orders.find"]
        assert tools["law"].description == "Contracts and leases."
        assert tools["law"].input_schema["required"] == ["prompt"]
        assert tools["ear"].input_schema["required"] == ["audio"]
        schema = tools["orders.find"].input_schema
        assert schema["required"] == ["customer"]
        assert schema["properties"]["customer"] == {"type": "string", "description": "Who"}
        assert schema["properties"]["limit"] == {"type": "integer", "default": 5}
        assert schema["properties"]["size"]["enum"] == ["s", "l"]
        assert text_of(await client.call_tool("law", {"prompt": "hello"})) == "law: hello"
        routed = await client.call_tool("auto", {"prompt": "Is this lease enforceable?"})
        assert text_of(routed) == "law: Is this lease enforceable?"
        assert (routed.meta or {})["modelyard/node"] == "law"
        assert "law" in text_of(await client.call_tool("plan", {"prompt": "Is this lease enforceable?"}))


async def test_typed_arguments_and_attachments(start: Start) -> None:
    service = await start(TOOL, EAR)
    async with client_of(service) as client:
        await client.call_tool("orders.find", {"customer": "ada", "limit": 2, "states": ["open"]})
        heard = await client.call_tool("ear", {"audio": {"data": "UklGRg==", "format": "wav"}})
    (_, asked), (_, sound) = FakeNode.calls
    assert asked.operation == "tool"
    assert {name: payload.value for name, payload in asked.inputs.items()} == {
        "customer": "ada", "limit": 2, "states": ["open"]
    }  # fmt: skip
    assert sound.attachments[0].value == b"RIFF"
    assert text_of(heard) == "the tenant may end the lease"


async def test_what_goes_wrong_is_told(start: Start) -> None:
    service = await start(LAW, spec("down", model="fail"))
    async with client_of(service) as client:
        down = await client.call_tool("down", {"prompt": "hello"})
        assert (down.is_error, text_of(down)) == (True, "the upstream is down")
        assert (down.meta or {})["modelyard/code"] == "node_unavailable"
        wrong = await client.call_tool("law", {"prompt": "hello", "temperature": 2})
        assert (wrong.is_error, "unknown argument 'temperature'" in text_of(wrong)) == (True, True)
        empty = await client.call_tool("auto", {})
        assert empty.is_error
        with pytest.raises(MCPError, match="no tool is called 'nobody'"):
            await client.call_tool("nobody", {})


async def test_a_list_of_many_comes_in_pages(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.api.mcp_server.PAGE", 2)
    service = await start(*(spec(f"n{index}") for index in range(5)))
    async with client_of(service) as client:
        names: list[str] = []
        cursor: str | None = None
        for _ in range(3):
            page = await client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
    assert (names, cursor) == (["auto", "plan", "n0", "n1", "n2", "n3", "n4"], None)


async def test_the_same_key_opens_it(start: Start) -> None:
    service = await start(LAW, api_key="k-1")
    refused = await service.http.post("/mcp", json={})
    assert refused.status_code == 401
    async with client_of(service, authorization="Bearer k-1", origin="https://elsewhere.example") as client:
        assert text_of(await client.call_tool("law", {"prompt": "hello"})) == "law: hello"


async def test_a_key_of_some_nodes_sees_those_alone(start: Start) -> None:
    service = await start(LAW, GENERAL, TOOL, api_key="k-1")
    admin = {"authorization": "Bearer k-1"}
    body = {"name": "desk", "scopes": ["call"], "nodes": ["law"]}
    key = (await service.http.post("/v1/keys", json=body, headers=admin)).json()["key"]
    async with client_of(service, authorization=f"Bearer {key}") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["auto", "plan", "law"]
        assert text_of(await client.call_tool("law", {"prompt": "hello"})) == "law: hello"
        with pytest.raises(MCPError, match="no tool is called 'general'"):
            await client.call_tool("general", {"prompt": "hello"})
    body = {"name": "reader", "scopes": ["read"]}
    key = (await service.http.post("/v1/keys", json=body, headers=admin)).json()["key"]
    refused = await service.http.post("/mcp", json={}, headers={"authorization": f"Bearer {key}"})
    assert refused.status_code == 403


async def test_pages_of_elsewhere_cannot_use_an_open_service(start: Start) -> None:
    service = await start(LAW)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"accept": "application/json, text/event-stream"}
    for origin, status in (("https://evil.example", 403), ("http://localhost:6274", 200)):
        answer = await service.http.post("/mcp", json=body, headers=headers | {"origin": origin})
        assert answer.status_code == status, answer.text


async def test_a_caller_who_leaves_ends_the_work(start: Start) -> None:
    service = await start(spec("law", model="hang"))
    async with client_of(service) as client:
        asking = asyncio.create_task(client.call_tool("law", {"prompt": "hello"}))
        await until(lambda: bool(FakeNode.calls))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: FakeNode.closed == ["law"])


async def test_a_service_without_the_package_says_so(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.api.mcp.find_spec", lambda _: None)
    answer = await (await start(LAW)).http.post("/mcp", json={})
    assert (answer.status_code, "pip install" in answer.json()["error"]["message"]) == (400, True)


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """Serve the gateway on a port of loopback."""
    config = uvicorn.Config(service.app, port=0, lifespan="off", log_level="critical", ws="none")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def test_a_desktop_client_starts_the_command(start: Start) -> None:
    service = await start(LAW, spec("down", model="fail"), api_key="k-1")
    async with listening(service) as url:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "deployments.cli", "mcp", "--url", url],
            env={"MODELYARD_API_KEY": "k-1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        async with Client(command, cache=None) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["auto", "plan", "down", "law"]
            assert text_of(await client.call_tool("law", {"prompt": "hello"})) == "law: hello"
            down = await client.call_tool("down", {"prompt": "hello"})
            assert (down.is_error, text_of(down)) == (True, "the upstream is down")
            unknown = await client.call_tool("nobody", {})
            assert (unknown.is_error, "no tool is called 'nobody'" in text_of(unknown)) == (True, True)


def test_a_service_that_is_not_there() -> None:
    result = CliRunner().invoke(build_app(), ["mcp", "--url", "http://127.0.0.1:9"])
    assert (result.exit_code, "cannot be connected to" in result.stderr) == (3, True)
