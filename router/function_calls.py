"""The next calls of a caller's own functions: chosen, filled and put in order, given what earlier calls gave.

Planning is that of `ZeroShotPlanner`'s parts, over tools made from the functions. A call whose arguments are known is
made now, together with others that are; one that needs the result of another waits for the next turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graph.plan import Ref, Task, Value, references
from router.planners.asking import choose
from router.planners.matching import Matcher, Part
from router.planners.relevance import relevance
from router.planners.toolset import Output, Parameter, Tool, Toolset
from router.planners.words import action, spoken
from router.planners.zero_shot import Drafting, unwrapped
from router.types import Encoder

FITS = 0.25
"""Relevance below which no function fits a request; of BFCL's that one is meant for, 98 in 100 are above it, and of
MetaTool's, which share few words with their tools, 88."""
MAX_FIELDS = 40
"""Fields of a result that later calls may take."""
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was made before, and what it gave."""

    name: str
    arguments: Mapping[str, Any]
    result: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: calls to make, or questions for what the request lacks; neither when nothing is left to do."""

    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    missing: tuple[str, ...] = ()
    fits: bool = True
    """Whether any function fits the request at all."""


class FunctionPlanner:
    """Chooses calls among one set of functions. Building it encodes their descriptions."""

    def __init__(self, tools: Sequence[Tool], encoder: Encoder | None) -> None:
        self._tools = Toolset.of(tools)
        self._matcher = Matcher(self._tools, encoder)

    def step(self, request: str, done: Sequence[Done] = (), *, required: bool = False) -> Step:
        """Return the next step of a request; where a call is `required`, the best function fits."""
        request = unwrapped(request)
        parts = self._matcher.parts(request)
        chosen = choose(self._matcher, parts)
        if not chosen and required:
            part = max(parts, key=lambda found: float(found.scores.max()))
            chosen = [(part, part.best)]
        if not chosen or not (required or done or self._relevance(chosen) >= FITS):
            return Step(fits=bool(done))
        tools = Toolset.of(_informed(tool, done) for tool in self._tools.tools.values())
        drafting = Drafting(tools, request)
        drafting.take(chosen)
        return _next(drafting.draft().tasks, tools, done)

    def relevance(self, request: str) -> float:
        """Return the probability that a request asks for any of the functions."""
        return self._relevance(choose(self._matcher, self._matcher.parts(unwrapped(request))))

    def _relevance(self, chosen: Sequence[tuple[Part, int]]) -> float:
        """Return that of the part that asks the most clearly for the function that is the likeliest for it."""
        tools = self._tools
        return max(
            (relevance(tools.tools[tools.names[i]], part.text, float(part.scores[i])) for part, i in chosen),
            default=0.0,
        )


def _next(tasks: Sequence[Task], tools: Toolset, done: Sequence[Done]) -> Step:
    """Return the calls of a plan that can be made now."""
    results: dict[str, Any] = {}
    left = list(done)
    calls: list[tuple[str, Mapping[str, Any]]] = []
    missing: list[str] = []
    for task in tasks:
        made = next((item for item in left if item.name == task.node), None)
        if made is not None:
            left.remove(made)
            results[task.id] = made.result
            continue
        if any(ref.task not in results for ref in references(task.arguments)):
            continue  # it waits for a call of this turn, or for one that waits itself
        arguments = {name: filled(value, results) for name, value in task.arguments.items()}
        lacking = [item for item in tools.tools[task.node].required if arguments.get(item.name) is None]
        if lacking:
            missing += [_question(task.node, item) for item in lacking]
        elif (task.node, arguments) not in [(item.name, dict(item.arguments)) for item in done]:
            calls.append((task.node, arguments))
    return Step(tuple(calls), tuple(dict.fromkeys(missing)))


def filled(value: Value, results: Mapping[str, Any]) -> Any:
    """Return an argument with its references replaced by what the earlier calls gave."""
    if isinstance(value, Ref):
        return _at(results.get(value.task), value.path)
    if isinstance(value, Mapping):
        return {key: filled(item, results) for key, item in value.items()}
    return [filled(item, results) for item in value] if isinstance(value, list | tuple) else value


def _at(value: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(value, list):
            value = value[0] if value else None  # of several that were found, the first
        if not isinstance(value, Mapping):
            return value  # a plain result stands for all of its names
        value = value.get(step)
    return value


def _informed(tool: Tool, done: Sequence[Done]) -> Tool:
    """Return a tool with the fields of its output: those it gave, those it declares, or those its name speaks of."""
    given = next((item.result for item in reversed(done) if item.name == tool.name), None)
    if given is not None:
        fields = tuple(_fields(given, ()))[:MAX_FIELDS] or tuple(
            replace(output, type=_kind(given)) for output in _supposed(tool)
        )
        return replace(tool, outputs=fields)
    return tool if tool.outputs else replace(tool, outputs=tuple(_supposed(tool)))


def _fields(value: Any, path: tuple[str, ...]) -> Iterator[Output]:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, Mapping) and len(path) < 4:
        for name, item in value.items():
            yield Output((*path, str(name)), _kind(item))
            yield from _fields(item, (*path, str(name)))


def _supposed(tool: Tool) -> Iterator[Output]:
    """Yield what a tool that declares no output gives by its name: `find_order` an order, and an order's id."""
    words = spoken(tool.name.rpartition(".")[2]).lower().split()
    things = [word for word in words if action(word) is None] or words
    for cut in (things, things[-1:]):
        yield Output(("_".join(cut),), "any")
        yield Output((f"{'_'.join(cut)}_id",), "any")


def _kind(value: Any) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(value, type_)), "any")


def _question(name: str, item: Parameter) -> str:
    about = item.description.rstrip(".") or item.name.replace("_", " ")
    return f"{name} needs {item.name!r} ({about}): what should it be?"
