"""The registry over HTTP, with a real registry behind."""

from __future__ import annotations

import pytest
from fakes import KINDS, FakeNode, spec
from gateway_service import Start

from deployments.nodes.openai import OpenAINode
from graph.spec import NodeSpec

LAW = spec("law")
YAML = "name: law\nkind: fake\ndescription: {}\n"


async def test_a_node_is_put_called_updated_rolled_back_and_removed(start: Start) -> None:
    service = await start(LAW)
    put = await service.http.put("/v1/nodes/new", content="name: new\nkind: fake\ndescription: First.\n")
    assert (put.status_code, put.json()["version"], put.json()["state"]) == (201, 1, "loading")
    await service.settle(2)
    assert (await service.chat("new")).status_code == 200
    again = await service.http.put(
        "/v1/nodes/new", json={"name": "new", "kind": "fake", "description": "Second.", "params": {"reply": "v2"}}
    )
    assert (again.status_code, again.json()["version"]) == (200, 2)
    await service.settle(3)
    assert (await service.chat("new")).json()["choices"][0]["message"]["content"] == "v2"
    back = await service.http.post("/v1/nodes/new/rollback")
    assert (back.status_code, back.json()["version"]) == (200, 3)
    await service.settle(4)
    assert (await service.http.get("/v1/nodes/new")).json()["description"] == "First."
    gone = await service.http.delete("/v1/nodes/new")
    assert (gone.status_code, gone.json()["state"]) == (200, "draining")
    await service.settle(5)
    assert (await service.chat("new")).status_code == 404
    assert "new" not in service.gateway._breaker._circuits
    history = (await service.http.get("/v1/nodes/new/history")).json()["data"]
    assert [(item["version"], item["source"], item["spec"] is None) for item in history] == [
        (4, "api", True), (3, "rollback", False), (2, "api", False), (1, "api", False),
    ]  # fmt: skip
    assert history[0]["author"].startswith("operator@")
    revived = await service.http.post("/v1/nodes/new/rollback?to=2")
    assert revived.json()["version"] == 5
    await service.settle(6)
    assert (await service.chat("new")).json()["choices"][0]["message"]["content"] == "v2"


async def test_the_same_again_is_no_new_version(start: Start) -> None:
    service = await start(LAW)
    same = await service.http.put("/v1/nodes/law", json=LAW.to_yaml_dict())
    assert (same.status_code, same.json()["version"], same.json()["state"]) == (200, 1, "ready")


async def test_a_dry_run_reports_and_changes_nothing(start: Start) -> None:
    service = await start(LAW)
    answer = await service.http.put("/v1/nodes/law?dry_run=true", content=YAML.format("Leases."))
    body = answer.json()
    assert (answer.status_code, body["valid"], body["dry_run"]) == (200, True, True)
    assert [line[0] for line in body["changes"] if "description" in line] == ["-", "+"]
    assert (await service.http.get("/v1/nodes/law")).json()["version"] == 1
    wrong = await service.http.put("/v1/nodes/law?dry_run=true", content="name: law\nkind: nothing\n")
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: law\nkind: nothing\ndescription: x\n", "nothing"),
        (b"name: law\nkind: fake\n", "description"),
        (b"name: law\nkind: fake\ndescription: x\ncolour: red\n", "colour"),
        (b"name: other\nkind: fake\ndescription: x\n", "'other'"),
        (b"name: [broken\n", ""),
        (b"\xff\xfe\x00", ""),
        (b"", ""),
        (b"a: 1\n---\nb: 2\n", ""),
        (b'name: law\nkind: fake\ndescription: "\\ud800"\n', ""),
        (b'{"name": "law", "kind": "fake", "description": "\\ud800"}', ""),
    ],
)
async def test_a_spec_that_is_wrong_is_refused(start: Start, content: bytes, words: str) -> None:
    service = await start(LAW)
    answer = await service.http.put("/v1/nodes/law", content=content)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]
    assert (await service.http.get("/v1/nodes/law/history")).json()["data"][0]["version"] == 1


REMOTE = {"kind": "openai", "description": "Remote.", "model": "m", "name": "remote"}


@pytest.mark.parametrize("dry_run", ["true", "false"])
async def test_a_secret_in_plain_text_is_refused_and_not_repeated(
    start: Start, monkeypatch: pytest.MonkeyPatch, dry_run: str
) -> None:
    monkeypatch.setitem(KINDS, "openai", OpenAINode)
    service = await start(LAW)
    content = REMOTE | {"endpoint": "https://x.example", "params": {"extra_body": {"api_key": "sk-plain"}}}
    answer = await service.http.put(f"/v1/nodes/remote?dry_run={dry_run}", json=content)
    assert (answer.status_code, "sk-plain" in answer.text) == (400, False)
    (problem,) = answer.json()["error"]["problems"]
    assert problem["key"] == "params.extra_body.api_key" and "must be written as ${NAME}" in problem["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_an_address_that_is_refused_is_seen_when_the_node_loads(
    start: Start, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setitem(KINDS, "openai", OpenAINode)
    service = await start(LAW, NodeSpec.model_validate(REMOTE | {"endpoint": f"http://{host}:9/v1"}))
    node = (await service.http.get("/v1/nodes/remote")).json()
    assert node["state"] == "failed"
    assert "loopback address" in node["error"] and "allow_private" in node["error"]
    allowed = await start(allow_private=True)
    assert (await allowed.http.get("/v1/nodes/remote")).json()["state"] == "ready"


async def test_an_edge_to_a_node_that_may_still_come_is_a_warning(start: Start) -> None:
    service = await start(LAW)
    content = YAML.format("Leases.") + "edges: {fallback: [later]}\n"
    answer = await service.http.put("/v1/nodes/law", content=content)
    assert answer.status_code == 200
    assert any("later" in warning for warning in answer.json()["warnings"])
    await service.settle(2)
    assert (await service.chat("law")).status_code == 200


async def test_what_is_not_there(start: Start) -> None:
    service = await start(LAW)
    for method, path in (
        ("GET", "/v1/nodes/x"),
        ("DELETE", "/v1/nodes/x"),
        ("GET", "/v1/nodes/x/history"),
        ("POST", "/v1/nodes/x/rollback"),
    ):
        answer = await service.http.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    for to, status in (("9", 400), ("0", 400), ("x", 400)):
        assert (await service.http.post(f"/v1/nodes/law/rollback?to={to}")).status_code == status


async def test_nodes_are_listed_with_their_state(start: Start) -> None:
    service = await start(LAW, spec("broken", model="unloadable"))
    nodes = {node["name"]: node for node in (await service.http.get("/v1/nodes")).json()["data"]}
    assert (nodes["law"]["state"], nodes["broken"]["state"]) == ("ready", "failed")
    assert "the weights are missing" in nodes["broken"]["error"]
    assert {"name", "kind", "version", "state", "description", "edges"} <= set(nodes["law"])


async def test_what_could_not_be_loaded_takes_no_requests(start: Start) -> None:
    broken = spec("broken", model="unloadable", examples=("Is this contract valid?",))
    service = await start(broken, spec("rest", default=True))
    decision = (await service.http.post("/v1/route", json={"input": "Is this contract valid?"})).json()
    assert decision["node"] == "rest"
    (excluded,) = decision["excluded"]
    assert excluded["node"] == "broken" and "the weights are missing" in excluded["reason"]


async def test_a_version_that_cannot_be_loaded_changes_nothing(start: Start) -> None:
    service = await start(LAW)
    await service.http.put("/v1/nodes/law", content=YAML.format("New.") + "\nmodel: unloadable\n")
    await service.settle(2)
    node = (await service.http.get("/v1/nodes/law")).json()
    assert (node["state"], node["description"]) == ("ready", LAW.description)
    assert "the weights are missing" in node["error"]
    assert (await service.chat("law")).status_code == 200


async def test_an_update_lets_calls_in_flight_finish_on_the_old_node(start: Start) -> None:
    import asyncio

    FakeNode.gates["law"] = asyncio.Event()
    service = await start(spec("law", model="slow", params={"reply": "the old one"}))
    old = service.gateway._placement._local["law"].node
    call = asyncio.create_task(service.chat("law"))
    while not FakeNode.calls:  # noqa: ASYNC110  # the call has no event of its own
        await asyncio.sleep(0.002)
    await service.http.put("/v1/nodes/law", content=YAML.format("New."))
    await service.settle(2)
    assert not old.is_closed  # type: ignore[attr-defined]
    FakeNode.gates["law"].set()
    assert (await call).json()["choices"][0]["message"]["content"] == "the old one"
    await asyncio.sleep(0.01)
    assert old.is_closed  # type: ignore[attr-defined]


async def test_a_node_that_is_not_there_is_told_with_those_that_are(start: Start) -> None:
    service = await start(spec("law"), spec("tax"))
    for answer in (await service.http.get("/v1/nodes/lwa"), await service.http.post("/v1/nodes/lwa/promote")):
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (404, "name")
        assert error["message"] == "no node is called 'lwa'; there is law, tax"
