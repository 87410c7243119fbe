"""The bandit in the gateway: feedback changes decisions within its bounds, and travels through the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import chat
from gateway_service import Service, Start
from test_learning import COOK, LAW, Words

from deployments.exploration import Exploration
from deployments.traffic import Traffic
from router.bandit import Bandit, Rails
from router.types import Candidate, Decision, Utility

BETWEEN = "Is contract cook dish valid"
OPEN = {"bandit": True, "bandit_share": 0.0, "bandit_floor": 0.0, "bandit_confidence": 1.0, "min_probability": 0.0}


async def begin(start: Start, **settings: object) -> Service:
    service = await start(LAW, COOK, **OPEN | settings)
    service.gateway.router._encoder = Words()
    return service


async def ask(service: Service, text: str, id: str) -> dict[str, object]:
    answer = await service.http.post("/v1/route", json={"input": text}, headers={"x-request-id": id})
    return dict(answer.json())


async def complain(service: Service, times: int, **opinion: object) -> None:
    for number in range(times):
        await ask(service, BETWEEN, f"r{number}")
        await service.http.post("/v1/feedback", json={"request_id": f"r{number}"} | opinion)
        assert service.gateway.exploration is not None
        await service.gateway.exploration.catch_up()


async def test_feedback_changes_who_is_chosen(start: Start) -> None:
    service = await begin(start)
    await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
    first = await ask(service, BETWEEN, "first")
    other = "cook" if first["node"] == "law" else "law"
    await complain(service, 12, rating="bad", right_node=other)
    after = await ask(service, BETWEEN, "last")
    assert (after["node"], after["strategy"]) == (other, "keyword+learned")
    assert after["candidates"][0]["node"] == other  # type: ignore[index]
    bandit = (await service.http.get("/v1/router")).json()["bandit"]
    assert bandit["changed"] >= 1 and bandit["rewards"][other] >= 1 and bandit["tried"] == 0
    text = await service.chat("auto", BETWEEN)
    assert text.headers["x-modelyard-node"] == other


@pytest.mark.parametrize("bound", [{"bandit": False}, {"bandit_floor": 0.9}, {"bandit_confidence": 0.0}])
async def test_within_its_bounds_it_changes_nothing(start: Start, bound: dict[str, object]) -> None:
    service = await begin(start, **bound)
    first = await ask(service, BETWEEN, "first")
    for number in range(12):
        await ask(service, BETWEEN, f"r{number}")
        await service.http.post("/v1/feedback", json={"request_id": f"r{number}", "rating": "bad"})
    if service.gateway.exploration is not None:
        await service.gateway.exploration.catch_up()
    assert (await ask(service, BETWEEN, "last"))["node"] == first["node"]


async def test_one_gateway_learns_from_what_another_was_told(start: Start) -> None:
    service = await begin(start)
    await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
    await complain(service, 12, rating="bad")
    second = Bandit(Rails(share=0.0, floor=0.0, confidence=1.0))
    gateway = service.gateway
    other = Exploration(second, gateway.router, Traffic(10), gateway.store)
    await other.catch_up()
    assert second.describe()["rewards"] == gateway.exploration.describe()["rewards"]  # type: ignore[union-attr]
    assert sum(second.describe()["rewards"].values()) == 12
    kept = await gateway.store.read("bandit-rewards")
    assert all(BETWEEN.encode() not in raw for _, raw in kept)


async def test_an_opinion_counts_once(start: Start) -> None:
    service = await begin(start)
    await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
    await ask(service, BETWEEN, "same")
    for _ in range(5):
        await service.http.post("/v1/feedback", json={"request_id": "same", "score": 0.0})
    await service.http.post("/v1/feedback", json={"request_id": "unknown", "score": 0.0})
    await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
    assert len(await service.gateway.store.read("bandit-rewards")) == 1


async def test_the_bandit_learns_from_teachers_and_admins_where_teachers_are_named(start: Start) -> None:
    service = await begin(start, teachers=("key_app",), api_key="k")
    await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
    service.http.headers["authorization"] = "Bearer k"
    made = await service.http.post("/v1/keys", json={"name": "x", "scopes": ["call", "route"]})
    for number, key in enumerate((made.json()["key"], "k")):
        service.http.headers["authorization"] = f"Bearer {key}"
        await ask(service, BETWEEN, f"r{number}")
        await service.http.post("/v1/feedback", json={"request_id": f"r{number}", "score": 0.0})
        await service.gateway.exploration.catch_up()  # type: ignore[union-attr]
        assert len(await service.gateway.store.read("bandit-rewards")) == number


async def test_what_the_bandit_may_not_judge_stays(start: Start) -> None:
    service = await begin(start)
    exploration = service.gateway.exploration
    assert exploration is not None
    pair = (Candidate("law", 0.5, Utility(0.5)), Candidate("cook", 0.4, Utility(0.4)))
    decision = Decision("law", 0.5, False, pair, (), BETWEEN, "keyword")
    context = exploration._bandit.context(Words().encode([BETWEEN])[0])
    for _ in range(30):
        exploration._bandit.reward("cook", context, 0.4, 1.0)
    assert (await exploration.adjust(chat(BETWEEN), decision)).node == "cook"
    for kept in (replace(decision, out_of_scope=True), replace(decision, via=("speech",))):
        assert await exploration.adjust(chat(BETWEEN), kept) is kept


def test_a_share_has_a_cap() -> None:
    from deployments.settings import Settings
    from graph.errors import InvalidRequest

    with pytest.raises(InvalidRequest, match="MODELYARD_BANDIT_SHARE"):
        Settings.from_env({"MODELYARD_BANDIT_SHARE": "0.5"})
