"""Tools of a real MCP server, over its standard input and output and over HTTP, as nodes."""

from __future__ import annotations

import asyncio
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp_types import Tool, ToolAnnotations
from raw_upstream import Seen, Wire, raw_upstream
from typer.testing import CliRunner
from waiting import until

from deployments.cli.app import build_app
from deployments.imports.mcp import Server, import_mcp, list_tools
from deployments.imports.report import Imported
from deployments.nodes.mcp import McpNode
from deployments.settings import Settings
from graph.collect import collect
from graph.errors import (
    InvalidRequest,
    InvalidSpec,
    ModelyardError,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
)
from graph.loader import dump_yaml, load_text
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, CallContext, Message, Modality, Payload, Reply, json_payload, text_payload

PROGRAM = Path(__file__).parent.parent / "tools_server.py"
COMMAND = (sys.executable, str(PROGRAM))


def environment(**changes: Any) -> NodeEnvironment:
    given = {"secret": lambda text: text.replace("${KEY}", "k-1"), "allow_private": True, "commands": {"shop": COMMAND}}
    return NodeEnvironment(**(given | changes))


def tool(name: str, *arguments: str, **fields: Any) -> NodeSpec:
    """A node of a tool with text arguments."""
    given = {"name": "node", "kind": "mcp", "description": "A tool.", "params": {"server": "shop", "tool": name}}
    return NodeSpec.model_validate(given | {"arguments": {argument: {} for argument in arguments}} | fields)


@asynccontextmanager
async def loaded(*specs: NodeSpec, **changes: Any) -> AsyncIterator[list[McpNode]]:
    shared = environment(**changes)
    nodes = [McpNode(spec, shared) for spec in specs]
    try:
        for node in nodes:
            await node.load()
        yield nodes
    finally:
        for node in nodes:
            await node.aclose()


async def ask(node: McpNode, **arguments: Any) -> Reply:
    inputs = {name: json_payload(value) for name, value in arguments.items()}
    return await collect(node.run(Call(inputs=inputs, operation="tool")), node="node")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server that speaks HTTP, for all tests of this module."""
    with http_server() as (url, _):
        yield url


class http_server:  # lower case, for it reads as a verb
    """Run the server on a free port, or on one that is given."""

    def __init__(self, port: int = 0) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = port or probe.getsockname()[1]

    def __enter__(self) -> tuple[str, int]:
        self._process = subprocess.Popen([*COMMAND, str(self.port)], stderr=subprocess.DEVNULL)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return f"http://127.0.0.1:{self.port}/mcp", self.port
            if self._process.poll() is not None:
                raise RuntimeError("the server has ended")
            time.sleep(0.05)
        raise RuntimeError("the server does not listen")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


async def test_tools_of_a_started_server(capfd: pytest.CaptureFixture[str]) -> None:
    names = ("find_order", "cancel_order", "raw_json", "picture", "two_texts", "pid", "pid", "fail", "die", "sleep")
    taken: dict[str, tuple[str, ...]] = {
        "find_order": ("customer",),
        "cancel_order": ("order_id",),
        "fail": ("order_id",),
    }
    specs = [tool(name, *taken.get(name, ())) for name in names if name not in ("two_texts", "sleep")]
    specs.append(tool("two_texts", arguments={"nested": {"type": "object"}}))
    specs.append(tool("sleep", arguments={"seconds": {"type": "number"}}))
    async with loaded(*specs) as nodes:
        find, cancel, raw, picture, pid, same, fail, die, two, sleep = nodes
        assert (await ask(find, customer="ada")).payload == json_payload({"order_id": "o-ada", "total": 5.0})
        assert (await ask(cancel, order_id="7")).payload == text_payload("cancelled 7: late")
        said = Call((Message("user", "8"),))
        assert (await collect(cancel.run(said), node="node")).text == "cancelled 8: late"
        assert (await ask(raw)).payload == json_payload({"a": [1, 2]})
        assert (await ask(picture)).payload == Payload(Modality.IMAGE, b"\x89PNG", "image/png")
        assert (await ask(two, nested={"a": [1]})).payload == text_payload("one\n{'a': [1]}")
        first = (await ask(pid)).payload.value
        assert (await ask(same)).payload.value == first  # one process for all of its tools
        with pytest.raises(NodeRejected, match="the tool answered with an error"):
            await ask(fail, order_id="7")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await ask(sleep, seconds=60)
        assert (await ask(pid)).payload.value == first  # a call that was left takes nothing from the others
        with pytest.raises(NodeUnreachable, match="ended the connection"):
            await ask(die)
        assert (await ask(pid)).payload.value != first  # started anew
        await pid.check()
        process = (await ask(pid)).payload.value
    with pytest.raises(NodeUnreachable, match="is not open"):
        await ask(pid)
    await until(lambda: not Path(f"/proc/{process}").exists())
    capfd.readouterr()  # the server's own log


async def test_tools_of_a_server_at_an_address(address: str) -> None:
    here: dict[str, Any] = {"endpoint": address}
    find = tool("find_order", "customer", **here, params={"tool": "find_order"})
    missing = tool("no_such_tool", **here, params={"tool": "no_such_tool"})
    sleep = tool("sleep", **here, params={"tool": "sleep"}, arguments={"seconds": {"type": "number"}})
    async with loaded(find, missing, sleep) as nodes:
        answers = await asyncio.gather(*(ask(nodes[0], customer=str(number)) for number in range(8)))
        assert [answer.payload.value["order_id"] for answer in answers] == [f"o-{number}" for number in range(8)]
        with pytest.raises(NodeRejected, match="Unknown tool"):
            await ask(nodes[1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(nodes[2], seconds=60)
        with pytest.raises(InvalidRequest, match="must be a JSON object of its arguments: customer"):
            await ask(nodes[0])
        await nodes[0].check()


async def test_a_server_that_comes_back() -> None:
    server = http_server()
    with server as (url, port):
        async with loaded(tool("pid", endpoint=url, params={"tool": "pid"})) as (node,):
            first = (await ask(node)).payload.value
            server.__exit__()
            with pytest.raises(NodeUnreachable, match="cannot be connected to"):
                await ask(node)
            with http_server(port):
                assert (await ask(node)).payload.value != first


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, NodeRejected, "refused the key"),
        (503, NodeUnavailable, "503"),
        (429, NodeUnavailable, "429"),
        (302, NodeRejected, "redirect"),
        (404, NodeRejected, "404"),
    ],
)
async def test_statuses(status: int, error: type[ModelyardError], words: str) -> None:
    async def refuse(_: Seen, wire: Wire) -> None:
        await wire.reply(b"no k-1 here", status, content_type="text/plain", location="http://127.0.0.1:1/")

    async with raw_upstream(refuse) as upstream:
        spec = tool("pid", endpoint=upstream.url, api_key="${KEY}", params={"tool": "pid"})
        async with loaded(spec) as (node,):
            with pytest.raises(error, match=words) as caught:
                await ask(node)
        assert caught.value.node == "node"
        assert "k-1" not in str(caught.value)
        assert upstream.seen[0].headers["authorization"] == "Bearer k-1"


async def test_the_trace_travels_with_a_call() -> None:
    async def refuse(_: Seen, wire: Wire) -> None:
        await wire.reply({}, 500)

    async with raw_upstream(refuse) as upstream:
        async with loaded(tool("pid", endpoint=upstream.url, params={"tool": "pid"})) as (node,):
            call = Call(operation="tool", context=CallContext("r-1", trace={"traceparent": "00-1"}))
            with pytest.raises(NodeUnavailable):
                await collect(node.run(call), node="node")
    assert upstream.seen  # the session could not be opened: what is sent for it belongs to no request
    assert all("traceparent" not in seen.headers for seen in upstream.seen)


async def test_what_nodes_may_not_reach() -> None:
    for changes, words in (
        ({"endpoint": "http://127.0.0.1:9/mcp", "params": {"tool": "t"}}, "loopback"),
        ({"endpoint": "http://169.254.169.254/mcp", "params": {"tool": "t"}}, "metadata"),
    ):
        with pytest.raises(NodeRejected, match=words):
            async with loaded(tool("t", **changes), allow_private=False):
                pass
    with pytest.raises(InvalidSpec, match=r"no server that the operator declared.*declared: shop"):
        async with loaded(tool("t", params={"server": "rm -rf", "tool": "t"})):
            pass
    with pytest.raises(NodeUnreachable, match="cannot be started"):
        async with loaded(tool("t"), commands={"shop": ("/no/such/program",)}) as (node,):
            await ask(node)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, []),
        ({"params": {"tool": "t"}}, ["endpoint"]),
        ({"endpoint": "https://h/mcp"}, ["params.server"]),
        ({"api_key": "${KEY}"}, ["params.server"]),
        ({"endpoint": "https://h/mcp", "params": {"tool": "t"}, "api_key": "${KEY}"}, []),
    ],
)
def test_problems(changes: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in McpNode.problems(tool("t", **changes))] == keys


async def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.nodes.mcp.find_spec", lambda _: None)
    with pytest.raises(InvalidSpec, match=r"pip install 'modelyard\[mcp\]'"):
        async with loaded(tool("t")):
            pass


def test_servers_are_declared_by_the_operator() -> None:
    settings = Settings.from_env({"MODELYARD_MCP_SERVERS": "a=run 'x y'\nb=other"})
    assert settings.mcp_commands() == {"a": ("run", "x y"), "b": ("other",)}
    with pytest.raises(InvalidRequest, match="NAME=COMMAND"):
        Settings.from_env({}, mcp_servers=("run",))


@pytest.fixture(scope="module")
def imported(address: str) -> Imported:
    server = Server(endpoint=address, api_key="${PATH}")
    return import_mcp(asyncio.run(list_tools(server)), server, prefix="shop")


async def test_every_tool_becomes_a_node_that_runs(imported: Imported) -> None:
    text = "---\n".join(map(dump_yaml, imported.specs))
    specs = load_text(text, {"mcp": McpNode}).require()  # type: ignore[dict-item]
    assert (len(specs), imported.left) == (10, ())
    find, cancel = specs[0], specs[1]
    assert find.name == "shop_find_order"
    assert find.description == "Find the latest order of a customer."
    assert find.produces == {"json"}
    assert find.arguments["customer"].description == "Who ordered"
    assert (find.arguments["limit"].default, find.arguments["limit"].required) == (5, False)
    assert {path: output.type for path, output in find.outputs.items()} == {"order_id": "string", "total": "number"}
    assert cancel.outputs == {}
    assert find.edges.feeds == ("shop_cancel_order", "shop_fail")  # they need its order_id
    assert (cancel.arguments["reason"].enum, cancel.produces) == (("late", "broken"), {"text"})
    assert (find.idempotent, cancel.idempotent) == (True, False)  # it says that it changes nothing
    assert imported.secrets == {"PATH": "bearer token of the MCP server"}
    async with loaded(find) as (node,):
        assert (await ask(node, customer="eve", limit=2)).payload.value == {"order_id": "o-eve", "total": 2}


@pytest.mark.parametrize(
    ("hints", "idempotent", "changes"),
    [
        ({"read_only_hint": True}, True, False),
        ({"idempotent_hint": True, "destructive_hint": True}, True, True),
        ({}, False, True),
    ],
)
def test_what_changes_something_is_known(hints: dict[str, bool], idempotent: bool, changes: bool) -> None:
    tool = Tool(name="delete", input_schema={"type": "object"}, annotations=ToolAnnotations(**hints))
    (spec,) = import_mcp([tool], Server(endpoint="http://x")).specs
    assert (spec.idempotent, spec.changes_something) == (idempotent, changes)


def test_the_command_starts_a_server_to_ask_it(tmp_path: Path) -> None:
    asked = ["import", "mcp", "--name", "shop", "--include", "*order*", "--out", str(tmp_path), shlex.join(COMMAND)]
    result = CliRunner().invoke(build_app(), asked)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cancel_order.yaml", "find_order.yaml"]
    assert "server: shop" in (tmp_path / "find_order.yaml").read_text()
    assert f"--mcp-servers {shlex.quote(f'shop={shlex.join(COMMAND)}')}" in result.stderr
    failed = CliRunner().invoke(build_app(), ["import", "mcp", "/no/such/program"])
    assert (failed.exit_code, "cannot be started" in failed.stderr) == (1, True)
