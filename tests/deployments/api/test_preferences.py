from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import spec
from gateway_service import Start

from deployments.api.preferences import parse_preferences
from graph.errors import InvalidRequest
from graph.preferences import NAMED, Preferences
from graph.spec import Cascade, Edges

DEAR = spec("dear", examples=["translate the poem", "translate this poem"], cost={"output_per_million": 10})
CHEAP = spec("cheap", examples=["translate the letter", "translate this letter"], cost={"output_per_million": 1})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cost", NAMED["cost"]),
        (" Quality ", Preferences()),
        ("quality=0.7,cost=0.3", Preferences(0.7, 0.3)),
        ("quality=7, cost=3", Preferences(0.7, 0.3)),
        ("latency=1", Preferences(0, 0, 1)),
        ("latency,budget=5", Preferences(2 / 3, 0, 1 / 3, 5)),
        ("budget=0", Preferences(budget=0)),
        ({"quality": 1, "latency": "3", "budget": 2}, Preferences(0.25, 0, 0.75, 2)),
    ],
)
def test_preferences_are_read(given: Any, expected: Preferences) -> None:
    found = parse_preferences(given, "x")
    assert (found.quality, found.cost, found.latency) == pytest.approx(
        (expected.quality, expected.cost, expected.latency)
    )
    assert found.budget == expected.budget


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("speed", "'speed'"),
        ("", "''"),
        ("cost,latency", "either"),
        ("cost,quality=1", "either"),
        ("cost=-1", "'-1'"),
        ("cost=nan", "'nan'"),
        ("cost=inf", "'inf'"),
        ("cost=", "cost must"),
        ("cost=1,cost=2", "twice"),
        ("quality=0", "above 0"),
        ("budget", "either"),
        ({"cost": True}, "True"),
        ({"cost": [1]}, "cost must"),
        (3, "3 is neither"),
    ],
)
def test_nonsense_is_refused_with_what_would_be_right(given: Any, named: str) -> None:
    with pytest.raises(InvalidRequest, match="give quality, cost or latency") as caught:
        parse_preferences(given, "x-modelyard-prefer")
    assert named in caught.value.message
    assert caught.value.param == "x-modelyard-prefer"


async def test_a_preference_changes_the_choice_and_is_not_remembered_for_others(start: Start) -> None:
    service = await start(DEAR, CHEAP, min_probability=0)
    text = "translate the poem in this letter for a poem"

    async def node(**request: Any) -> str:
        response = await service.http.post("/v1/route", **request)
        assert response.status_code == 200, response.text
        return str(response.json()["node"])

    body = {"input": text}
    assert await node(json=body) == "dear"
    assert await node(json=body, headers={"x-modelyard-prefer": "quality=1,cost=9"}) == "cheap"
    assert await node(json=body) == "dear"
    assert await node(json=body | {"metadata": {"x-modelyard-prefer": {"cost": 1}}}) == "cheap"
    assert await node(json=body, headers={"x-modelyard-prefer": "budget=5"}) == "cheap"
    # The header goes before the metadata.
    prefer = {"metadata": {"x-modelyard-prefer": "cost=1"}}
    assert await node(json=body | prefer, headers={"x-modelyard-prefer": "quality"}) == "dear"


async def test_route_explains_the_utilities(start: Start) -> None:
    service = await start(DEAR, CHEAP, min_probability=0)
    headers = {"x-modelyard-prefer": "quality=0.5,cost=0.5,budget=10"}
    answer = await service.http.post("/v1/route", json={"input": "translate the poem"}, headers=headers)
    found = {item["node"]: item for item in answer.json()["candidates"]}
    assert found["dear"]["utility"]["cost"] == 0.5 and found["cheap"]["utility"]["cost"] == 0.05
    for item in found.values():
        parts = item["utility"]
        assert parts["quality"] == pytest.approx(item["probability"] / 2, abs=1e-5)
        assert parts["total"] == pytest.approx(parts["quality"] - parts["cost"] - parts["latency"], abs=1e-5)


async def test_a_budget_leaves_dear_nodes_out_and_says_so(start: Start) -> None:
    service = await start(DEAR, CHEAP, min_probability=0)
    answer = await service.http.post("/v1/route", json={"input": "poem"}, headers={"x-modelyard-prefer": "budget=2"})
    assert answer.json()["excluded"] == [{"node": "dear", "reason": "costs 10 per million tokens; the budget is 2"}]
    none = await service.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "poem"}]},
        headers={"x-modelyard-prefer": "budget=0"},
    )
    assert none.status_code == 422 and "budget" in none.json()["error"]["message"]


async def test_chat_is_routed_by_the_preference(start: Start) -> None:
    service = await start(DEAR, CHEAP, min_probability=0)
    body = {"messages": [{"role": "user", "content": "translate the poem"}]}
    for metadata, node in (({}, "dear"), ({"x-modelyard-prefer": "cost=1"}, "cheap")):
        answer = await service.http.post("/v1/chat/completions", json=body | {"metadata": metadata})
        assert answer.headers["x-modelyard-node"] == node
    wrong = await service.http.post("/v1/chat/completions", json=body, headers={"x-modelyard-prefer": "cheap"})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "x-modelyard-prefer" and "'cheap'" in wrong.json()["error"]["message"]


async def test_correctness_data_and_cascades_at_serving(start: Start, tmp_path: Path) -> None:
    rows = [{"text": f"translate the poem {n}", "scores": {"dear": 0, "cheap": 1}} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    unsure = CHEAP.model_copy(update={"edges": Edges(escalates=("dear",)), "cascade": Cascade(must_not_match="poem")})
    service = await start(DEAR, unsure, min_probability=0, quality_data=tmp_path / "rows.jsonl")
    await service.gateway.quality.catch_up()  # type: ignore[union-attr]
    route = (await service.http.post("/v1/route", json={"input": "translate the poem"})).json()
    assert route["node"] == "cheap"
    assert {item["node"]: round(item["quality"]) for item in route["candidates"]} == {"cheap": 1, "dear": 0}
    for stream in (False, True):
        body = {"messages": [{"role": "user", "content": "translate the poem"}], "stream": stream}
        answer = await service.http.post("/v1/chat/completions", json=body)
        assert answer.headers["x-modelyard-node"] == "dear"
        assert answer.headers["x-modelyard-escalated"] == "cheap"
        assert "cheap: " not in answer.text and "dear:" in answer.text
    metrics = (await service.http.get("/metrics")).text
    assert 'modelyard_cascades_total{failed_check="must_not_match",modelyard_node="cheap"} 2.0' in metrics
    # What was seen of nodes' latency is what a caller in a hurry is served by.
    prefer = {"headers": {"x-modelyard-prefer": "latency=1"}}
    route = (await service.http.post("/v1/route", json={"input": "translate the poem"}, **prefer)).json()
    assert any(item["utility"]["latency"] == 1.0 for item in route["candidates"])
