"""What holds of every run: random plans of every form, failures, timeouts, budgets, cancellation, interruptions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fakes import chat, spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.errors import NodeUnavailable
from graph.executor import ExecutionLimits, execute
from graph.model_graph import ModelGraph
from graph.plan import Plan
from graph.run import Outcome, RunEvent, RunResult
from graph.types import Call, Delta, Usage

GRAPH = ModelGraph([spec("n")])
FAILS, HANGS = "!", "~"
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def plans(draw: st.DrawFn, hangs: bool = False) -> Plan:
    """A random plan; a prompt says what becomes of its call."""
    words = st.sampled_from(["a", "b", f"c{FAILS}", *([f"d{HANGS}"] if hangs else [])])
    tasks: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 6))):
        before = [task["id"] for task in tasks]
        task: dict[str, Any] = {"id": f"t{index}", "node": "n", "arguments": {"prompt": draw(words)}}
        needs = draw(st.sets(st.sampled_from(before), max_size=2)) if before else set()
        if needs:
            task["arguments"]["context"] = [{"$ref": need} for need in sorted(needs)]
        if before and draw(st.booleans()):
            seen = draw(st.sampled_from(before))
            conditions = [f"status({seen}) == 'ok'", f"status({seen}) != 'ok'", f"has({seen})"]
            task["when"] = draw(st.sampled_from(conditions))
        form = draw(st.sampled_from(["plain", "plain", "map", "repeat", "expect"]))
        if form == "map":
            over = draw(st.lists(words, max_size=4))
            task |= {"map": {"over": over, "parallel": draw(st.integers(1, 3))}}
            task["arguments"]["prompt"] = {"$ref": "item"}
        elif form == "repeat":
            task["repeat"] = {"until": f"index >= {draw(st.integers(0, 2))}", "max": draw(st.integers(1, 3))}
        elif form == "expect":
            task["expect"] = draw(st.sampled_from(["size(output) > 0", "output == 'nothing'"]))
        tasks.append(task)
    return Plan.from_json({"tasks": draw(st.permutations(tasks))})


@dataclass
class Nodes:
    """An `Invoke` that does what the prompt says, and counts."""

    texts: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def __call__(self, node: str, call: Call) -> AsyncIterator[Delta]:
        self.texts.append(call.text)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            word = call.text.rpartition("\n")[2]
            if HANGS in word:
                await asyncio.Event().wait()
            if FAILS in word:
                raise NodeUnavailable("down")
            yield Delta(text=word)
            await asyncio.sleep(0)
            yield Delta(usage=Usage(1, 1), finish_reason="stop")
        finally:
            self.running -= 1


@dataclass
class Run:
    """One execution with its events."""

    plan: Plan
    nodes: Nodes = field(default_factory=Nodes)
    events: list[RunEvent] = field(default_factory=list)

    async def __call__(self, **more: Any) -> RunResult:
        request = chat("the request", resets=True)
        return await execute(self.plan, self.nodes, graph=GRAPH, request=request, on_event=self._note, **more)

    async def _note(self, event: RunEvent) -> None:
        self.events.append(event)
        await asyncio.sleep(0)

    def in_order(self) -> None:
        """Every task is begun and ended once, after all that it needs."""
        ended: list[str] = []
        begun = Counter(event.data["task"] for event in self.events if event.type == "task.started")
        assert max(begun.values(), default=1) == 1
        for event in self.events:
            if event.type in ("task.started", "task.skipped"):
                assert self.plan.task(event.data["task"]).needs <= set(ended)
            if event.type in ("task.finished", "task.skipped"):
                ended.append(event.data["task"])
        assert len(ended) == len(set(ended))

    def streamed(self) -> str:
        text = ""
        for event in self.events:
            if event.type == "output.delta":
                text = event.data["text"] if event.data.get("reset") else text + event.data["text"]
        return text


def status_by_rule(plan: Plan) -> dict[str, str]:
    """Work out how each task must end, one after the other, from the plan alone."""
    found: dict[str, str] = {}
    tasks = sorted(plan.tasks, key=lambda task: int(task.id[1:]))
    for task in tasks:
        prompt = task.arguments["prompt"]
        if any(found[need] != "ok" for need in task.requires):
            found[task.id] = "skipped"
            continue
        if task.when is not None:
            seen = next(iter(task.when.sources))
            wanted = found[seen] != "ok" if "!=" in task.when.text else found[seen] == "ok"
            if not wanted:
                found[task.id] = "skipped"
                continue
        if task.map:
            bad = sum(FAILS in item for item in task.map.over)
            found[task.id] = "failed" if bad and bad == len(task.map.over) else "ok"
        elif FAILS in prompt or (task.expect and "nothing" in task.expect.text):
            found[task.id] = "failed"
        else:
            found[task.id] = "ok"
    return found


def outputs(result: RunResult) -> dict[str, Any]:
    return {o.task: o.reply.payload.value if o.reply and o.status == "ok" else None for o in result.outcomes}


@QUICK
@given(plans(), st.integers(1, 5))
def test_every_task_ends_as_the_plan_says(plan: Plan, parallel: int) -> None:
    run = Run(plan)
    result = asyncio.run(run(limits=ExecutionLimits(parallel=parallel)))
    run.in_order()
    assert {outcome.task: outcome.status for outcome in result.outcomes} == status_by_rule(plan)
    assert (run.nodes.running, run.nodes.most <= parallel) == (0, True)
    assert run.streamed() == result.output
    for task, outcome in zip(plan.tasks, result.outcomes, strict=True):
        value = outputs(result)[task.id]
        if task.map and value is not None:
            assert value == [None if FAILS in item else item for item in task.map.over]
            assert [part.index for part in outcome.parts] == list(range(len(task.map.over)))
        if task.repeat:
            assert len(outcome.parts) <= task.repeat.max
    counted = [outcome for outcome in result.outcomes if not outcome.unneeded]
    whole = all(outcome.whole for outcome in counted)
    some = any(outcome.status == "ok" for outcome in counted)
    assert result.status == ("ok" if whole else "partial" if some else "failed")
    assert ("Missing from this answer" in result.output) == (not whole)


@QUICK
@given(plans(), st.integers(1, 6), st.integers(1, 5))
def test_no_more_is_asked_than_the_budget_allows(plan: Plan, calls: int, parallel: int) -> None:
    limited = Plan.from_json(plan.to_json() | {"budget": {"calls": calls}})
    free, run = Run(plan), Run(limited)
    asyncio.run(free())
    result = asyncio.run(run(limits=ExecutionLimits(parallel=parallel)))
    assert len(run.nodes.texts) <= min(calls, len(free.nodes.texts))
    run.in_order()
    if len(free.nodes.texts) > calls:
        assert result.status in ("partial", "failed")
        errors = [part.error or {} for o in result.outcomes for part in (o, *o.parts)]
        assert "budget_exceeded" in {error.get("code") for error in errors}


@QUICK
@given(plans(hangs=True), st.integers(1, 4), st.none() | st.floats(0, 0.004))
def test_a_run_that_is_late_or_cancelled_leaves_nothing_behind(plan: Plan, parallel: int, stop_s: float | None) -> None:
    async def follow() -> None:
        run = Run(plan)
        work = asyncio.create_task(run(limits=ExecutionLimits(parallel=parallel, total_s=0.02)))
        if stop_s is not None:
            await asyncio.sleep(stop_s)
            work.cancel()
        await asyncio.wait([work], timeout=20)
        assert work.done()
        assert run.nodes.running == 0
        run.in_order()
        if not work.cancelled():
            assert len(work.result().outcomes) == len(plan.tasks)
            assert run.streamed() == work.result().output

    asyncio.run(follow())


@QUICK
@given(plans(), st.data())
def test_a_run_that_was_interrupted_anywhere_ends_like_a_whole_one(plan: Plan, data: st.DataObject) -> None:
    first = Run(plan)
    whole = asyncio.run(first())
    journal = [event.outcome for event in first.events if event.outcome is not None]
    kept = journal[: data.draw(st.integers(0, len(journal)))]
    again = Run(plan)
    resumed = asyncio.run(again(done=[Outcome.from_record(outcome.to_record()) for outcome in kept]))
    assert (resumed.status, outputs(resumed)) == (whole.status, outputs(whole))
    assert again.streamed() == resumed.output
    done = Counter(outcome.task for outcome in kept if outcome.status == "ok" and (outcome.index is not None))
    done += Counter(o.task for o in kept if o.status == "ok" and o.index is None and not plan.task(o.task).map
                    and not plan.task(o.task).repeat)  # fmt: skip
    assert len(again.nodes.texts) <= len(first.nodes.texts) - sum(done.values())
