"""The router over HTTP: `/v1/router`."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

import yaml
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from deployments.api.state import author_of, gateway_of
from deployments.feedback import new_labels
from deployments.gateway import Gateway
from deployments.json_response import JSONResponse
from graph.errors import NodeRefused, Overloaded
from graph.spec import NodeSpec
from graph.types import Call, Message
from router.suggestions import Asked, MissingExpert, margin, suggest

routes = APIRouter(tags=["Modelyard"])


@routes.get("/v1/router")
async def show_router(request: Request) -> Response:
    """Return the newest version's card; `serving` says whether this gateway decides by it already.

    `bandit` is what this gateway's has learned; null where it is off.
    """
    gateway = gateway_of(request)
    card = await gateway.router_versions.current()
    if card is None:
        raise Overloaded("the router has not been fitted yet", retry_after=2)
    bandit = gateway.exploration.describe() if gateway.exploration else None
    return JSONResponse(card.to_json() | {"serving": card.data_sha256 == gateway.router_hash(), "bandit": bandit})


@routes.get("/v1/router/versions")
async def list_versions(request: Request) -> Response:
    """List the cards of the router's versions, newest first."""
    cards = await gateway_of(request).router_versions.history()
    return JSONResponse({"data": [card.to_json() for card in cards]})


@routes.get("/v1/router/suggestions")
async def suggestions(request: Request, budget: int = Query(10, ge=1, le=200)) -> Response:
    """Return at most `budget` recent requests whose right node would teach the router most, and missing experts.

    A proposal's `yaml` is a node to fill in: kind, model and endpoint are the operator's to say.
    """
    gateway = gateway_of(request)
    asked = await _asked_again(gateway)
    taken = gateway.snapshot.graph.names
    found = await asyncio.to_thread(suggest, asked, gateway.router.encoder, budget=budget, taken=taken)
    return JSONResponse(
        {
            "requests": found.requests,
            "doubtful": found.doubtful,
            "to_label": [asdict(item.request) | {"stands_for": item.stands_for} for item in found.to_label],
            "missing": [asdict(item) | {"yaml": _skeleton(item)} for item in found.missing],
        }
    )


async def _asked_again(gateway: Gateway) -> list[Asked]:
    """Return the recent requests without a label, as they would be decided now: nodes may have come since."""
    labelled = await gateway.feedback.labels()
    recent = {entry.text: entry for entry in await gateway.traffic.recent() if entry.text not in labelled}
    graph, router = gateway.snapshot.graph, gateway.router
    decisions = await asyncio.gather(*(router.decide(Call((Message("user", text),)), graph) for text in recent))
    return [
        Asked(entry.text, now.node, now.probability, margin(now), now.out_of_scope, entry.request_id)
        for entry, now in zip(recent.values(), decisions, strict=True)
    ]


@routes.post("/v1/router/learn")
async def learn(request: Request, dry_run: bool = Query(False), force: bool = Query(False)) -> Response:
    """Make the requests whose right node people named examples of that node: new versions, each through the gate.

    With correctness data, what people said of answers (`ratings`) joins them in estimating the quality of nodes.
    Nothing is learned from feedback before somebody asks for it here. What the gate refuses stays as it is. `from` says
    how many labels each caller gave.
    """
    gateway = gateway_of(request)
    labels = await gateway.feedback.labels()
    found = []
    for status in list(gateway.snapshot.nodes.values()):
        if new := new_labels(status.spec, labels):
            spec = status.spec.model_copy(update={"examples": (*status.spec.examples, *new)})
            said = {"node": spec.name, "added": len(new), "from": Counter(label.by for label in new.values())}
            author = f"{author_of(request)} (router learn)"
            found.append(said | await _teach(gateway, spec, author, dry_run, force))
    ratings = 0
    if gateway.quality is not None:
        ratings = len(await gateway.quality.unlearned()) if dry_run else await gateway.quality.learn()
    if not dry_run:
        await gateway.look()
    return JSONResponse({"labels": len(labels), "ratings": ratings, "dry_run": dry_run, "nodes": found})


async def _teach(gateway: Gateway, spec: NodeSpec, author: str, dry_run: bool, force: bool) -> dict[str, Any]:
    try:
        report, version = await gateway.register(spec, author=author, force=force, dry_run=dry_run)
    except NodeRefused as refused:
        return {"version": None, "gate": refused.report}
    return {"version": version.version if version else None, "gate": report.to_json()}


def _skeleton(missing: MissingExpert) -> str:
    about = ", ".join(missing.words) or "a subject of its own"
    node = {
        "name": missing.name,
        "kind": "openai",
        "description": f"Requests about {about}.",
        "model": "the-upstream's-name-of-the-model",
        "endpoint": "https://llm.example.com/v1",
        "examples": list(missing.samples),
    }
    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True)
