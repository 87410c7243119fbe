"""A plan: a DAG of tasks, each a call to one node, validated when it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from graph.budget import Budget
from graph.errors import InvalidPlan, Problem
from graph.task import Task as Task
from graph.task_form import TaskForm
from graph.template import Template
from graph.types import Json
from graph.values import REQUEST as REQUEST
from graph.values import Ref as Ref
from graph.values import Value as Value
from graph.values import brief
from graph.values import from_refs as from_refs
from graph.values import references as references
from graph.values import to_refs as to_refs

MAX_TASKS = 1000
MAX_REPLANS = 5
KEYS = ("tasks", "output", "planner", "answer", "budget", "replan", "template")
_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks and the one whose output answers the request. Raises `InvalidPlan` when built wrong."""

    tasks: tuple[Task, ...]
    output: str
    planner: str = "given"
    missing: tuple[str, ...] = ()
    """Questions to the caller: what the request lacks for some task."""
    answer: tuple[str, ...] = ()
    """Ids of the tasks that the answer shows, in order; none means those that no other task needs."""
    budget: Budget | None = None
    """What the run may take."""
    replan: int = 0
    """How often the rest may be planned anew after a failure."""
    template: Template | None = None
    """The answer's text, with expressions in braces; without it the answer is the shown tasks' outputs."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise InvalidPlan(problems)

    def task(self, id: str) -> Task:
        """Return the task with this id."""
        return next(task for task in self.tasks if task.id == id)

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs (from, to) of task ids: the edges of the DAG."""
        return tuple((need, task.id) for task in self.tasks for need in sorted(task.needs))

    @property
    def sinks(self) -> tuple[str, ...]:
        """Ids of the tasks that no other needs, in the order of the plan."""
        needed = {need for task in self.tasks for need in task.needs}
        return tuple(task.id for task in self.tasks if task.id not in needed)

    @property
    def shown(self) -> tuple[str, ...]:
        """Ids of the tasks that the answer is made of, in order."""
        return self.answer or self.sinks

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form."""
        more: dict[str, Json] = {
            "budget": self.budget.to_json() if self.budget else None,
            "replan": self.replan,
            "template": self.template.to_json() if self.template else None,
        }
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "links": [list(link) for link in self.links],
            "output": self.output,
            "planner": self.planner,
            "missing": list(self.missing),
            "answer": list(self.answer),
            **{key: value for key, value in more.items() if value},
        }

    @classmethod
    def from_json(cls, data: Any, planner: str = "given") -> Plan:
        """Read the native surface's form; raise `InvalidPlan` naming everything wrong with it."""
        if not isinstance(data, Mapping):
            raise InvalidPlan([Problem("plan", "", f"is a {type(data).__name__}; a plan is an object with tasks")])
        items = data.get("tasks")
        if not isinstance(items, Sequence) or isinstance(items, str):
            raise InvalidPlan([Problem("plan", "tasks", "is required: a list of {id, node, arguments}")])
        if len(items) > MAX_TASKS:
            raise InvalidPlan([Problem("plan", "tasks", f"{len(items)} tasks; at most {MAX_TASKS} are allowed")])
        problems = list(_key_problems(data))
        tasks = []
        for index, item in enumerate(items):
            form = TaskForm(item, f"tasks.{index}")
            if (task := form.read()) is not None:
                tasks.append(task)
            problems += form.problems
        template, wrong = Template.read(data.get("template"))
        if problems or wrong:
            raise InvalidPlan([*problems, *wrong])
        output = data.get("output") or (tasks[-1].id if tasks else "")
        return cls(
            tuple(tasks),
            str(output),
            str(data.get("planner") or planner),
            tuple(map(str, data.get("missing") or ())),
            tuple(dict.fromkeys(map(str, data.get("answer") or ()))),
            Budget.from_json(data["budget"]) if data.get("budget") else None,
            data.get("replan") or 0,
            template,
        )


def _key_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Say what is wrong with a plan's keys beside its tasks."""
    for key in sorted(set(data) - {*KEYS, "links", "missing", "elapsed_ms"}):
        yield Problem("plan", key, f"unknown key; valid keys: {', '.join(KEYS)}")
    for key, what in (("missing", "questions"), ("answer", "task ids")):
        if not isinstance(data.get(key) or (), (list, tuple)):
            yield Problem("plan", key, f"must be a list of {what}")
    if data.get("budget") is not None:
        yield from Budget.problems(data["budget"])
    times = data.get("replan")
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= MAX_REPLANS):
        yield Problem("plan", "replan", f"must be a whole number from 0 to {MAX_REPLANS}; got {brief(times)}")


def _problems(plan: Plan) -> Iterator[Problem]:
    if not plan.tasks:
        yield Problem("plan", "tasks", "a plan needs at least one task")
        return
    if len(plan.tasks) > MAX_TASKS:
        yield Problem("plan", "tasks", f"{len(plan.tasks)} tasks; at most {MAX_TASKS} are allowed")
        return
    ids = [task.id for task in plan.tasks]
    known = frozenset(ids)
    for id in sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else ():
        yield Problem("plan", "tasks", f"id {id!r} is used more than once")
    for task in plan.tasks:
        yield from _task_problems(task, ids, known)
    for name in sorted((plan.template.sources if plan.template else frozenset()) - known - {REQUEST}):
        yield Problem("plan", "template", f"refers to task {brief(name)}; the plan has {', '.join(ids[:20])}")
    for key, named in [("output", plan.output), *(("answer", id) for id in plan.answer)]:
        if named not in known:
            yield Problem("plan", key, f"task {brief(named)} is not in the plan; it has {', '.join(ids[:20])}")
    try:
        TopologicalSorter({task.id: task.needs for task in plan.tasks}).prepare()
    except CycleError as error:
        yield Problem("plan", "tasks", f"references form a cycle: {' -> '.join(error.args[1])}")


def _task_problems(task: Task, ids: Sequence[str], known: frozenset[str]) -> Iterator[Problem]:
    if not _ID.fullmatch(task.id) or task.id == REQUEST:
        yield Problem(
            "plan", "tasks", f"id {brief(task.id)} must be 1 to 64 letters, digits, '_' or '-', not 'request'"
        )
    for need in sorted(task.needs - known):
        yield Problem(
            "plan",
            f"tasks.{task.id}.arguments",
            f"refers to task {brief(need)}, which the plan lacks; it has {', '.join(ids[:20])}",
        )
    for name in sorted(task.locals & known):
        message = f"stands for the {name} of the list in this task, and is a task's id too; choose another id"
        yield Problem("plan", f"tasks.{task.id}.{'map' if task.map else 'repeat'}", f"{name!r} {message}")
