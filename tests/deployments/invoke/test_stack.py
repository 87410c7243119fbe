"""The policies composed: what a caller of the service sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes import HANG, FakeInvoke, Step, answer, chat, spec
from invoke_parts import deltas_of, text_of

from deployments.invoke.breaker import BreakerSettings, CircuitBreaker
from deployments.invoke.stack import Policies, compose
from graph.errors import DeadlineExceeded, NodeUnavailable, StreamBroken
from graph.model_graph import ModelGraph
from graph.node import Invoke, closing_stream
from graph.types import Call, Delta

LIMITS = {"attempts": 2, "first_token_s": 0.05, "idle_s": 0.05}


def stack(scripts: dict[str, list[list[Step]]], **changes: object) -> tuple[Invoke, FakeInvoke, list[str]]:
    place, seen = FakeInvoke(scripts), list[str]()
    graph = ModelGraph([spec("a", edges={"fallback": ["b"]}, limits=LIMITS), spec("b", limits=LIMITS)])

    def watched(inner: Invoke) -> Invoke:
        async def run(node: str, call: Call) -> AsyncIterator[Delta]:
            seen.append(node)
            async with closing_stream(inner(node, call)) as deltas:
                async for delta in deltas:
                    yield delta

        return run

    settings: dict[str, object] = {"max_attempts": 6, "observers": (watched,)} | changes
    policies = Policies(lambda: graph, lambda name, call: True, lambda start, end: None, **settings)  # type: ignore[arg-type]
    return compose(place, policies).invoke, place, seen


def quick_down() -> list[Step]:
    return [NodeUnavailable("down", retry_after=0.0)]


async def test_attempts_then_the_fallback_with_one_span_for_each_node() -> None:
    invoke, place, seen = stack({"a": [quick_down()], "b": [answer("from b")]})
    deltas = await deltas_of(invoke, chat())
    assert (text_of(deltas), place.asked(), seen) == ("from b", ["a", "a", "b"], ["a", "b"])
    assert (deltas[-1].node, deltas[-1].attempt) == ("b", 3)


async def test_a_node_that_is_silent_is_asked_once() -> None:
    invoke, place, _ = stack({"a": [[HANG]], "b": [answer("from b")]})
    assert text_of(await deltas_of(invoke, chat())) == "from b"
    assert place.asked() == ["a", "b"]


@pytest.mark.parametrize("broken", [["half ", StreamBroken("cut")], ["half "], ["half ", HANG]], ids=str)
async def test_a_stream_that_dies_midway_is_whole_for_who_does_not_stream(broken: list[Step]) -> None:
    invoke, _, _ = stack({"a": [broken], "b": [answer("the whole")]})
    deltas = await deltas_of(invoke, chat())
    assert "".join(delta.text for delta in deltas) == "the whole"
    assert not any(delta.reset for delta in deltas)


@pytest.mark.parametrize("broken", [["half ", StreamBroken("cut")], ["half "], ["half ", HANG]], ids=str)
async def test_a_stream_that_dies_midway_is_an_error_for_who_has_read_of_it(broken: list[Step]) -> None:
    invoke, place, _ = stack({"a": [broken], "b": [answer("never")]})
    with pytest.raises((StreamBroken, DeadlineExceeded)):
        await deltas_of(invoke, chat(stream=True))
    assert place.asked() == ["a"]


async def test_the_budget_counts_attempts_at_all_nodes() -> None:
    invoke, place, _ = stack({"a": [quick_down()], "b": [quick_down()]}, max_attempts=3)
    with pytest.raises(NodeUnavailable):
        await deltas_of(invoke, chat())
    assert place.asked() == ["a", "a", "b"]


async def test_an_open_circuit_sends_calls_straight_to_the_fallback() -> None:
    breaker = CircuitBreaker(BreakerSettings(failures=1))
    invoke, place, _ = stack({"a": [quick_down()], "b": [answer("b")]}, breaker=breaker)
    await deltas_of(invoke, chat())
    await deltas_of(invoke, chat())
    assert place.asked() == ["a", "a", "b", "b"]


async def test_leaving_closes_the_nodes_stream() -> None:
    invoke, place, _ = stack({"a": [["one ", "two ", HANG]]})
    deltas = invoke("a", chat(stream=True))
    assert (await anext(deltas)).text == "one "
    await deltas.aclose()  # type: ignore[attr-defined]
    assert place.closed == ["a"]


async def test_retries_hedges_fallbacks_and_cascades_share_one_cap() -> None:
    hedging = {"limits": {"attempts": 4, "hedge_s": 0.01, "first_token_s": 0.05}}
    graph = ModelGraph(
        [
            spec("a", edges={"fallback": ["b"], "escalates": ["c"]}, cascade={"must_match": "good"}, **hedging),
            spec("b", edges={"fallback": ["d"]}, **hedging),
            spec("c", edges={"fallback": ["b"]}, **hedging),
            spec("d", **hedging),
        ]
    )

    def late() -> list[Step]:
        return [0.02, NodeUnavailable("down", retry_after=0.0)]

    place = FakeInvoke(
        {"a": [late() for _ in range(9)], "b": [answer("bad")], "c": [late() for _ in range(9)], "d": [answer("bad")]}
    )
    policies = Policies(lambda: graph, lambda name, call: True, lambda start, end: None, max_attempts=7)
    deltas = await deltas_of(compose(place, policies).invoke, chat())
    assert text_of(deltas) == "bad"  # the best there is
    assert place.asked() == ["a"] * 4 + ["b"] + ["c"] * 2
    assert place.running == 0


async def test_a_node_that_was_removed_is_forgotten() -> None:
    graph = ModelGraph([spec("a", limits=LIMITS)])
    place = FakeInvoke({"a": [quick_down() for _ in range(40)]})
    policies = Policies(lambda: graph, lambda name, call: True, lambda start, end: None, max_attempts=6)
    built = compose(place, policies)

    async def attempts() -> int:
        with pytest.raises(NodeUnavailable) as caught:
            await deltas_of(built.invoke, chat())
        return caught.value.attempts

    assert [await attempts() for _ in range(6)] == [2, 2, 2, 2, 2, 0]
    built.forget("a")
    assert await attempts() == 2
