"""The gate in front of the registry, and the router's versions."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fakes import spec
from gateway_service import Service, Start
from waiting import until

from graph.spec import NodeSpec

LAW_WORDS = ("contract", "lease", "court", "clause", "statute", "licence", "verdict", "tenant", "liability", "will")
COOK_WORDS = ("soup", "bread", "stew", "salad", "cake", "roast", "sauce", "pasta", "curry", "pie")
CAR_WORDS = ("engine", "brake", "tyre", "gearbox", "clutch", "wheel", "exhaust", "battery", "mirror", "seat")


def law(name: str = "law", **fields: object) -> NodeSpec:
    examples = tuple(f"Is this legal {word} valid before a judge" for word in LAW_WORDS)
    return spec(name, **{"description": "Law: a legal matter before a judge.", "examples": examples} | fields)


def cook(name: str = "cook", **fields: object) -> NodeSpec:
    examples = tuple(f"How do I cook a tasty {word} for dinner" for word in COOK_WORDS)
    return spec(name, description="Cooking a tasty dinner.", examples=examples, **fields)


def cars() -> NodeSpec:
    examples = tuple(f"My car needs a mechanic who repairs the {word}" for word in CAR_WORDS)
    return spec("cars", description="A mechanic repairs a car.", examples=examples)


async def put(service: Service, node: NodeSpec, query: str = "") -> tuple[int, dict[str, object]]:
    answer = await service.http.put(f"/v1/nodes/{node.name}{query}", json=node.to_yaml_dict())
    return answer.status_code, answer.json()


async def test_a_colliding_expert_is_refused_and_changes_nothing(start: Start) -> None:
    service = await start(law(), cook())
    status, body = await put(service, law("attorney"))
    error = body["error"]
    assert status == 409
    assert (error["code"], error["type"], error["param"]) == ("node_refused", "conflict_error", "name")
    assert "'law'" in error["message"] and "gate_refuse_overlap = 0.5" in error["message"]
    assert error["gate"]["verdict"] == "refuse" and error["gate"]["confusion"][0]["node"] == "law"
    assert (await service.http.get("/v1/nodes/attorney")).status_code == 404
    assert "attorney" not in service.gateway.router.labels


async def test_of_two_that_collide_only_one_is_taken_even_at_the_same_moment(start: Start) -> None:
    service = await start(cook())
    answers = await asyncio.gather(put(service, law("one")), put(service, law("two")), put(service, cars()))
    assert sorted(status for status, _ in answers) == [201, 201, 409]


async def test_an_honest_expert_is_applied_with_its_report(start: Start) -> None:
    service = await start(law(), cook())
    status, body = await put(service, cars())
    assert (status, body["warnings"], body["gate"]["verdict"]) == (201, [], "apply")
    assert (body["gate"]["rows"], body["gate"]["own_rows"], body["gate"]["flips"]) == (20, 10, 0)
    await service.settle(2)
    assert (await service.http.post("/v1/route", json={"input": "Who repairs my car"})).json()["node"] == "cars"


async def test_force_applies_what_was_refused_and_says_so(start: Start) -> None:
    service = await start(law(), cook())
    status, body = await put(service, law("attorney"), "?force=true")
    assert (status, body["gate"]["verdict"], body["gate"]["forced"]) == (201, "refuse", True)
    assert any("'law'" in warning for warning in body["warnings"])
    await service.settle(2)
    assert "attorney" in service.gateway.router.labels


async def test_a_dry_run_shows_the_report_of_what_would_be_refused(start: Start) -> None:
    service = await start(law(), cook())
    status, body = await put(service, law("attorney"), "?dry_run=true")
    assert (status, body["valid"], body["gate"]["verdict"]) == (200, True, "refuse")
    assert body["changes"] and body["warnings"] == body["gate"]["reasons"]
    assert (await service.http.get("/v1/nodes/attorney")).status_code == 404


async def test_settings_make_the_gate_lenient(start: Start) -> None:
    lenient = {"gate_flag_flips": 1, "gate_refuse_flips": 1, "gate_flag_calibration": 1, "gate_flag_out_of_scope": 1}
    service = await start(law(), cook(), gate_refuse_overlap=5, gate_flag_overlap=0.3, **lenient)
    status, body = await put(service, law("attorney"))
    assert (status, body["gate"]["verdict"]) == (201, "flag")
    assert any("gate_flag_overlap = 0.3" in warning for warning in body["warnings"])


@pytest.mark.parametrize(("gate", "verdict"), [("warn", "flag"), ("off", "skipped")])
async def test_a_gate_that_only_warns_or_is_off(start: Start, gate: str, verdict: str) -> None:
    service = await start(law(), cook(), gate=gate)
    status, body = await put(service, law("attorney"))
    assert (status, body["gate"]["verdict"], bool(body["warnings"])) == (201, verdict, gate == "warn")


async def test_what_cannot_do_harm_is_not_looked_at(start: Start) -> None:
    service = await start(law(), cook())
    tool = law("tool", arguments={"word": {"type": "string"}})
    for node, words in (
        (spec("plain"), "no examples"),
        (tool, "tool"),
        (law("hears", accepts=["audio"]), "no text"),
        (law(params={"reply": "other"}), "unchanged"),
        (law("vectors", kind="embedder"), "kind"),
    ):
        status, body = await put(service, node, "?dry_run=true")
        assert (status, body["gate"]["verdict"]) == (200, "skipped"), node.name
        assert words in body["gate"]["reasons"][0]


async def test_the_first_nodes_of_an_empty_graph_pass(start: Start) -> None:
    service = await start()
    status, body = await put(service, law())
    assert (status, body["gate"]["verdict"]) == (201, "skipped")
    await service.settle(2)
    status, body = await put(service, cook())
    assert (status, body["gate"]["verdict"]) == (201, "apply")


async def test_an_update_that_takes_a_node_out_of_its_own_subject_is_seen(start: Start) -> None:
    service = await start(law(), cook(), cars())
    status, body = await put(service, cook("law"))
    assert status == 409 and body["error"]["gate"]["flips"] >= 5
    status, body = await put(service, law(description="Law: every legal matter before a judge."))
    assert (status, body["gate"]["verdict"]) == (200, "apply")


async def test_recent_requests_are_part_of_the_report(start: Start) -> None:
    service = await start(law(), cook())
    for text in ("Is this legal notice valid", "My car needs a mechanic"):
        await service.chat("auto", text)
    _, body = await put(service, cars(), "?dry_run=true")
    assert body["gate"]["recent"]["texts"] == len(service.gateway.traffic.local())
    kept_off = await start(law("law"), recent_requests=0)
    await kept_off.http.post("/v1/route", json={"input": "Is this legal notice valid"})
    assert kept_off.gateway.traffic.local() == ()


async def test_a_graph_that_is_loaded_as_it_is_logs_its_collisions(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "modelyard.gate"):
        await start(law(), law("attorney"), cook())
        await until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert "attorney" in record.getMessage() and "law" in record.getMessage()


async def test_each_fit_that_differs_has_a_number_and_a_card(start: Start) -> None:
    service = await start(law(), cook())

    async def version(number: int) -> dict[str, object]:
        for _ in range(500):
            card = (await service.http.get("/v1/router")).json()
            if card.get("version", 0) >= number:
                break
            await asyncio.sleep(0.01)
        return card

    first = await version(1)
    assert (first["version"], first["labels"], first["examples"]) == (1, ["cook", "law"], 20)
    assert first["change"] == [{"node": "cook", "from": None, "to": 1}, {"node": "law", "from": None, "to": 1}]
    assert first["strategy"] == "keyword" and len(str(first["data_sha256"])) == 64 and first["serving"] is True
    await put(service, cars())
    second = await version(2)
    assert second["change"] == [{"node": "cars", "from": None, "to": 1}]
    assert second["gate"]["cars"]["verdict"] == "apply"  # type: ignore[index]
    await put(service, law(params={"reply": "x"}))  # nothing to learn: no new version
    await service.settle(3)
    await service.http.delete("/v1/nodes/cars")
    third = await version(3)
    assert {"node": "cars", "from": 1, "to": None} in third["change"]  # type: ignore[operator]
    assert third["data_sha256"] == first["data_sha256"]
    listed = (await service.http.get("/v1/router/versions")).json()["data"]
    assert [card["version"] for card in listed] == [3, 2, 1]


async def test_gateways_that_fit_the_same_share_a_version(start: Start) -> None:
    from deployments.router_versions import RouterVersions

    service = await start(law(), cook())
    versions = RouterVersions(service.gateway.store)
    specs = service.gateway.routable()
    card = await versions.record(specs, {"law": 1, "cook": 1}, strategy="keyword", encoder="e")
    again = await asyncio.gather(
        *(RouterVersions(service.gateway.store).record(specs, {}, strategy="keyword", encoder="e") for _ in range(3))
    )
    assert {found.version for found in again} == {card.version}
    both = await asyncio.gather(
        *(versions.record(specs[:1], {"law": 1}, strategy="keyword", encoder=name) for name in ("f", "f", "g"))
    )
    assert {found.version for found in both} == {card.version + 1, card.version + 2}
