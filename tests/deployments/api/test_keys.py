"""API keys, scopes and the audit record, through the real web application."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fakes import spec
from gateway_service import Service, Start
from starlette.routing import Route

from deployments.access.rules import ADMIN, ROUTES, Rules
from graph.stores.base import StateStore

LAW = spec("law", description="Contracts and leases.", examples=["Is this lease enforceable?"])
OPERATOR = {"authorization": "Bearer the-operators"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def begin(start: Start, *specs: Any, **settings: Any) -> Service:
    return await start(*(specs or (LAW,)), api_key="the-operators", **settings)


async def make(service: Service, **wanted: Any) -> dict[str, Any]:
    answer = await service.http.post("/v1/keys", json={"name": "ann"} | wanted, headers=OPERATOR)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


async def chat(service: Service, key: str, **fields: Any) -> httpx.Response:
    body = {"model": "law", "messages": [{"role": "user", "content": "hello"}]} | fields
    return await service.http.post("/v1/chat/completions", json=body, headers=bearer(key))


async def everything(store: StateStore) -> str:
    tables = [str(await store.scan(table)) for table in ("api-keys", "idempotency", "registry")]
    return str([*tables, await store.latest("audit", limit=1000)])


async def test_a_key_is_told_once_and_kept_as_a_hash(start: Start) -> None:
    service = await begin(start)
    made = await make(service, scopes=["call"], expires="90d")
    assert re.fullmatch(r"mdy_[\w-]{43}", made["key"]) and made["key"].startswith(made["prefix"])
    assert made["expires_at"] - made["created_at"] == pytest.approx(90 * 86400, abs=5)
    assert (await chat(service, made["key"])).status_code == 200
    listed = await service.http.get("/v1/keys", headers=OPERATOR)
    (kept,) = listed.json()["data"]
    assert kept == {name: value for name, value in made.items() if name not in ("key", "warnings")}
    secret = made["key"][len(made["prefix"]) :]
    assert secret not in listed.text and secret not in await everything(service.gateway.store)


@pytest.mark.parametrize("expires", ["999999y", "101y", "0d", "soon", ""])
async def test_a_key_expires_within_a_hundred_years(start: Start, expires: str) -> None:
    service = await begin(start)
    refused = await service.http.post("/v1/keys", json={"name": "ann", "expires": expires}, headers=OPERATOR)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "expires") and "90d; at most 100y" in error["message"]
    assert (await make(service, expires="100y"))["expires_at"]


async def test_a_revoked_or_expired_or_invented_key_is_refused(start: Start) -> None:
    service = await begin(start)
    made = await make(service)
    assert (await chat(service, made["key"])).status_code == 200
    revoked = await service.http.delete(f"/v1/keys/{made['id']}", headers=OPERATOR)
    assert revoked.json()["revoked_at"] is not None
    now = service.gateway.security.keys._clock()
    old, _ = await service.gateway.security.keys.create("old", frozenset({"call"}), by="t", expires_at=now - 1)
    for key in (made["key"], old, "mdy_" + "A" * 43, "", "the-operator", "ÿþ"):
        answer = await service.http.post(
            "/v1/chat/completions", json={}, headers=[(b"authorization", b"Bearer " + key.encode("latin-1"))]
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), key
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await service.http.delete("/v1/keys/key_none", headers=OPERATOR)).status_code == 400


async def test_another_gateways_revocation_counts_after_a_short_while(start: Start) -> None:
    service = await begin(start)
    made = await make(service)
    security = service.gateway.security
    now = security.access._clock()
    security.access._clock = lambda: now
    assert (await chat(service, made["key"])).status_code == 200
    await security.keys.revoke(made["id"])  # as another gateway does
    assert (await chat(service, made["key"])).status_code == 200
    security.access._clock = lambda: now + 5.1
    assert (await chat(service, made["key"])).status_code == 401


async def test_known_keys_outlive_a_store_that_is_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await begin(start)
    made, other = await make(service), await make(service)
    access = service.gateway.security.access
    now = access._clock()
    access._clock = lambda: now
    assert (await chat(service, made["key"])).status_code == 200

    async def away(*_: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(service.gateway.security.keys, "find", away)
    access._clock = lambda: now + 30
    assert (await chat(service, made["key"])).status_code == 200
    unknown = await chat(service, other["key"])
    assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "2")
    access._clock = lambda: now + 90
    assert (await chat(service, made["key"])).status_code == 503


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("call", {"chat", "models", "runs"}),
        ("route", {"route", "models"}),
        ("read", {"models", "nodes", "metrics", "runs"}),
        ("admin", {"chat", "models", "runs", "route", "nodes", "metrics", "keys", "audit", "put"}),
    ],
)
async def test_a_scope_opens_its_own_doors(start: Start, scope: str, allowed: set[str]) -> None:
    service = await begin(start)
    headers = bearer((await make(service, scopes=[scope]))["key"])
    asked = {
        "chat": service.http.post("/v1/chat/completions", json={}, headers=headers),
        "route": service.http.post("/v1/route", json={}, headers=headers),
        "models": service.http.get("/v1/models", headers=headers),
        "runs": service.http.get("/v1/runs", headers=headers),
        "nodes": service.http.get("/v1/nodes", headers=headers),
        "metrics": service.http.get("/metrics", headers=headers),
        "put": service.http.put("/v1/nodes/x", content="", headers=headers),
        "keys": service.http.get("/v1/keys", headers=headers),
        "audit": service.http.get("/v1/audit", headers=headers),
    }
    answers = {name: await request for name, request in asked.items()}
    assert {name for name, answer in answers.items() if answer.status_code != 403} == allowed
    for answer in answers.values():
        if answer.status_code == 403:
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("permission_error", "insufficient_permissions")


async def test_every_route_of_the_document_has_a_scope(start: Start) -> None:
    service = await begin(start)
    document = (await service.http.get("/openapi.json", headers=OPERATOR)).json()
    methods = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}
    described = {(m.upper(), path) for path, item in document["paths"].items() for m in item if m in methods}
    undescribed = {("GET", "/docs"), ("GET", "/docs/oauth2-redirect"), ("GET", "/openapi.json")}
    mcp = {(method, "/mcp") for method in ("GET", "POST", "DELETE")}
    assert described | undescribed | mcp == set(ROUTES)
    own = {(m, route.path) for route in service.app.routes if isinstance(route, Route) for m in route.methods or ()}
    assert undescribed == {(method, path) for method, path in own if method != "HEAD"} - described
    for method, path in sorted(described - {("GET", "/healthz"), ("GET", "/readyz")}):
        bare = re.sub(r"\{\w+\}", "x", path)
        assert (await service.http.request(method, bare)).status_code == 401, (method, path)
        scopes = document["paths"][path][method.lower()]["x-modelyard-scopes"]
        assert scopes and document["paths"][path][method.lower()]["security"]


async def test_a_key_for_nodes_that_are_not_there_is_made_with_a_warning(start: Start) -> None:
    service = await begin(start)
    (warning,) = (await make(service, nodes=["law", "lwa", "tax"]))["warnings"]
    assert warning.startswith("no node is called 'lwa' or 'tax': ")
    assert (await make(service, nodes=["law"]))["warnings"] == []


@pytest.mark.parametrize("path", ["/v1/nodes/", "/v1/nodes/a/b", "/v1//nodes", "/v1/nodes/x/", "/V1/keys", "/nothing"])
def test_what_is_not_listed_is_the_admins(path: str) -> None:
    assert Rules().find("GET", path) is ADMIN and Rules().find("OPTIONS", "/v1/models") is ADMIN
    assert Rules().find("HEAD", "/v1/models") is Rules().find("GET", "/v1/models")


async def test_health_needs_no_key_and_tells_no_names(start: Start) -> None:
    service = await begin(start)
    assert (await service.http.get("/healthz", headers=bearer("wrong"))).status_code == 200
    assert (await service.http.get("/readyz")).json() == {"ready": True, "nodes": {}}
    assert (await service.http.get("/readyz", headers=OPERATOR)).json()["nodes"] == {"law": "ready"}


async def test_without_any_key_everybody_is_the_operator(start: Start) -> None:
    service = await start(LAW)
    made = await service.http.post("/v1/keys", json={"name": "ann", "scopes": ["call"]})
    assert "MODELYARD_API_KEY" in made.json()["warnings"][0]
    assert (await service.http.get("/v1/nodes", headers=bearer("unused"))).status_code == 200
    assert (await service.http.get("/v1/nodes", headers=bearer(made.json()["key"]))).status_code == 403
    assert (await service.http.get("/v1/nodes", headers=bearer("mdy_invented"))).status_code == 401


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": []}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expires": "soon"}, "expires"),
        ({"expires": "0d"}, "expires"),
        ({"nodes": ["No Node"]}, "nodes.0"),
        ({"nodes": []}, "nodes"),
        ({"requests": 0}, "requests"),
        ({"budget": -1}, "budget"),
        ({"scopes": ["admin"], "nodes": ["law"]}, None),
    ],
)
async def test_a_wrong_wish_is_told_by_its_field(start: Start, wanted: dict[str, Any], param: str | None) -> None:
    service = await begin(start)
    answer = await service.http.post("/v1/keys", json={"name": "ann"} | wanted, headers=OPERATOR)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_the_record_says_who_changed_what(start: Start) -> None:
    service = await begin(start)
    admin = await make(service, name="root", scopes=["admin"])
    yaml = "name: x\nkind: fake\ndescription: X.\napi_key: ${X_KEY}\n"
    for content in (yaml, yaml.replace("X.", "Y.")):
        answer = await service.http.put("/v1/nodes/x?force=true", content=content, headers=bearer(admin["key"]))
        assert answer.status_code in (200, 201), answer.text
    await service.http.delete("/v1/nodes/x", headers=bearer(admin["key"]))
    await service.http.delete(f"/v1/keys/{admin['id']}", headers=OPERATOR)
    entries = (await service.http.get("/v1/audit", headers=OPERATOR)).json()["data"]
    told = [
        (e["by"].partition("@")[0], e["act"], e.get("node") or e.get("key"), e.get("before"), e.get("version"))
        for e in entries
    ]
    who, id = admin["id"], admin["id"]
    assert told == [
        ("test", "node.put", "law", None, 1),
        ("operator", "key.create", id, None, None),
        (who, "node.put", "x", None, 1),
        (who, "node.put", "x", 1, 2),
        (who, "node.remove", "x", 2, 3),
        ("operator", "key.revoke", id, None, None),
    ]
    assert [entry["id"] for entry in entries] == [1, 2, 3, 4, 5, 6] and all(entry["at"] for entry in entries)
    later = (await service.http.get("/v1/audit?after=4&limit=1", headers=OPERATOR)).json()["data"]
    assert later == [entries[4]]
    assert admin["key"][10:] not in str(entries)
