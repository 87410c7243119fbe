"""Measures plans against plans that were meant: nodes, links, arguments, validity, and the time to plan."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from graph.errors import ModelyardError
from graph.plan import Ref
from router.planners.clauses import Splitter
from router.planners.toolset import Draft, Toolset
from router.training.plan_data import PlanRow

Shape = tuple[str, ...]
"""Names of the nodes of a plan, in order."""
_WHOLE = re.compile(r"\$?([A-Za-z]\w*)\.([\w.\[\]-]+)\$|\$([A-Za-z]\w*)\$")
_INSIDE = re.compile(r"\$([A-Za-z]\w*)\.([\w.\[\]-]+)\$")


@dataclass(frozen=True, slots=True)
class Planned:
    """What a planner made of a row, and how long it took."""

    row: PlanRow
    draft: Draft
    valid: bool
    seconds: float


def shape(draft: Draft) -> Shape:
    """Return the node sequence of a plan."""
    return tuple(task.node for task in draft.tasks)


def plan_rows(rows: Sequence[PlanRow], tools: Toolset, draft: Callable[[PlanRow], Draft]) -> list[Planned]:
    """Plan every row, one after the other; a request that nothing fits has an empty plan, which is valid."""
    found = []
    for row in rows:
        started = perf_counter()
        try:
            made = draft(row)
        except ModelyardError:
            made = Draft()
        seconds = perf_counter() - started
        valid = not made.tasks or _valid(made, row.tools or tools)
        found.append(Planned(row, made, valid, seconds))
    return found


def _valid(draft: Draft, tools: Toolset) -> bool:
    try:
        draft.to_plan("evaluated")
    except ModelyardError:
        return False
    return not draft.problems(tools)


def report(planned: Sequence[Planned], known: Collection[Shape] | None = None) -> dict[str, Any]:
    """Return the figures, between 0 and 1 unless they are milliseconds; None where the rows cannot tell.

    F1 is that of each request, averaged, over the sets of names, of pairs of names, and of (name, argument, value);
    `exact` is the share with the same nodes as often and the same links. `unseen` are the same figures over the plans
    whose node sequence is not `known` from training; without training every plan is unseen.
    """
    scored = [item for item in planned if item.row.gold is not None]
    unseen = [item for item in scored if item.row.gold is not None and shape(item.row.gold) not in (known or ())]
    times = np.array([item.seconds for item in planned]) * 1000
    several = [item for item in planned if _asks_for_several(item.row)]
    return {
        "rows": len(planned),
        **_figures(scored),
        "valid": _mean([item.valid for item in planned]),
        "planned": _mean([bool(item.draft.tasks) for item in planned]),
        "collapsed": _mean([len(set(shape(item.draft))) == 1 for item in several]),
        "unseen": {"rows": len(unseen), **_figures(unseen)},
        "p50_ms": round(float(np.median(times)), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
    }


def _figures(planned: Sequence[Planned]) -> dict[str, float | None]:
    pairs = [(item.row.gold, item.draft) for item in planned if item.row.gold is not None]
    told = any(task.arguments for gold, _ in pairs for task in gold.tasks)
    return {
        "node_f1": _mean([f1(set(shape(gold)), set(shape(made))) for gold, made in pairs]),
        "edge_f1": _mean([f1(set(edges(gold)), set(edges(made))) for gold, made in pairs]),
        "argument_f1": _mean([f1(arguments(gold), arguments(made)) for gold, made in pairs]) if told else None,
        "exact": _mean([_same(gold, made) for gold, made in pairs]),
    }


def _asks_for_several(row: PlanRow) -> bool:
    """Whether a plan of one tool is too little: by the right plan, or without one by the clauses of the request."""
    return len(set(shape(row.gold))) > 1 if row.gold is not None else len(Splitter().split(row.request).clauses) > 1


def _same(gold: Draft, made: Draft) -> bool:
    return Counter(shape(gold)) == Counter(shape(made)) and set(edges(gold)) == set(edges(made))


def f1(wanted: set[Any], found: set[Any]) -> float:
    """Return the F1 of two sets; 1 if both are empty."""
    if not wanted and not found:
        return 1.0
    return 2 * len(wanted & found) / (len(wanted) + len(found))


def edges(draft: Draft) -> list[tuple[str, str]]:
    """Return the links of a plan as pairs of node names."""
    node = {task.id: task.node for task in draft.tasks}
    return [(node[a], node[b]) for a, b in draft.links if a in node and b in node]


def arguments(draft: Draft) -> set[tuple[str, str, str]]:
    """Return (node, argument, value) of a plan, values in a form that can be compared.

    Upper and lower case, 5 and "5", and the ids of tasks make no difference: a reference is the node and the field.
    """
    node = {task.id: task.node for task in draft.tasks}
    return {(task.node, name, plain(value, node)) for task in draft.tasks for name, value in task.arguments.items()}


def plain(value: Any, node: dict[str, str]) -> str:
    """Return a value in a form that can be compared."""
    if isinstance(value, Ref):
        return _reference(value.task, ".".join(value.path), node)
    if isinstance(value, str):
        whole = _WHOLE.fullmatch(value.strip())
        if whole:
            return _reference(whole[1] or whole[3], whole[2] or "", node)
        return _INSIDE.sub(lambda m: _reference(m[1], m[2], node), value).strip().lower()
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) < 1e6 else str(int(value) if float(value).is_integer() else value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(plain(item, node) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item, node)}" for key, item in sorted(value.items())) + "}"
    return str(value).lower()


def _reference(task: str, path: str, node: dict[str, str]) -> str:
    return f"<{node.get(task, task)}.{path}>"


def _mean(values: Sequence[float | bool]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
