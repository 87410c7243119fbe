"""Everything the service wrote is searched for secrets, and all but what people asked it to keep for content."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes import KINDS, FakeNode, spec
from gateway_service import Start
from test_keys import OPERATOR, bearer, begin, make
from waiting import until

from graph.errors import NodeUnavailable
from graph.types import Call

CONTENT = "my-diagnosis-is-zebra"
SECRET = "upstream-secret-hunter2"


class Secretive(FakeNode):
    """Resolves its key when it loads, as remote kinds do, and can fail while it holds a message."""

    resolved: ClassVar[list[str]] = []

    async def load(self) -> None:
        self.resolved.append(self.environment.secret(self.spec.api_key or ""))

    def __init__(self, spec: Any, environment: Any) -> None:
        super().__init__(spec, environment)
        self.environment = environment

    def _steps(self, call: Call) -> list[Any]:
        failure = NodeUnavailable("the upstream is down", status=503)
        return [failure] if self.spec.model == "fail" else super()._steps(call)


@pytest.fixture(autouse=True)
def secretive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "secretive", Secretive)
    monkeypatch.setenv("UPSTREAM_KEY", SECRET)
    Secretive.resolved.clear()


def store_files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_bytes().decode("latin-1") for file in folder.glob("state.db*")}


async def test_nothing_that_was_written_tells_a_secret_or_a_message(
    start: Start, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    law = spec("law", kind="secretive", api_key="${UPSTREAM_KEY}", examples=["Is this lease enforceable?"])
    down = spec("down", kind="secretive", api_key="${UPSTREAM_KEY}", model="fail", limits={"attempts": 1})
    service = await begin(start, law, down, log_level="debug")
    assert SECRET in Secretive.resolved
    key = await make(service, scopes=["call", "route", "read"], requests=100, budget=100.0)
    headers = bearer(key["key"])
    asked = {"messages": [{"role": "user", "content": CONTENT}]}
    traces = []
    for model, stream in (("law", False), ("law", True), ("auto", False), ("down", False), ("nobody", False)):
        body = asked | {"model": model, "stream": stream}
        answer = await service.http.post("/v1/chat/completions", json=body, headers=headers)
        traces.append(answer.headers["x-trace-id"])
    decided = [await service.http.post(path, json=asked, headers=headers) for path in ("/v1/route", "/v1/plan")]
    traces += [answer.headers["x-trace-id"] for answer in decided]
    await service.http.post("/v1/chat/completions", json=asked, headers=bearer(key["key"] + "x"))
    await service.http.post("/v1/chat/completions", content=f'{{"messages": "{CONTENT}', headers=headers)
    yaml = "name: new\nkind: secretive\ndescription: New.\napi_key: ${UPSTREAM_KEY}\n"
    await service.http.put("/v1/nodes/new?force=true", content=yaml, headers=OPERATOR)
    listings = ("nodes", "nodes/law", "nodes/law/history", "graph", "keys", "audit", "router", "runs")
    paths = ["/metrics", "/readyz", "/openapi.json", *(f"/v1/{name}" for name in listings)]
    paths += [f"/v1/traces/{trace}" for trace in traces]
    written = {path: (await service.http.get(path, headers=OPERATOR)).text for path in paths}
    await service.gateway.flush_spans()
    await service.gateway.security.quotas._flush()
    written["log"] = "\n".join(f"{r.getMessage()} {r.exc_text or ''} {r.args}" for r in caplog.records)
    written |= store_files(tmp_path)
    assert {"state.db", "log"} <= set(written) and "law" in written["/v1/nodes"]
    for where, text in written.items():
        for secret in (SECRET, "the-operators", key["key"][10:], CONTENT):
            assert secret not in text, f"{where} tells {secret}"


async def test_a_run_keeps_its_content_where_its_owner_finds_it_and_nowhere_else(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service = await begin(start, spec("law"))
    headers = bearer((await make(service))["key"])
    plan = {"tasks": [{"id": "t", "node": "law", "arguments": {"prompt": CONTENT}}]}
    id = (await service.http.post("/v1/runs", json={"plan": plan}, headers=headers)).json()["id"]
    await until(lambda: not service.gateway.runs._works)
    assert CONTENT in (await service.http.get(f"/v1/runs/{id}", headers=headers)).text
    for path in ("/v1/audit", "/metrics", "/v1/keys", "/v1/nodes"):
        assert CONTENT not in (await service.http.get(path, headers=OPERATOR)).text
    assert CONTENT not in caplog.text
