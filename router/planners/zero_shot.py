"""Plans from descriptions and parameter schemas alone: no example, no training, no language model.

A request is split into parts, each part is matched with a tool, producers of required inputs that nothing gives are put
before, arguments are bound, and what the links do not allow is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graph.errors import NoNodeFits
from graph.plan import Ref, Task, Value
from router.planners.asking import aligned, choose
from router.planners.binding import Bound, bind, literals, points_back
from router.planners.completion import complete
from router.planners.fan_out import MAX_CALLS, Asked, fan_out
from router.planners.fetching import sources, works_on
from router.planners.lookups import ENOUGH, MAX_CHAIN, chain_to, is_name, named_otherwise, related, without_ids
from router.planners.matching import Matcher, Part
from router.planners.references import Given, identifies, refer
from router.planners.toolset import Draft, Parameter, Tool, Toolset
from router.planners.values import quoted
from router.types import Encoder

MAX_TASKS = MAX_CALLS
_AGAIN = re.compile(r"(?i)\b(?:again|once more|this time|the same|repeat)\b")
"""What says that a call is like the one before but for what is named."""


class ZeroShotPlanner:
    """Plans over one set of tools. Building it encodes their descriptions."""

    name = "zero_shot"

    def __init__(self, tools: Toolset, encoder: Encoder | None) -> None:
        self.tools = tools
        self._matcher = Matcher(tools, encoder)

    def draft(self, request: str) -> Draft:
        """Return the tasks for a request; raises `NoNodeFits` if no part of it fits a tool."""
        request = unwrapped(request)
        chosen = choose(self._matcher, self._matcher.parts(request))
        if not chosen:
            raise NoNodeFits("no tool here fits any part of this request")
        drafting = Drafting(self.tools, request)
        drafting.take(chosen)
        return drafting.draft()

    def best(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """Return the tool that fits each text best, and how well."""
        rows = self._matcher.score(texts)
        return [(self.tools.names[int(row.argmax())], float(row.max())) for row in rows]

    def over(self, request: str, names: Sequence[str]) -> Draft:
        """Return a draft of these tools in this order, its arguments and links bound from the request."""
        texts = self.texts(request, names)
        drafting = Drafting(self.tools, request)
        for name, text in zip(names, texts, strict=True):
            drafting.append(self.tools.tools[name], text)
        return drafting.draft()

    def texts(self, request: str, names: Sequence[str]) -> list[str]:
        """Return the part of a request that speaks of each tool; parts go to tools in order."""
        parts = self._matcher.parts(request)
        column = {name: index for index, name in enumerate(self.tools.names)}
        return aligned(parts, [column[name] for name in names])


def unwrapped(request: str) -> str:
    """Return a request without the quotes around the whole of it."""
    bare = request.strip()
    return bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] == '"' and '"' not in bare[1:-1] else bare


def _named_calls(tool: Tool, text: str) -> list[Asked]:
    """Return a call for each of several names that a text gives a look-up; one call where they are no names."""
    calls = fan_out(tool, text)
    named = all(isinstance(value, str) and is_name(value) for call in calls for value in call.values.values())
    return calls if named else [Asked(text)]


def completed(tool: Tool, text: str, bound: Bound) -> Bound:
    """Return what is bound, and what the text still offers for what is missing."""
    return _with(tool, bound, complete(tool, text, bound.arguments, bound.missing)) if bound.missing else bound


def inherited(tool: Tool, bound: Bound, before: Given) -> Bound:
    """Return what is bound, and what a further call of a tool leaves unsaid because it is as in the one before."""
    kept = {item.name: before.arguments[item.name] for item in bound.missing if item.name in before.arguments}
    return _with(tool, bound, bound.arguments | kept)


def _question(tool: Tool, item: Parameter) -> str:
    what = item.description.rstrip(".") or item.name.replace("_", " ")
    return f"{tool.name} needs {item.name!r} ({what}): what should it be?"


def _with(tool: Tool, bound: Bound, arguments: dict[str, Value]) -> Bound:
    ordered = {item.name: arguments[item.name] for item in tool.parameters if item.name in arguments}
    return Bound(ordered, tuple(item for item in bound.missing if item.name not in ordered))


@dataclass(slots=True)
class Drafting:
    """The state of one request on its way to a draft."""

    tools: Toolset
    request: str
    tasks: list[Task] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    must_ask: bool = False

    def take(self, chosen: Sequence[tuple[Part, int]]) -> None:
        """Add the calls of all parts.

        A part that lacks what its tool needs is read together with the next one if that asks for the same tool.
        """
        waiting = ""
        for position, (part, index) in enumerate(chosen):
            tool = self.tools.tools[self.tools.names[index]]
            text = f"{waiting} {part.text}".strip()
            more = position + 1 < len(chosen) and chosen[position + 1][1] == index
            if more and self._lacks(tool, text):
                waiting = text if text.endswith((".", "?", "!")) else f"{text}."
                continue
            waiting = ""
            self.add(tool, text, part)

    def _lacks(self, tool: Tool, text: str) -> bool:
        if _AGAIN.search(text) and any(given.tool.name == tool.name for given in self.given):
            return False
        bound = bind(tool, text, text, self.given)
        return bool(completed(tool, text, bound).missing)

    def add(self, tool: Tool, text: str, part: Part) -> None:
        """Add the calls that a part of the request asks of a tool, and producers of what they lack."""
        calls = fan_out(tool, text)
        if len(calls) > MAX_CALLS:
            self._refuse()
        for call in calls[:MAX_CALLS]:
            before = next((given for given in reversed(self.given) if given.tool.name == tool.name), None)
            call = self._fetched(tool, call, text)
            bound = self._bound(tool, call, alone=len(calls) == 1)
            depth = 0
            while bound.missing and depth < MAX_CHAIN and (made := self._produce(bound, tool, text, part)):
                for given in made[:-1]:  # "in Bergen and Oslo": a call for each of them
                    self._put(tool, text, bind(tool, call.text, self.request, [given], values=call.values))
                bound = self._bound(tool, call, alone=len(calls) == 1)
                depth += 1
            bound = completed(tool, call.text, bound)
            if before is not None:
                if self._says_nothing_new(tool, call, bound):
                    continue
                bound = inherited(tool, bound, before)
            self._put(tool, text, self._identified(tool, text, bound, part))

    def _says_nothing_new(self, tool: Tool, call: Asked, bound: Bound) -> bool:
        """Whether a further part only says more of a call that there is: "What is the speed of the third car?"."""
        if not tool.required or _AGAIN.search(call.text) or any(isinstance(v, Ref) for v in bound.arguments.values()):
            return False
        own = completed(tool, call.text, bind(tool, call.text, call.text, [], borrow=False, values=call.values))
        said = {name: value for name, value in own.arguments.items() if not isinstance(value, bool)}
        return any(said.items() <= given.arguments.items() for given in self.given if given.tool.name == tool.name)

    def _bound(self, tool: Tool, call: Asked, *, alone: bool) -> Bound:
        return bind(tool, call.text, self.request, self.given, borrow=alone, values=call.values)

    def append(self, tool: Tool, text: str) -> None:
        """Add one call of a tool with what can be bound."""
        self._put(tool, text, completed(tool, text, bind(tool, text, self.request, self.given)))

    def _produce(self, bound: Bound, tool: Tool, text: str, part: Part) -> list[Given]:
        """Put producers of the first missing input before, one for each thing that the text names; return them."""
        for item in bound.missing:
            ranked = []
            for score, other in related(item, tool, self.tools):
                cautious = replace(other, acts=tool.acts)
                calls = [
                    bind(cautious, call.text, self.request, self.given, values=call.values)
                    for call in _named_calls(other, without_ids(text, tool, bound.arguments, other))
                ]
                if not all(self._has(other, call) for call in calls):
                    lacking = 0.8 * len(calls[0].missing)
                    ranked.append((score + self._fit(other, part) - lacking, other.name, calls))
            best = max(ranked, key=lambda entry: entry[:2], default=None)
            if best is not None and best[0] >= ENOUGH and len(self.tasks) + len(best[2]) < MAX_TASKS:
                ids = [self._put(self.tools.tools[best[1]], text, bound) for bound in best[2]]
                return [given for given in self.given if given.id in ids]
        return []

    def _fetched(self, tool: Tool, call: Asked, text: str) -> Asked:
        """Put a tool before that fetches what a call works on, where the text names it and says what that needs."""
        said = literals(tool, call.text, strict=True, values=call.values)
        if points_back(call.text) or set(quoted(call.text)) - set(map(str, said.values())):
            return call  # the text itself is said, or is an earlier answer
        for item in tool.required:
            if not works_on(item) or item.name in said or refer(item, call.text, self.given, pointing=False):
                continue
            for other, output in sources(item, tool, call.text, self.tools):
                bound = bind(other, call.text, call.text, [], borrow=False)
                if not bound.missing:
                    fetched = Ref(self._put(other, text, bound), output.path)
                    return Asked(call.text, {**call.values, item.name: fetched})
        return call

    def _has(self, tool: Tool, bound: Bound) -> bool:
        return any(given.tool.name == tool.name and given.arguments == bound.arguments for given in self.given)

    def _identified(self, tool: Tool, text: str, bound: Bound, part: Part) -> Bound:
        """Return what is bound, with identifiers looked up where the request says a name instead.

        What names one of several things, of which a tool would change the first, is not known.
        """
        arguments = dict(bound.arguments)
        for item in tool.parameters:
            name = arguments.get(item.name)
            if not (identifies(item) and isinstance(name, str) and is_name(name)):
                continue
            chain = chain_to(item, tool, self.tools, lambda other: self._fit(other, part))
            guess = chain or (tool.acts and chain_to(item, replace(tool, acts=False), self.tools, lambda _: 1.0))
            if not guess or named_otherwise(name, item, guess[0], text):
                continue
            if chain and (found := self._looked_up(item, chain, name, text, tool)) is not None:
                arguments[item.name] = found
            else:
                del arguments[item.name]
                self.missing.append(_question(tool, item))
                self.must_ask = True
        return Bound(arguments, bound.missing)

    def _looked_up(self, item: Parameter, chain: Sequence[Tool], name: str, text: str, tool: Tool) -> Ref | None:
        """Put the tools of a chain before; return what the last of them gives."""
        if len(self.tasks) + len(chain) >= MAX_TASKS:
            return None
        value: Value = name
        reference: tuple[float, Ref] | None = None
        for step, taker in zip(chain, [*(step.required[0] for step in chain[1:]), item], strict=True):
            arguments = {step.required[0].name: value}
            given = Given(self._put(step, text, Bound(arguments, ())), step, text, arguments)
            reference = refer(taker, "", [given], pointing=True, one_of_several=not tool.acts)
            if reference is None:
                return None
            value = reference[1]
        return reference and reference[1]

    def _fit(self, tool: Tool, part: Part) -> float:
        return float(part.scores[self.tools.names.index(tool.name)])

    def _put(self, tool: Tool, text: str, bound: Bound) -> str:
        """Add a task, unless there is one like it or there are too many; return the id of what stands for it."""
        if len(self.tasks) >= MAX_TASKS:
            self._refuse()
            return self.tasks[-1].id
        arguments = dict(bound.arguments)
        for name, value in bound.arguments.items():
            if isinstance(value, Ref) and not self.tools.linked(self._node(value.task), tool.name):
                del arguments[name]
        same = next((task for task in self.tasks if task.node == tool.name and task.arguments == arguments), None)
        if same is not None:
            return same.id
        task = Task(f"t{len(self.tasks) + 1}", tool.name, arguments)
        self.tasks.append(task)
        self.given.append(Given(task.id, tool, text, arguments))
        for item in tool.required:
            if item.name not in arguments:
                self.missing.append(_question(tool, item))
        return task.id

    def _refuse(self) -> None:
        self.missing.append(f"this asks for more than {MAX_TASKS} calls: which of them should this request make?")
        self.must_ask = True

    def _node(self, id: str) -> str:
        return next(task.node for task in self.tasks if task.id == id)

    def draft(self) -> Draft:
        """Return the draft, with the links that no argument carries."""
        return Draft(tuple(self.tasks), tuple(self._order()), tuple(dict.fromkeys(self.missing)), self.must_ask)

    def _order(self) -> list[tuple[str, str]]:
        """Link tasks by kinds of input and output; one after the other where tools say nothing of what they give."""
        found = []
        for index, task in enumerate(self.tasks[1:], 1):
            tool = self.tools.tools[task.node]
            if self.tools.typed and not tool.takes:
                continue
            for earlier in reversed(self.tasks[:index]):
                fits = not self.tools.typed or tool.takes & self.tools.tools[earlier.node].makes
                if fits and self.tools.linked(earlier.node, task.node):
                    found.append((earlier.id, task.id))
                    break
                if not self.tools.typed:
                    break
        return found
