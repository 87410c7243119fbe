from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from raw_upstream import Handler, RawUpstream, Seen, Wire, raw_upstream

from deployments.nodes.http import HttpNode, HttpParams
from deployments.secrets import resolve_secrets
from graph.collect import collect
from graph.errors import (
    InvalidRequest,
    InvalidSpec,
    ModelyardError,
    NodeFailed,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    StreamBroken,
)
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, json_payload, text_payload

ENVIRONMENT = NodeEnvironment(resolve_secrets, allow_private=True)
CITY = {"city": {"type": "string"}}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_KEY", "k{city}&y")


def spec_of(url: str = "https://weather.example", **changes: Any) -> NodeSpec:
    given = {
        "name": "weather",
        "kind": "http",
        "description": "The weather.",
        "endpoint": f"{url}/api",
        "arguments": CITY,
        "params": {"path": "/cities/{city}"},
    }
    return NodeSpec.model_validate(given | changes)


@asynccontextmanager
async def node_on(handler: Handler, **changes: Any) -> AsyncIterator[tuple[HttpNode, RawUpstream]]:
    async with raw_upstream(handler) as upstream:
        spec = spec_of(upstream.url, **changes)
        assert HttpNode.problems(spec) == []
        node = HttpNode(spec, ENVIRONMENT)
        await node.load()
        try:
            yield node, upstream
        finally:
            await node.aclose()


def tool(**values: Any) -> Call:
    return Call(inputs={name: json_payload(value) for name, value in values.items()}, operation="tool")


def said(text: str) -> Call:
    return Call((Message("user", text),))


def answering(status: int, body: Any, **headers: str) -> Handler:
    async def handler(_: Seen, wire: Wire) -> None:
        await wire.reply(body, status, **headers)

    return handler


ok = answering(200, {"ok": True})


async def sent(call: Call, **changes: Any) -> Seen:
    async with node_on(ok, **changes) as (node, upstream):
        await collect(node.run(call), node="weather")
        assert len(upstream.seen) == 1
        return upstream.seen[0]


async def result(handler: Handler, call: Call | None = None, **params: Any) -> Payload:
    async with node_on(handler, params={"path": "/cities/{city}", **params}) as (node, _):
        return (await collect(node.run(call or tool(city="Ulm")), node="weather")).payload


async def test_a_path_is_percent_encoded() -> None:
    seen = await sent(tool(city="Köln/a b?c#d%2e&{city}"))
    assert (seen.method, seen.path) == ("GET", "/api/cities/K%C3%B6ln%2Fa%20b%3Fc%23d%252e%26%7Bcity%7D")
    assert seen.body == b""
    assert "content-type" not in seen.headers


@pytest.mark.parametrize(
    "city", ["..", ".", "..\0", "..%00/x", "../admin", "a/../../b", "%2e%2e", "%252e%252e/x", "..\\x", " .. ", "", "  "]
)
async def test_a_path_cannot_be_left(city: str) -> None:
    async with node_on(ok) as (node, upstream):
        with pytest.raises(InvalidRequest) as caught:
            await collect(node.run(tool(city=city)), node="weather")
        assert caught.value.param == "city"
        assert upstream.seen == []


async def test_the_query_takes_typed_values_literals_and_secrets() -> None:
    arguments = {
        "city": {"type": "string"},
        "days": {"type": "integer", "default": 3},
        "tags": {"type": "array"},
        "fresh": {"type": "boolean"},
        "units": {"type": "string", "required": False},
    }
    query = {
        "q": "{city}", "d": "{days}", "tag": "{tags}", "fresh": "{fresh}", "units": "{units}", "v": 2,
        "key": "${WEATHER_KEY}", "text": "in {city} for {days} {{days}}",
    }  # fmt: skip
    call = tool(city="Bad & Böse=1", tags=["a b", 1], fresh=True)
    seen = await sent(call, arguments=arguments, params={"query": query})
    assert seen.path == (
        "/api?q=Bad%20%26%20B%C3%B6se%3D1&d=3&tag=a%20b&tag=1&fresh=true&v=2&key=k%7Bcity%7D%26y"
        "&text=in%20Bad%20%26%20B%C3%B6se%3D1%20for%203%20%7Bdays%7D"
    )


async def test_the_body_keeps_types_and_leaves_absent_fields_out() -> None:
    arguments = {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "box": {"type": "object"},
        "gone": {"type": "string", "required": False},
    }
    body = {
        "where": {"name": "{city}", "box": "{box}"},
        "days": "{days}",
        "say": "{city}: {days} {gone}{{city}}",
        "gone": "{gone}",
        "list": ["{gone}", "{days}", 1, None, True],
        "key": "${WEATHER_KEY}",
    }
    call = tool(city='a"b{days}', days="5", box={"n": 1.5})
    seen = await sent(call, arguments=arguments, params={"method": "POST", "path": "/q", "body": body})
    assert (seen.method, seen.path, seen.headers["content-type"]) == ("POST", "/api/q", "application/json")
    assert seen.json == {
        "where": {"name": 'a"b{days}', "box": {"n": 1.5}},
        "days": 5,
        "say": 'a"b{days}: 5 {city}',
        "list": [5, 1, None, True],
        "key": "k{city}&y",
    }


async def test_headers_and_key() -> None:
    seen = await sent(
        tool(city="Ulm"),
        api_key="${WEATHER_KEY}",
        params={"path": "/{city}", "headers": {"X-Api-Key": "${WEATHER_KEY}"}},
    )
    assert seen.headers["authorization"] == "Bearer k{city}&y"
    assert seen.headers["x-api-key"] == "k{city}&y"


@pytest.mark.parametrize(
    ("body", "headers", "params", "payload"),
    [
        ({"a": [1, "ü"]}, {}, {}, json_payload({"a": [1, "ü"]})),
        ({"a": [{"b": 5}]}, {}, {"result": "a.0.b"}, json_payload(5)),
        ({"a": {"b": "text"}}, {}, {"result": "a.b"}, text_payload("text")),
        (b"null", {"content_type": "application/problem+json"}, {}, json_payload(None)),
        (b'{"a": 1}', {"content_type": "text/plain"}, {"result": "a"}, json_payload(1)),
        ("Grüß".encode(), {"content_type": "text/plain"}, {}, text_payload("Grüß")),
        ("Grüß".encode("latin-1"), {"content_type": "text/plain; charset=latin-1"}, {}, text_payload("Grüß")),
        (b"a\xffb", {"content_type": "text/plain; charset=nonsense"}, {}, text_payload("a\ufffdb")),
        (b"", {}, {}, text_payload("")),
        (gzip.compress(b"[1]", mtime=0), {"content_encoding": "gzip"}, {}, json_payload([1])),
    ],
)
async def test_results(body: Any, headers: dict[str, str], params: dict[str, Any], payload: Payload) -> None:
    assert await result(answering(200, body, **headers), **params) == payload


@pytest.mark.parametrize(
    ("handler", "params", "kind", "words"),
    [
        (answering(200, {"a": {"x": 1}}), {"result": "a.b"}, NodeFailed, "no 'b' among x"),
        (answering(200, b"{nope"), {}, NodeFailed, "not JSON"),
        (answering(200, b"x" * 101), {"max_response_bytes": 100}, NodeRejected, "larger than 100 bytes"),
        (answering(200, gzip.compress(b" " * 10**6, mtime=0), content_encoding="gzip"), {"max_response_bytes": 10**5},
         NodeRejected, "larger than 100000 bytes"),
        (answering(301, b"", location="http://127.0.0.1/"), {}, NodeRejected, "redirect"),
        (answering(404, {"message": "no city k{city}&y"}), {}, NodeRejected, r"no city \*\*\*"),
        (answering(401, {"message": "k{city}&y"}), {}, NodeRejected, "refused the key"),
        (answering(503, b"", retry_after="7"), {}, NodeUnavailable, "503"),
    ],
)  # fmt: skip
async def test_failures(handler: Handler, params: dict[str, Any], kind: type[ModelyardError], words: str) -> None:
    with pytest.raises(ModelyardError, match=words) as caught:
        await result(handler, query={"key": "${WEATHER_KEY}"}, **params)
    assert type(caught.value) is kind
    assert caught.value.node == "weather"
    assert "k{city}" not in str(caught.value)


async def test_connection_faults() -> None:
    async def reset(_: Seen, wire: Wire) -> None:
        wire.reset()

    async def cut(_: Seen, wire: Wire) -> None:
        await wire.head(200, {"content-length": "10"})
        await wire.send(b"abc")
        wire.writer.close()

    with pytest.raises(NodeUnreachable):
        await result(reset)
    with pytest.raises(StreamBroken):
        await result(cut)


async def test_cancelling_closes_the_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def silent(_: Seen, wire: Wire) -> None:
        asked.set()
        await wire.hung_up()
        gone.set()

    async with node_on(silent) as (node, _):
        waiting = asyncio.ensure_future(collect(node.run(tool(city="Ulm")), node="weather"))
        await asked.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("text", ["Ulm", '{"city": "Ulm"}', "  Ulm\n"])
async def test_a_chat_call_gives_its_arguments_in_words(text: str) -> None:
    async with node_on(ok) as (node, upstream):
        deltas = [delta async for delta in node.run(said(text))]
        assert upstream.seen[0].path == "/api/cities/Ulm"
        assert [(delta.text, delta.payload, delta.usage) for delta in deltas] == [
            ('{"ok": true}', json_payload({"ok": True}), None)
        ]


TYPES = {
    name: {"type": name, "required": False}
    for name in ("string", "integer", "number", "boolean", "array", "object")
} | {"size": {"type": "string", "required": False, "enum": ["S", "L"]}}  # fmt: skip
BODY = {name: f"{{{name}}}" for name in TYPES}
TYPED = {"arguments": TYPES, "params": {"method": "POST", "body": BODY}}


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("integer", "5", 5), ("integer", " -5 ", -5), ("integer", 5.0, 5), ("number", "2.5e1", 25.0),
        ("number", "7", 7),
        ("boolean", "True", True), ("string", 5, "5"), ("array", "[1]", [1]), ("object", '{"a": 1}', {"a": 1}),
        ("size", "L", "L"),
    ],
)  # fmt: skip
async def test_arguments_are_coerced_where_it_is_clear(name: str, value: Any, meant: Any) -> None:
    seen = await sent(tool(**{name: value}), **TYPED)
    assert seen.json == {name: meant}
    assert type(seen.json[name]) is type(meant)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("integer", "5.5", "must be a whole number; got '5.5'"),
        ("integer", True, "must be a whole number; got True"),
        ("integer", "\uff15", "must be a whole number"),
        ("integer", "9" * 5000, "must be a whole number"),
        ("integer", 10**30, "JSON"),
        ("number", "nan", "must be a number"),
        ("number", "1e999", "must be a number"),
        ("boolean", 1, "must be true or false; got 1"),
        ("string", {"a": 1}, "must be a text"),
        ("string", True, "must be a text"),
        ("string", "\ud800", "JSON"),
        ("array", "x", "must be a JSON array"),
        ("object", [1], "must be a JSON object"),
        ("size", "M", "must be one of 'S', 'L'; got 'M'"),
        ("citi", "x", "unknown argument 'citi'"),
    ],
)
async def test_wrong_arguments_are_named(name: str, value: Any, words: str) -> None:
    async with node_on(ok, **TYPED) as (node, upstream):
        with pytest.raises(InvalidRequest, match=words) as caught:
            await collect(node.run(tool(**{name: value})), node="weather")
        assert caught.value.param in (name, None)
        assert upstream.seen == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (said(""), "must be a JSON object of its arguments: city"),
        (said("{}"), "'city' is required: a text"),
        (said('{"city": null}'), "'city' is required"),
        (Call(operation="tool"), "JSON object"),
        (Call(inputs={"city": Payload(Modality.AUDIO, b"x")}, operation="tool"), "'city' is audio"),
        (tool(city="\ud800"), "no valid address"),
        (tool(city="x" * 70_000), "no valid address"),
    ],
)
async def test_missing_and_odd_arguments(call: Call, words: str) -> None:
    async with node_on(ok) as (node, upstream):
        with pytest.raises(InvalidRequest, match=words):
            await collect(node.run(call), node="weather")
        assert upstream.seen == []


async def test_words_are_not_guessed_into_several_arguments() -> None:
    arguments = {"city": {"type": "string"}, "day": {"type": "string"}}
    async with node_on(ok, arguments=arguments, params={"query": {"c": "{city}", "d": "{day}"}}) as (node, _):
        with pytest.raises(InvalidRequest, match=r"JSON object of its arguments: city .*, day"):
            await collect(node.run(said("Ulm tomorrow")), node="weather")


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"endpoint": None}, ["endpoint"]),
        ({"params": {"path": "/{town}"}}, ["params.path", "arguments.city"]),
        ({"params": {"query": {"q": "{town} {city}"}}}, ["params.query"]),
        ({"params": {"method": "POST", "body": {"a": [{"b": "{town}"}], "c": "{city}"}}}, ["params.body"]),
        ({"params": {"path": "/x"}}, ["arguments.city"]),
        ({"arguments": {"city": {"required": False}}}, ["arguments.city"]),
        ({"params": {"path": "/{city}", "query": {"key": "${CITY}", "x": "{{town}}"}}}, []),
        ({"params": {"path": "/{city}", "query": {"api_key": "k-123"}}}, ["params.query.api_key"]),
        ({"params": {"path": "/{city}", "body": {"a": [{"password": 1234}]}}}, ["params.body.a.password"]),
        ({"params": {"query": {"token": "{city}"}, "body": {"auth": {"api_key": "${KEY}"}}}}, []),
    ],
)
def test_problems(changes: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in HttpNode.problems(spec_of(**changes))] == keys


@pytest.mark.parametrize(
    "params",
    [
        {"path": "cities"},
        {"path": "/a?b"},
        {"path": "/a/../b"},
        {"method": "TRACE"},
        {"max_response_bytes": 2**40},
        {"nope": 1},
    ],
)
def test_bad_params_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        HttpParams.model_validate(params)


async def test_a_missing_secret_is_named_when_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEATHER_KEY")
    node = HttpNode(spec_of(params={"path": "/{city}", "query": {"key": "${WEATHER_KEY}"}}), ENVIRONMENT)
    with pytest.raises(InvalidSpec, match="WEATHER_KEY"):
        await node.load()


@pytest.mark.parametrize(("status", "fault"), [(200, None), (405, None), (403, NodeRejected), (500, NodeUnavailable)])
async def test_check(status: int, fault: type[ModelyardError] | None) -> None:
    async with node_on(answering(status, b"")) as (node, upstream):
        if fault:
            with pytest.raises(fault):
                await node.check()
        else:
            await node.check()
        assert (upstream.seen[0].method, upstream.seen[0].path) == ("HEAD", "/api")
