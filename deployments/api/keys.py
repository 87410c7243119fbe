"""API keys and the audit record over HTTP: `/v1/keys`, `/v1/audit`. The admin's alone."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.responses import Response

from deployments.access.api_keys import ApiKey
from deployments.access.durations import seconds_of
from deployments.access.principal import Limits, Scope
from deployments.api.body import JSONRoute
from deployments.api.state import author_of, gateway_of, graph_of
from deployments.json_response import JSONResponse
from graph.spec import Name

routes = APIRouter(tags=["Modelyard"], route_class=JSONRoute)


class KeyRequest(BaseModel):
    """A key that is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    """Whose it is, or what for."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10)] = ["call", "route"]
    nodes: Annotated[list[Name], Field(min_length=1, max_length=10_000)] | None = None
    """The only nodes that exist for it; null: every one, later ones too."""
    expires: str | None = None
    """How long it holds, such as 90d; null: until it is revoked."""
    requests: int | None = Field(None, ge=1, le=10**9)
    """Most requests a minute."""
    tokens: int | None = Field(None, ge=1, le=10**12)
    """Most tokens a minute."""
    runs: int | None = Field(None, ge=1, le=100_000)
    """Most runs in progress at a time."""
    budget: float | None = Field(None, gt=0, le=1e12)
    """Most cost units a month."""

    @field_validator("expires")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value

    @model_validator(mode="after")
    def _admins_see_all(self) -> KeyRequest:
        if "admin" in self.scopes and self.nodes is not None:
            raise ValueError("an admin's key is for every node: leave out nodes, or the scope admin")
        return self

    def limits(self) -> Limits:
        """Return the limits."""
        return Limits(self.requests, self.tokens, self.runs, self.budget)


@routes.post("/v1/keys", status_code=201)
async def create_key(body: KeyRequest, request: Request) -> Response:
    """Make a key. `key` is in this answer and nowhere else: the store has a hash alone."""
    security = gateway_of(request).security
    nodes = None if body.nodes is None else frozenset(body.nodes)
    expires_at = None if body.expires is None else time.time() + seconds_of(body.expires)
    by = author_of(request)
    token, key = await security.keys.create(
        body.name, frozenset(body.scopes), by=by, nodes=nodes, limits=body.limits(), expires_at=expires_at
    )
    await security.audit.write("key.create", by, _audited(key))
    security.access.forget()
    warnings = ["the service asks nobody for a key: set MODELYARD_API_KEY"] if security.access.is_open else []
    graph = graph_of(request)
    unknown = [repr(name) for name in body.nodes or () if name not in graph]
    if unknown:  # nodes may come later
        warnings.append(f"no node is called {' or '.join(unknown[:10])}: that is of use once one is registered")
    answer = JSONResponse({"key": token} | key.to_json() | {"warnings": warnings}, 201)
    answer.headers["cache-control"] = "no-store"
    return answer


@routes.get("/v1/keys")
async def list_keys(request: Request) -> Response:
    """List every key, revoked and expired ones too, without the keys themselves."""
    return JSONResponse({"data": [key.to_json() for key in await gateway_of(request).security.keys.list()]})


@routes.delete("/v1/keys/{id}")
async def revoke_key(id: str, request: Request) -> Response:
    """Revoke a key: at once in this gateway, within five seconds in the others."""
    security, by = gateway_of(request).security, author_of(request)
    key = await security.keys.revoke(id)
    await security.audit.write("key.revoke", by, _audited(key))
    security.access.forget()
    return JSONResponse(key.to_json())


@routes.get("/v1/audit")
async def audit(
    request: Request, limit: int = Query(100, ge=1, le=1000), after: int = Query(0, ge=0, lt=2**53)
) -> Response:
    """Return who changed what: the latest entries, or with `after` those that follow that id; oldest first."""
    entries = await gateway_of(request).security.audit.read(after=after, limit=limit)
    return JSONResponse({"data": entries})


def _audited(key: ApiKey) -> dict[str, Any]:
    shown = key.to_json()
    return {"key": key.id} | {name: shown[name] for name in ("name", "scopes", "nodes", "limits", "expires_at")}
