"""Running a plan: order, failures, limits, resuming, and invariants under random plans and random trouble."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import DONE, HANG, FakeInvoke, Step, answer, chat, spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.errors import NodeUnavailable
from graph.executor import ExecutionLimits, execute
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import Plan, Ref, Task
from graph.run import Outcome, RunEvent, RunResult
from graph.types import Call, Delta, Reply, text_payload


def task(id: str, *needs: str) -> Task:
    """A task on a node of its own name."""
    return Task(id, id, {"prompt": f"do {id}", "context": [Ref(need) for need in needs]})


def outcome_of(result: RunResult, task: str) -> Outcome:
    return next(outcome for outcome in result.outcomes if outcome.task == task)


def plan_of(*tasks: Task) -> Plan:
    return Plan(tasks, tasks[-1].id)


@dataclass
class Run:
    """Executes a plan and keeps what it said."""

    plan: Plan
    invoke: Invoke
    request: Call = field(default_factory=lambda: chat("the request"))
    events: list[RunEvent] = field(default_factory=list)

    async def __call__(self, **more: Any) -> RunResult:
        graph = ModelGraph(spec(name) for name in {task.node for task in self.plan.tasks})
        return await execute(self.plan, self.invoke, graph=graph, request=self.request, on_event=self._note, **more)

    async def _note(self, event: RunEvent) -> None:
        self.events.append(event)
        await asyncio.sleep(0)

    def types(self, task: str) -> list[str]:
        return [event.type for event in self.events if event.data.get("task") == task]

    def streamed(self) -> str:
        """The answer as a client that follows the events has it."""
        text = ""
        for event in self.events:
            if event.type == "output.delta":
                text = event.data["text"] if event.data.get("reset") else text + event.data["text"]
        return text


def down(message: str = "down") -> NodeUnavailable:
    return NodeUnavailable(message)


async def test_outputs_flow_along_the_references() -> None:
    invoke = FakeInvoke({"a": [answer("from a")], "b": [answer("from b")]})
    run = Run(plan_of(task("a"), task("b", "a")), invoke)
    result = await run()
    assert (result.status, result.output) == ("ok", "from b")
    assert invoke.calls[1][1].text == "from a\n\ndo b"
    assert [outcome.task for outcome in result.outcomes] == ["a", "b"]
    assert run.types("a") == ["task.started", "task.delta", "task.delta", "task.finished"]
    assert run.events[-1].type == "run.finished"


async def test_independent_tasks_run_at_the_same_time_within_the_limit() -> None:
    names = [f"t{index}" for index in range(6)]
    invoke = FakeInvoke({name: [[0.01, *answer(name)]] for name in names})
    await Run(plan_of(*map(task, names)), invoke)()
    assert invoke.most == 6
    invoke = FakeInvoke({name: [[0.01, *answer(name)]] for name in names})
    await Run(plan_of(*map(task, names)), invoke)(limits=ExecutionLimits(parallel=2))
    assert invoke.most == 2


async def test_a_failure_skips_what_needs_it_and_nothing_else() -> None:
    invoke = FakeInvoke({"a": [[down("no power")]], "b": [answer("b")], "c": [answer("c")], "d": [answer("d")]})
    run = Run(plan_of(task("a"), task("b", "a"), task("c", "b"), task("d")), invoke)
    result = await run()
    assert [outcome.status for outcome in result.outcomes] == ["failed", "skipped", "skipped", "ok"]
    assert (result.status, invoke.asked()) == ("partial", ["a", "d"])
    assert outcome_of(result, "b").error == {"message": "needs a, which did not succeed", "code": "dependency_failed"}
    assert run.types("b") == ["task.skipped"]
    assert "no power" in result.output and "d: do d" in result.output


async def test_a_run_in_which_nothing_succeeds_has_failed() -> None:
    assert (await Run(plan_of(task("a")), FakeInvoke({"a": [[down()]]}))()).status == "failed"


async def test_a_stream_without_a_finish_is_a_failed_task() -> None:
    result = await Run(plan_of(task("a")), FakeInvoke({"a": [["half"]]}))()
    assert (outcome_of(result, "a").error or {})["code"] == "stream_broken"


async def test_a_reference_to_nothing_fails_its_task_only() -> None:
    wrong = Task("b", "b", {"prompt": Ref("a", ("city",))})
    invoke = FakeInvoke({"a": [answer("plain text")], "b": [answer("never")]})
    result = await Run(Plan((task("a"), wrong), "b"), invoke)()
    assert (result.status, outcome_of(result, "b").status) == ("partial", "failed")


async def test_a_hanging_task_ends_with_the_runs_limit() -> None:
    invoke = FakeInvoke({"a": [["half", HANG]], "b": [answer("b")]})
    result = await Run(plan_of(task("a"), task("b")), invoke)(limits=ExecutionLimits(total_s=0.05))
    assert (outcome_of(result, "a").error or {})["code"] == "deadline_exceeded"
    assert (outcome_of(result, "b").status, sorted(invoke.closed)) == ("ok", ["a", "b"])


async def test_the_callers_deadline_counts_when_it_is_nearer_and_reaches_the_nodes() -> None:
    deadline = time.time() + 100
    invoke = FakeInvoke({"a": [answer("a")]})
    await Run(plan_of(task("a")), invoke, chat().with_context(deadline=deadline))()
    assert invoke.calls[0][1].context.deadline == deadline


async def test_nothing_is_asked_after_the_deadline() -> None:
    invoke = FakeInvoke({"a": [answer("a")]})
    result = await Run(plan_of(task("a")), invoke, chat().with_context(deadline=time.time() - 1))()
    assert ((outcome_of(result, "a").error or {})["code"], invoke.calls) == ("deadline_exceeded", [])


async def test_cancelling_closes_every_stream() -> None:
    invoke = FakeInvoke({"a": [[HANG]], "b": [["x", HANG]]})
    work = asyncio.create_task(Run(plan_of(task("a"), task("b")), invoke)())
    await asyncio.sleep(0.02)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (invoke.running, sorted(invoke.closed)) == (0, ["a", "b"])


async def test_a_bug_ends_the_run_and_the_other_tasks() -> None:
    invoke = FakeInvoke({"a": [[RuntimeError("bug")]], "b": [[HANG]]})
    with pytest.raises(ExceptionGroup):
        await Run(plan_of(task("a"), task("b")), invoke)()
    assert invoke.running == 0


async def test_only_tasks_whose_text_nobody_has_read_may_begin_anew() -> None:
    invoke = FakeInvoke({"a": [answer("a")], "b": [answer("b")]})
    plan = plan_of(task("a"), task("b", "a"))
    await Run(plan, invoke)()
    assert {node: call.resets for node, call in invoke.calls} == {"a": True, "b": False}
    invoke.calls.clear()
    await Run(plan, invoke, chat(resets=True))()
    assert all(call.resets for _, call in invoke.calls)


async def test_a_reset_voids_what_was_said() -> None:
    again: list[Step] = ["half ", Delta(reset=True), "the whole", DONE]
    run = Run(plan_of(task("a")), FakeInvoke({"a": [again]}), chat(resets=True))
    result = await run()
    assert result.output == run.streamed() == "the whole"


def ended(id: str, text: str) -> Outcome:
    return Outcome(id, id, "ok", Reply(text_payload(text), None, "stop", id, id), None, 1, 1.0, 2.0)


async def test_a_resumed_run_neither_repeats_nor_reports_what_was_done() -> None:
    invoke = FakeInvoke({"b": [answer("new b")], "c": [answer("new c")]})
    run = Run(plan_of(task("a"), task("b", "a"), task("c")), invoke)
    done = [ended("a", "old a"), Outcome("c", "c", "failed", error={"message": "crashed"})]
    result = await run(done=done)
    assert (result.status, sorted(invoke.asked())) == ("ok", ["b", "c"])
    assert invoke.calls[invoke.asked().index("b")][1].text == "old a\n\ndo b"
    assert run.types("a") == []
    assert (run.events[0].type, dict(run.events[0].data)) == ("output.delta", {"text": "", "reset": True})
    assert result.output == run.streamed()


async def test_a_run_resumed_at_its_end_gives_the_whole_answer() -> None:
    run = Run(plan_of(task("a"), task("b")), FakeInvoke({}))
    result = await run(done=[ended("a", "one"), ended("b", "two")])
    assert result.output == run.streamed() == "### a: do a\n\none\n\n### b: do b\n\ntwo"
    assert {event.type for event in run.events} == {"output.delta", "run.finished"}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A random DAG of up to eight tasks, in random order."""
    count = draw(st.integers(1, 8))
    ids = [f"t{index}" for index in range(count)]
    made = []
    for index, id in enumerate(ids):
        needs = draw(st.sets(st.sampled_from(ids[:index]), max_size=3)) if index else set()
        made.append(task(id, *sorted(needs)))
    return Plan(tuple(draw(st.permutations(made))), ids[-1])


WORDS = st.text("ab \n#", max_size=4)


@st.composite
def troubles(draw: st.DrawFn) -> list[Step]:
    """One node's behaviour: words, delays, new beginnings, and an end that may be bad."""
    steps: list[Step] = draw(
        st.lists(st.one_of(WORDS, st.just(0.0), st.just(0.001), st.builds(Delta, reset=st.just(True))), max_size=6)
    )
    if steps and draw(st.booleans()):
        steps.append(Delta(payload=text_payload(draw(WORDS))))
    return [*steps, *draw(st.sampled_from([[DONE], [DONE], [down()], []]))]


async def followed(plan: Plan, scripts: dict[str, list[Step]], parallel: int, stop_s: float | None) -> None:
    invoke = FakeInvoke({id: [steps] for id, steps in scripts.items()})
    run = Run(plan, invoke, chat(resets=True))
    work = asyncio.create_task(run(limits=ExecutionLimits(parallel=parallel)))
    if stop_s is not None:
        await asyncio.sleep(stop_s)
        work.cancel()
    await asyncio.wait([work])
    asked = invoke.asked()
    assert len(asked) == len(set(asked)), "each task runs at most once"
    assert invoke.running == 0, "nothing is left behind"
    assert invoke.most <= parallel
    seen = [(event.type, event.data.get("task")) for event in run.events]
    for each in plan.tasks:
        if ("task.started", each.id) in seen:
            for need in each.needs:
                assert seen.index(("task.finished", need)) < seen.index(("task.started", each.id))
    if work.cancelled():
        # Cancelled while its last event was being told, a run has finished all the same.
        assert all(kind != "run.finished" for kind, _ in seen[:-1])
        return
    consistent(run, work.result())


def consistent(run: Run, result: RunResult) -> None:
    """What must hold of every run that came to its end."""
    status = {outcome.task: outcome.status for outcome in result.outcomes}
    for each in run.plan.tasks:
        lost = any(status[need] != "ok" for need in each.needs)
        assert (status[each.id] == "skipped") == lost
        order = run.types(each.id)
        assert order == ["task.skipped"] if lost else order[0] == "task.started" and order[-1] == "task.finished"
        assert order.count("task.started") + order.count("task.skipped") == 1
    good = sum(value == "ok" for value in status.values())
    assert result.status == ("ok" if good == len(status) else "partial" if good else "failed")
    assert run.streamed() == result.output
    assert [event.type for event in run.events].index("run.finished") == len(run.events) - 1
    missing = [id for id, value in status.items() if value != "ok"]
    assert ("Missing from this answer" in result.output) == bool(missing)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plans().flatmap(lambda p: st.tuples(st.just(p), st.fixed_dictionaries({t.id: troubles() for t in p.tasks}))),
    st.integers(1, 4),
    st.none() | st.floats(0, 0.004),
)
def test_invariants_hold_for_any_plan_and_any_trouble(
    planned: tuple[Plan, dict[str, list[Step]]], parallel: int, stop_s: float | None
) -> None:
    plan, scripts = planned
    asyncio.run(followed(plan, scripts, parallel, stop_s))


@settings(max_examples=30, deadline=None)
@given(plans(), st.data())
def test_a_resumed_run_ends_like_an_uninterrupted_one(plan: Plan, data: st.DataObject) -> None:
    whole = asyncio.run(Run(plan, FakeInvoke({t.id: [answer(f"of {t.id}")] for t in plan.tasks}))())
    done = data.draw(st.sets(st.sampled_from([t.id for t in plan.tasks])))
    invoke = FakeInvoke({t.id: [answer(f"of {t.id}")] for t in plan.tasks})
    run = Run(plan, invoke)
    resumed = asyncio.run(run(done=[outcome_of(whole, id) for id in sorted(done)]))
    assert (resumed.output, resumed.status) == (whole.output, whole.status)
    assert set(invoke.asked()) == {t.id for t in plan.tasks} - done
    assert run.streamed() == resumed.output


@given(plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    import json

    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))).tasks == plan.tasks
