"""Goes on from a plan of which a part failed: finished tasks stay, and a new plan takes the place of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any

from graph.expressions.parser import Expression
from graph.plan import Plan
from graph.run import Outcome
from graph.task import Task
from graph.types import Call, Message, NodeName
from graph.values import Ref, Value

MAX_ID = 56
"""Characters of an id that its successor keeps."""
MAX_KNOWN = 600
"""Characters of one output that the planner is shown."""
FINAL = frozenset({"budget_exceeded", "deadline_exceeded"})
"""Failures that no other plan mends."""


def unhandled(plan: Plan, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Return the failures that the plan has no answer to: no task that looks at them has succeeded."""
    ended = {outcome.task: outcome for outcome in outcomes}
    looked_at = {
        need
        for task in plan.tasks
        if ended[task.id].status == "ok" and not task.composes
        for need in task.needs - task.requires
    }
    failed = (o for o in outcomes if o.status == "failed" and o.task not in looked_at)
    return tuple(o for o in failed if (o.error or {}).get("code") not in FINAL and not plan.task(o.task).composes)


def knowing(call: Call, plan: Plan, outcomes: Sequence[Outcome]) -> Call:
    """Return the request as a planner gets it the next time: with what is known, before what is asked."""
    lines = []
    for outcome in outcomes:
        if outcome.status == "ok" and outcome.reply:
            lines.append(f"[{outcome.task}] {outcome.node} gave: {outcome.reply.text[:MAX_KNOWN]}")
        elif outcome.status == "failed":
            lines.append(
                f"[{outcome.task}] {plan.task(outcome.task).node} failed: {(outcome.error or {}).get('message')}"
            )
    known = Message("assistant", "What is known so far:\n" + "\n".join(lines))
    asked = max((i for i, message in enumerate(call.messages) if message.role == "user"), default=0)
    return replace(call, messages=(*call.messages[:asked], known, *call.messages[asked:]))


def merged(plan: Plan, outcomes: Sequence[Outcome], made: Plan) -> Plan:
    """Return the plan that goes on: what is finished, and of the new plan what is not finished yet.

    A new task that calls the same node with the same arguments as a finished one is that one. Others get ids that the
    old plan lacks, so that outcomes are never mistaken for each other's.
    """
    ok = {outcome.task for outcome in outcomes if outcome.status == "ok"}
    kept = [task for task in plan.tasks if task.id in ok and not task.composes and task.needs <= ok]
    taken = {task.id for task in plan.tasks}
    name = next(f"_r{n}" for n in range(1, len(taken) + 2) if not any(id.endswith(f"_r{n}") for id in taken))
    by_id = {task.id: task for task in made.tasks}
    ids: dict[str, str] = {}
    new: list[Task] = []
    for id in TopologicalSorter({task.id: task.needs for task in made.tasks}).static_order():
        task = _renamed(by_id[id], ids)
        same = next((old for old in kept if replace(old, id=id) == task), None)
        if same is None:
            ids[id] = f"{id[:MAX_ID]}{name}"
            new.append(replace(task, id=ids[id]))
        else:
            ids[id] = same.id
    here = {task.id for task in kept} | {task.id for task in new}
    shown = [id for id in plan.shown if id in here] + [ids[id] for id in made.shown]
    tasks = (*kept, *sorted(new, key=lambda task: [*ids.values()].index(task.id)))
    writers = [task for task in plan.tasks if task.composes]
    template = plan.template if plan.template and plan.template.sources <= here | {"request"} else None
    whole = Plan(
        tasks,
        ids[made.output],
        made.planner,
        made.missing,
        tuple(dict.fromkeys(shown)),
        plan.budget,
        plan.replan - 1,
        template,
    )
    for writer in writers:
        again = replace(writer, id=f"{writer.id[:MAX_ID]}{name}", composes=tuple(task.id for task in whole.tasks))
        whole = replace(whole, tasks=(*whole.tasks, again), output=again.id, answer=(again.id,))
    return whole


def to_avoid(plan: Plan, failures: Sequence[Outcome]) -> frozenset[NodeName]:
    """Return the nodes that did not do what was planned of them."""
    return frozenset(plan.task(outcome.task).node for outcome in failures)


def _renamed(task: Task, ids: Mapping[str, str]) -> Task:
    """Return a task whose references and expressions follow the new ids."""
    names = {old: new for old, new in ids.items() if old != new and old not in task.locals}
    if not names:
        return task
    return replace(
        task,
        arguments=_replaced(task.arguments, names),
        when=_replaced(task.when, names),
        map=replace(task.map, over=_replaced(task.map.over, names)) if task.map else None,
        repeat=replace(task.repeat, until=_replaced(task.repeat.until, names)) if task.repeat else None,
        expect=_replaced(task.expect, names),
        composes=tuple(names.get(id, id) for id in task.composes),
    )


def _replaced(value: Value, names: Mapping[str, str]) -> Any:
    if isinstance(value, Ref):
        return Ref(names.get(value.task, value.task), value.path)
    if isinstance(value, Expression):
        return value.renamed(names)
    if isinstance(value, Mapping):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(item, names) for item in value]
    return value
