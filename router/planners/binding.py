"""Binds the parameters of a tool: literals of the clause, outputs of earlier tasks by field, defaults of the schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graph.plan import Ref, Value
from router.planners.fitting import cast, fit
from router.planners.references import Given, identifies, origin, refer
from router.planners.toolset import Parameter, Tool
from router.planners.values import Mention, mentions, runs
from router.planners.words import stems, told

LITERAL = 1.0
"""Score from which a literal is taken for a parameter."""
_POINTING = re.compile(
    r"(?i)\b(?:it|its|them|they|their|this|that|these|those|result|results|output|above|same|calculated|generated|"
    r"obtained|retrieved|found|recorded|encrypted|translated|converted)\b"
)


@dataclass(frozen=True, slots=True)
class Bound:
    """Arguments of a task, and the required parameters that nothing was found for."""

    arguments: dict[str, Value]
    missing: tuple[Parameter, ...]


def bind(
    tool: Tool,
    clause: str,
    whole: str,
    earlier: Sequence[Given],
    *,
    borrow: bool = True,
    values: Mapping[str, Value] | None = None,
) -> Bound:
    """Bind a tool's parameters.

    Known `values` stay as they are. The words of the clause come first, then outputs of `earlier` tasks that the
    clause mentions, then what the `whole` request says about a parameter (where `borrow`). Nothing is invented: what
    is left is missing.
    """
    found: dict[str, Value] = literals(tool, clause, values=values)
    pointing = points_back(clause)
    spent: set[Ref] = set()
    others = [given for given in earlier if pointing or given.tool.name != tool.name]
    for item in tool.parameters:
        reference = refer(item, clause, others, pointing, spent, one_of_several=not tool.acts)
        if reference is None:
            continue
        score, ref = reference
        wants = item.required and item.default is None
        weak = item.name in found and _weak(item, found[item.name], clause)
        if (item.name not in found and (wants or score >= 2.0)) or (weak and score >= 1.0):
            found[item.name] = origin(ref, others)
            spent.add(ref)
    if borrow and clause != whole:
        lacking = Tool(tool.name, parameters=tuple(p for p in tool.required if p.name not in found))
        said, borrowed = list(found.values()), literals(lacking, whole, strict=True)
        found |= {
            item.name: value
            for item in lacking.parameters
            if (value := borrowed.get(item.name)) is not None and value not in said
            if not _of_another(item, value, earlier, acts=tool.acts)
        }
    missing = tuple(item for item in tool.required if item.name not in found)
    return Bound({item.name: found[item.name] for item in tool.parameters if item.name in found}, missing)


def points_back(text: str) -> bool:
    """Whether a text speaks of something that was said or made before."""
    return _POINTING.search(text) is not None


def _of_another(item: Parameter, value: Value, earlier: Sequence[Given], *, acts: bool) -> bool:
    """Whether an earlier task has a value for something else: a weight is no price, a name no id of what is changed."""
    if type(value) not in (int, float) and not (acts and identifies(item)):
        return False
    users = [name for given in earlier for name, other in given.arguments.items() if other == value]
    return bool(users) and not any(told(name) & told(item.name) for name in users)


def literals(
    tool: Tool, text: str, *, strict: bool = False, values: Mapping[str, Value] | None = None
) -> dict[str, Value]:
    """Give the values that a text names to the parameters that they fit best, each value once."""
    found: dict[str, Value] = dict(values or {})
    said = {str(value) for value in found.values()}
    known = [item for item in mentions(text) if str(item.value) not in said]
    lists = [[item.value for item in run] for run in runs(known, text)]
    pairs = sorted(
        (
            (-score, order, position, item, mention)
            for order, item in enumerate(tool.parameters)
            if item.type not in ("boolean", "array", "object")
            for position, mention in enumerate(known)
            if (score := fit(item, mention, order, tool)) >= (LITERAL + 0.5 if strict else LITERAL)
        ),
        key=lambda pair: pair[:3],
    )
    spent: set[int] = set()
    for item in tool.parameters:
        if item.choices and item.name not in found and (value := _choice(item, text)) is not None:
            found[item.name] = value
    for _, _, position, item, mention in pairs:  # the best fits first
        admitted = {str(choice).lower() for choice in item.choices} or None
        if admitted is not None and str(mention.value).lower() not in admitted:
            continue
        if item.name not in found and position not in spent:
            found[item.name] = cast(item, mention.value)
            spent.add(position)
    for item in tool.parameters:
        if item.name not in found and (value := _compound(item, text, known, lists, spent, tool)) is not None:
            found[item.name] = value
    if not strict:
        found |= _topics(tool, text, found)
    return found


def _choice(item: Parameter, text: str) -> Value | None:
    for value in sorted(item.choices, key=lambda choice: -len(str(choice))):
        words = re.escape(str(value)).replace("_", r"[\s_-]").replace("\\ ", r"[\s_-]")
        if str(value).isdigit() or str(value).lower() in ("true", "false"):
            continue
        if re.search(rf"(?i)(?<!\w){words}s?(?!\w)", text):
            return value
    if {str(value).lower() for value in item.choices} == {"true", "false"}:
        said = _said(item, text)
        return None if said is None else next(c for c in item.choices if str(c).lower() == str(said).lower())
    return None


def _said(item: Parameter, text: str) -> bool | None:
    """Whether a text says yes or no to a switch; None if it does not speak of it."""
    words = re.escape(item.name.replace("_", " "))
    written = re.search(
        rf"(?i)\b(?:{words}|{re.escape(item.name)})\b\W{{0,3}}(?:is |to |as |= ?|: ?)?(true|false|yes|no)\b", text
    )
    if written:
        return written[1].lower() in ("true", "yes")
    match = re.search(rf"(?i)(\b(?:no|not|without|exclude|excluding|don'?t)\s+(?:\w+\s+){{0,2}})?\b{words}", text)
    if match:
        return match[1] is None
    named = [word for word in stems(item.name) if word not in ("is", "include", "includ", "has", "show", "get")]
    if named and set(named) <= set(stems(text)):
        negated = re.search(rf"(?i)\b(?:no|not|without|excluding|don'?t)\b(?:\s+\w+){{0,3}}?\s+{named[-1]}", text)
        return negated is None
    return None


def _compound(
    item: Parameter, text: str, known: list[Mention], lists: list[list[Any]], spent: set[int], tool: Tool
) -> Value | None:
    """Read what has no single mention: switches, lists, objects."""
    if item.type == "boolean":
        return _said(item, text)
    if item.type == "object" and item.fields:
        inner = literals(Tool(tool.name, parameters=item.fields), text, strict=True)
        return inner or None
    if item.type == "array":
        written = [mention for mention in known if mention.kind == "list"]
        near = [m for m in written if told(item.name) & set(stems(" ".join(m.before[-3:])))]
        if near or written:
            chosen = (near or [m for m in written if m.start not in spent] or written)[0]
            spent.add(chosen.start)
            return chosen.value
        return lists[0] if lists else None
    return None


_ABOUT = re.compile(
    r"(?i)\b(?:about|regarding|related to|on the topic of|concerning|on|for|of|named|called|titled)\s+"
    r"(?:the |a |an )?((?:[\w'-]+\s?){1,6}?)"
    r"(?=$|[.,;?!]|\s(?:in|on|at|for|from|with|to|and|by|using|published|near|that|of)\b)"
)
_FREE = re.compile(
    r"(?i)^(?:q|query|search_?(?:query|term|text)?|keywords?|topic|term|text|message|content|subject|prompt|question)$"
)


def _topics(tool: Tool, text: str, found: dict[str, Value]) -> dict[str, Value]:
    """Give free text after "about", "for", … to a required parameter that takes any text."""
    for item in tool.parameters:
        if item.name in found or item.type not in ("string", "any") or not _FREE.match(item.name) or not item.required:
            continue
        if _POINTING.search(text):
            return {}
        match = next((m for m in _ABOUT.finditer(text) if not set(stems(m[1])) <= told(tool.name)), None)
        if match:
            return {item.name: match[1].strip()}
    return {}


def _weak(item: Parameter, value: Value, clause: str) -> bool:
    """Whether a literal stands for the parameter without the clause having said so."""
    return not isinstance(value, (int, float, bool)) and not told(item.name) & set(stems(clause))
