"""Learning from traffic: what is remembered, suggested, labelled and learned."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import yaml
from fakes import spec
from gateway_service import Service, Start

import deployments.feedback
from deployments.access.principal import OPERATOR, Principal
from deployments.feedback import FeedbackLog, Label
from deployments.quality import QualityLearning
from deployments.traffic import Traffic
from graph.spec import NodeSpec
from graph.stores.memory import MemoryStore
from router.types import Array

LAW = spec("law", description="Law and contracts.", examples=tuple(f"Is contract {word} valid" for word in "abcdefgh"))
COOK = spec("cook", description="Cooking.", examples=tuple(f"How do I cook dish {word}" for word in "abcdefgh"))


class Words:
    """An encoder that gives each word a direction of its own."""

    name = "words"

    def encode(self, texts: Sequence[str]) -> Array:
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                rows[row, crc32(word.encode()) % 64] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


async def begin(start: Start, *specs: NodeSpec, **settings: object) -> Service:
    service = await start(*(specs or (LAW, COOK)), **settings)
    service.gateway.router._encoder = Words()
    return service


async def ask(service: Service, text: str, id: str) -> dict[str, object]:
    answer = await service.http.post("/v1/route", json={"input": text}, headers={"x-request-id": id})
    return dict(answer.json())


async def test_what_was_out_of_scope_becomes_a_node_to_fill_in(start: Start) -> None:
    service = await begin(start)
    for number, word in enumerate(("now", "soon", "later", "well", "today")):
        assert (await ask(service, f"prune garden roses {word}", f"g{number}"))["out_of_scope"]
    body = (await service.http.get("/v1/router/suggestions")).json()
    (proposal,) = body["missing"]
    assert (body["requests"], proposal["count"]) == (5, 5)
    node = yaml.safe_load(proposal["yaml"])
    assert NodeSpec.model_validate(node).name == proposal["name"]
    assert set(node["examples"]) == set(proposal["samples"]) and "roses" in proposal["words"]


async def test_nothing_is_missing_that_has_come_since(start: Start) -> None:
    service = await begin(start)
    texts = [f"prune garden roses {word}" for word in ("now", "soon", "later", "well", "today")]
    for number, text in enumerate(texts):
        await ask(service, text, f"g{number}")
    garden = spec("garden", description="Prune roses.", examples=(*texts, "prune roses", "garden roses"))
    await service.http.put("/v1/nodes/garden?force=true", json=garden.to_yaml_dict())
    await service.settle(2)
    assert (await service.http.get("/v1/router/suggestions")).json()["missing"] == []


async def test_a_request_worth_a_label_is_labelled_and_learned_when_somebody_says_so(start: Start) -> None:
    service = await begin(start, min_probability=0.0)
    text = "Is contract cook dish valid"
    await ask(service, text, "doubtful-1")
    (suggested,) = (await service.http.get("/v1/router/suggestions?budget=3")).json()["to_label"]
    assert (suggested["text"], suggested["request_id"]) == (text, "doubtful-1")
    said = await service.http.post(
        "/v1/feedback", json={"request_id": suggested["request_id"], "right_node": "cook", "rating": "bad"}
    )
    assert said.json()["learnable"] is said.json()["request_known"] is True
    assert (await service.http.get("/v1/router/suggestions")).json()["to_label"] == []
    assert text not in (await service.http.get("/v1/nodes/cook")).json()["spec"]["examples"]

    shown = (await service.http.post("/v1/router/learn?dry_run=true")).json()
    (node,) = shown["nodes"]
    assert (node["node"], node["added"], node["from"], node["version"]) == ("cook", 1, {"operator": 1}, None)
    learned = (await service.http.post("/v1/router/learn")).json()
    assert (learned["labels"], learned["nodes"][0]["version"]) == (1, 2)
    await service.settle(2)
    assert text in (await service.http.get("/v1/nodes/cook")).json()["spec"]["examples"]
    assert (await service.http.post("/v1/router/learn")).json()["nodes"] == []


async def test_the_last_word_on_a_text_counts(start: Start) -> None:
    service = await begin(start)
    for right in ("law", "cook"):
        body = {"request_id": "elsewhere", "right_node": right, "input": "a text of old"}
        assert (await service.http.post("/v1/feedback", json=body)).json()["learnable"] is True
    assert await service.gateway.feedback.labels() == {"a text of old": Label("cook", "operator")}


async def test_where_teachers_are_named_others_teach_nothing() -> None:
    store = MemoryStore()
    everybody = FeedbackLog(store, Traffic(10))
    callers = [Principal("key_app", "app", frozenset({"call"})), Principal("key_x", "x", frozenset({"call"})), OPERATOR]
    for number, caller in enumerate(callers):
        opinion = {"request_id": str(number), "right_node": "law", "input": f"text {number}", "score": 1.0}
        await everybody.keep(opinion, by=caller)
    assert list(await everybody.labels()) == ["text 0", "text 1", "text 2"]
    taught = await FeedbackLog(store, Traffic(10), teachers=("key_app",)).labels()
    assert taught == {"text 0": Label("law", "key_app"), "text 2": Label("law", "operator")}


async def test_the_store_holds_the_newest_opinions_only(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.feedback, "KEPT", 3)
    service = await begin(start)
    for number in range(5):
        await service.http.post("/v1/feedback", json={"request_id": f"r{number}", "rating": "good"})
    kept = await service.gateway.store.read("feedback")
    assert [json.loads(raw)["request_id"] for _, raw in kept] == ["r2", "r3", "r4"]


async def test_feedback_keeps_no_text_unless_it_names_the_right_node(start: Start) -> None:
    service = await begin(start)
    await ask(service, "Is contract secret valid", "r1")
    await service.http.post("/v1/feedback", json={"request_id": "r1", "rating": "good"})
    ((_, raw),) = await service.gateway.store.read("feedback")
    assert b"secret" not in raw and b'"node":"law"' in raw
    assert await service.gateway.store.read("recent-requests") == []


async def test_a_gateway_knows_another_ones_requests_if_the_store_keeps_them(start: Start) -> None:
    service = await begin(start, recent_in_store=True)
    await ask(service, "Is contract shared valid", "r1")
    await service.gateway.traffic.flush()
    other = Traffic(10, shared=service.gateway.store)
    found = await other.find("r1")
    assert found is not None and (found.text, found.node) == ("Is contract shared valid", "law")
    assert [entry.request_id for entry in await other.recent()] == ["r1"]
    assert await Traffic(10).find("r1") is None


async def test_requests_are_found_by_their_trace_too_and_no_more_are_kept_than_wanted(start: Start) -> None:
    service = await begin(start, recent_requests=3)
    for number in range(5):
        answer = await service.chat("auto", f"Is contract {number} valid")
    kept = service.gateway.traffic.local()
    assert [entry.text for entry in kept] == [f"Is contract {number} valid" for number in (2, 3, 4)]
    found = await service.gateway.traffic.find(answer.headers["x-trace-id"])
    assert found is not None and found.text == "Is contract 4 valid"


@pytest.mark.parametrize("budget", ["0", "201", "many"])
async def test_a_budget_has_bounds(start: Start, budget: str) -> None:
    service = await begin(start)
    answer = await service.http.get(f"/v1/router/suggestions?budget={budget}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "budget")


async def test_labels_that_the_gate_refuses_stay_out(start: Start) -> None:
    service = await begin(start, gate_refuse_overlap=0.0, gate_flag_overlap=0.0, gate_refuse_flips=0.0)
    for number, text in enumerate(LAW.examples):
        body = {"request_id": f"r{number}", "right_node": "cook", "input": f"{text} indeed"}
        await service.http.post("/v1/feedback", json=body)
    (kept_out,) = (await service.http.post("/v1/router/learn")).json()["nodes"]
    assert (kept_out["gate"]["verdict"], kept_out["version"]) == ("refuse", None)
    (forced,) = (await service.http.post("/v1/router/learn?force=true")).json()["nodes"]
    assert forced["version"] == 2


async def test_what_people_said_of_answers_changes_the_estimated_quality_when_somebody_says_so(
    start: Start, tmp_path: Path
) -> None:
    rows = [
        {"text": f"{verb} number {n}", "scores": {"law": 0.9, "cook": 0.8}}
        for n in range(30)
        for verb in ("Sue", "Fry")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    service = await begin(start, min_probability=0.0, quality_data=tmp_path / "rows.jsonl")
    quality = service.gateway.quality
    assert quality is not None
    await quality.catch_up()

    async def chosen() -> object:
        return (await service.http.post("/v1/route", json={"input": "Is contract fish valid"})).json()["node"]

    assert await chosen() == "law"
    for number in range(40):
        await ask(service, f"Is contract fish valid {number}", f"r{number}")
        body = {"request_id": f"r{number}", "rating": "bad"}
        assert (await service.http.post("/v1/feedback", json=body)).json()["learnable"] is True
    await quality.catch_up()
    assert await chosen() == "law"  # nobody asked yet
    assert (await service.http.post("/v1/router/learn?dry_run=true")).json()["ratings"] == 40
    assert (await service.http.post("/v1/router/learn")).json()["ratings"] == 40
    assert await chosen() == "cook"
    assert (await service.http.post("/v1/router/learn")).json()["ratings"] == 0
    again = QualityLearning(
        tmp_path / "rows.jsonl", service.gateway.router, service.gateway.feedback, service.gateway.store
    )
    await again.catch_up()  # another gateway, or this one after a restart
    assert await chosen() == "cook"
