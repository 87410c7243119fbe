"""What the orchestrator decides, with next to nothing around it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes import KINDS, chat, recording, spec
from opentelemetry.trace import INVALID_SPAN

from deployments.orchestrator import AUTO, PLAN, Orchestrator
from deployments.snapshot import NodeStatus, Snapshot
from graph.collect import collect
from graph.errors import InvalidRequest, NodeNotFound, Overloaded, StreamBroken, UnsupportedParameter
from graph.run import RunEvent
from graph.spec import NodeSpec
from graph.types import Call, Message

LAW = spec("law")


def snapshot(number: int, *specs: NodeSpec, state: str = "ready") -> Snapshot:
    serving = state == "ready"
    return Snapshot(
        number,
        {s.name: NodeStatus(s.name, 1, s, state, s if serving else None) for s in specs},  # type: ignore[arg-type]
    )


class Around:
    """An orchestrator with nothing around it but a snapshot."""

    def __init__(self, first: Snapshot) -> None:
        self.now = first

        class _NoRouter:
            strategy = "none"

        class _NoPlanner:
            name = "none"

        self.orchestrator = Orchestrator(
            kinds=KINDS,
            snapshot=lambda: self.now,
            router=_NoRouter(),  # type: ignore[arg-type]
            planner=_NoPlanner(),  # type: ignore[arg-type]
            invoke=lambda node, call: _nothing(),
            on_routed=lambda *_: None,
        )


async def _nothing() -> AsyncIterator[None]:  # type: ignore[misc]
    return
    yield


def test_exclusions_follow_the_snapshot_even_if_its_number_comes_again() -> None:
    around = Around(snapshot(1, LAW, state="loading"))
    assert around.orchestrator.excluded(chat()) == {"law": "is loading"}
    around.now = snapshot(1, LAW)
    assert around.orchestrator.excluded(chat()) == {}
    tools = chat(params={"tools": [1], "seed": 1})
    assert around.orchestrator.excluded(tools) == {"law": "does not support seed, tools"}
    assert around.orchestrator.excluded(Call(operation="embeddings"))["law"].startswith("does not do embeddings")


def test_a_fallback_must_be_able_to_take_the_call() -> None:
    usable = Around(snapshot(1, LAW)).orchestrator.usable
    assert usable("law", chat())
    assert not usable("law", chat(params={"tools": [1]}))
    assert not usable("law", Call((Message("user", (recording(),)),)))
    assert not usable("nobody", chat())


def test_a_named_node_must_be_able_to_take_the_call() -> None:
    require = Around(snapshot(1, LAW)).orchestrator.require
    require("law", chat())
    with pytest.raises(NodeNotFound):
        require("nobody", chat())
    with pytest.raises(UnsupportedParameter) as caught:
        require("law", chat(params={"tools": [1]}))
    assert caught.value.param == "tools"
    with pytest.raises(InvalidRequest, match="audio"):
        require("law", Call((Message("user", (recording(),)),)))


class Restarted:
    """Runs of which one is begun anew by another process after a part of its answer was read."""

    cancelled = ""

    async def start(self, call: Call, plan: object, *, span: object) -> str:
        return "run_1"

    async def events(self, id: str) -> AsyncIterator[tuple[int, RunEvent]]:
        for number, data in enumerate(({"text": "half"}, {"text": "", "reset": True}, {"text": "whole"}), 1):
            yield number, RunEvent("output.delta", data)
        yield 4, RunEvent("run.finished", {"status": "failed", "error": {"message": "m", "code": "stream_broken"}})

    async def cancel(self, id: str) -> None:
        self.cancelled = id


async def test_a_streaming_caller_of_a_run_that_begins_anew_gets_an_error() -> None:
    around = Around(snapshot(1, LAW))
    runs = around.orchestrator.runs = Restarted()  # type: ignore[assignment]
    answer = await around.orchestrator.answer(chat(stream=True), PLAN, INVALID_SPAN)
    with pytest.raises(StreamBroken, match="begun anew"):
        await collect(answer.deltas, node=PLAN)
    assert runs.cancelled == "run_1"  # type: ignore[attr-defined]


async def test_a_caller_of_a_whole_answer_does_not_notice() -> None:
    around = Around(snapshot(1, LAW))
    around.orchestrator.runs = Restarted()  # type: ignore[assignment]
    answer = await around.orchestrator.answer(chat(), PLAN, INVALID_SPAN)
    texts = []
    with pytest.raises(StreamBroken, match="m"):
        async for delta in answer.deltas:
            texts.append((delta.text, delta.reset))  # noqa: PERF401  # what came before the error is kept
    assert texts == [("half", False), ("", True), ("whole", False)]


async def test_a_gateway_that_does_not_know_its_nodes_says_that_it_is_starting() -> None:
    orchestrator = Around(Snapshot()).orchestrator
    for model in (AUTO, PLAN, "law"):
        with pytest.raises(Overloaded, match="starting"):
            await orchestrator.answer(chat(), model, INVALID_SPAN)
    with pytest.raises(Overloaded, match="starting"):
        await orchestrator.plan(chat())
