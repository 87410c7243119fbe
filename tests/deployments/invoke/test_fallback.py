"""The way along `fallback` edges."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fakes import FakeInvoke, Step, answer, chat, spec
from invoke_parts import deltas_of, text_of

from deployments.invoke.fallback import falling_back
from graph.errors import (
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelyardError,
    NodeNotFound,
    NodeRejected,
    NodeUnavailable,
    StreamBroken,
    UnsupportedParameter,
)
from graph.model_graph import ModelGraph
from graph.node import Invoke

DOWN = "down"


def node(name: str, *fallback: str, window: int | None = None) -> Any:
    return spec(name, edges={"fallback": fallback}, context_window=window)


class Service:
    """A graph, scripts, and what was noted."""

    def __init__(self, *specs: Any, unusable: tuple[str, ...] = (), most: int = 6, **scripts: list[Step] | str) -> None:
        self.place = FakeInvoke({n: [[NodeUnavailable(n)] if s == DOWN else s] for n, s in scripts.items()})  # type: ignore[list-item]
        self.went: list[tuple[str, str]] = []
        graph = ModelGraph(specs)
        self.invoke: Invoke = falling_back(
            self.place,
            lambda: graph,
            lambda name, call: name not in unusable,
            max_attempts=most,
            on_fallback=lambda start, end: self.went.append((start, end)),
        )


async def test_the_next_node_answers_and_is_named() -> None:
    service = Service(node("a", "b"), node("b"), a=DOWN, b=answer("from b"))
    deltas = await deltas_of(service.invoke, chat())
    assert text_of(deltas) == "from b"
    assert {delta.node for delta in deltas} == {"b"}
    assert deltas[-1].attempt == 2
    assert service.went == [("a", "b")]


async def test_a_name_that_the_node_itself_gives_stays() -> None:
    from graph.types import Delta

    service = Service(node("a"), a=[Delta(text="x", node="inner", finish_reason="stop")])
    assert (await deltas_of(service.invoke, chat()))[0].node == "inner"


async def test_edges_are_followed_in_order_nearer_ones_first() -> None:
    service = Service(
        node("a", "b", "c"), node("b", "d"), node("c", "e"), node("d"), node("e"),
        a=DOWN, b=DOWN, c=DOWN, d=DOWN, e=answer("at last"),
    )  # fmt: skip
    await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a", "b", "c", "d", "e"]


async def test_a_cycle_of_fallbacks_ends() -> None:
    service = Service(node("a", "b"), node("b", "a"), a=DOWN, b=DOWN)
    with pytest.raises(NodeUnavailable, match="a"):
        await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a", "b"]


async def test_nodes_that_cannot_take_the_call_are_passed_over() -> None:
    service = Service(node("a", "b", "c"), node("b"), node("c"), unusable=("b",), a=DOWN, c=answer("c"))
    await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a", "c"]


async def test_the_first_error_is_the_one_that_is_raised() -> None:
    service = Service(node("a", "b"), node("b"), a=[StreamBroken("first")], b=[NodeRejected("no prefill", status=404)])
    with pytest.raises(StreamBroken, match="first") as caught:
        await deltas_of(service.invoke, chat())
    assert caught.value.attempts == 2


async def test_a_request_that_is_too_long_goes_only_to_larger_contexts() -> None:
    service = Service(
        node("a", "small", "same", "large", window=4096), node("small", window=2048), node("same", window=4096),
        node("large", window=8192), a=[ContextTooLong("long")], large=answer("fits"),
    )  # fmt: skip
    await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a", "large"]


@pytest.mark.parametrize(
    ("windows", "asked"),
    [((4096, None), ["a", "b"]), ((None, 4096), ["a", "b"]), ((None, None), ["a", "b"]), ((4096, 4096), ["a"])],
    ids=str,
)
async def test_a_context_of_unknown_size_may_be_the_larger_one(
    windows: tuple[int | None, int | None], asked: list[str]
) -> None:
    service = Service(
        node("a", "b", window=windows[0]),
        node("b", window=windows[1]),
        a=[ContextTooLong("a")],
        b=[ContextTooLong("b")],
    )
    with pytest.raises(ContextTooLong, match="a"):
        await deltas_of(service.invoke, chat())
    assert service.place.asked() == asked


async def test_nodes_that_were_ahead_are_passed_over_too_when_the_request_is_too_long() -> None:
    service = Service(
        node("a", "b", "small"), node("b", window=4096), node("small", window=2048), a=DOWN, b=[ContextTooLong("long")]
    )
    with pytest.raises(NodeUnavailable):
        await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a", "b"]


@pytest.mark.parametrize(
    "error",
    [
        ContentRefused("policy"),
        InvalidRequest("wrong"),
        UnsupportedParameter("no tools"),
        NodeRejected("bad", status=400),
        NodeRejected("large", status=413),
        NodeRejected("odd", status=422),
        DeadlineExceeded("deadline", 1),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'status', '')}",
)
async def test_what_any_node_would_refuse_goes_nowhere(error: ModelyardError) -> None:
    service = Service(node("a", "b"), node("b"), a=[error], b=answer("never"))
    with pytest.raises(type(error)):
        await deltas_of(service.invoke, chat())
    assert service.place.asked() == ["a"]


@pytest.mark.parametrize(
    "error",
    [NodeRejected("key", status=401), DeadlineExceeded("first_token", 1), StreamBroken("cut"), NodeNotFound("loading")],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_this_nodes_own_trouble_goes_on(error: ModelyardError) -> None:
    service = Service(node("a", "b"), node("b"), a=[error], b=answer("well"))
    assert text_of(await deltas_of(service.invoke, chat())) == "well"


async def test_nothing_is_begun_after_the_callers_deadline() -> None:
    service = Service(node("a", "b"), node("b"), a=[0.03, NodeUnavailable("down")], b=answer("never"))
    with pytest.raises(NodeUnavailable):
        await deltas_of(service.invoke, chat().with_context(deadline=time.time() + 0.01))
    assert service.place.asked() == ["a"]


async def test_attempts_over_all_nodes_are_capped() -> None:
    names = [f"n{index}" for index in range(9)]
    specs = [node(name, *names[index + 1 : index + 2]) for index, name in enumerate(names)]
    service = Service(*specs, most=4, **dict.fromkeys(names, DOWN))
    with pytest.raises(NodeUnavailable) as caught:
        await deltas_of(service.invoke, chat(), "n0")
    assert (service.place.asked(), caught.value.attempts) == (names[:4], 4)
    assert [call.context.attempts for _, call in service.place.calls] == [4, 3, 2, 1]


async def test_the_calls_own_budget_counts_before_the_services() -> None:
    service = Service(node("a", "b"), node("b"), a=DOWN, b=answer("never"))
    with pytest.raises(NodeUnavailable):
        await deltas_of(service.invoke, chat().with_context(attempts=1))


async def test_after_the_first_token_a_streaming_caller_gets_the_error() -> None:
    service = Service(node("a", "b"), node("b"), a=["half ", StreamBroken("cut")], b=answer("never"))
    with pytest.raises(StreamBroken):
        await deltas_of(service.invoke, chat(stream=True))
    assert service.place.asked() == ["a"]


async def test_a_caller_who_takes_resets_is_told_to_forget() -> None:
    service = Service(node("a", "b"), node("b"), a=["half ", StreamBroken("cut")], b=answer("the whole"))
    deltas = await deltas_of(service.invoke, chat(stream=True, resets=True))
    assert (text_of(deltas), sum(delta.reset for delta in deltas)) == ("the whole", 1)
