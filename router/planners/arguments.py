# ruff: noqa: RUF001  # the typographic quotes and full-width marks of other languages are meant

"""Fills the typed arguments of a tool from the words of a clause. Nothing is invented: what is not said is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graph.plan import Ref, Value
from graph.spec import Argument, NodeSpec

READ = 4000
"""Characters of a clause in which values are looked for; free text is taken whole."""
_QUOTED = re.compile(r"\"([^\"\n]{1,2000})\"|“([^“”]{1,2000})”|`([^`\n]+)`|(?<![\w'’])'([^'\n]{1,500})'(?!\w)")
_NUMBER = re.compile(r"(?<![\w.,-])[-+]?\d[\d,]*(?:\.\d+)?(?![\w-]|[.,:/]\d)")
_DATE = re.compile(
    r"(?i)\b(?:\d{4}-\d{2}-\d{2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|(?:\d{1,2}\s+)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"[a-z]*\.?(?:\s+\d{1,2}(?:st|nd|rd|th)?)?(?:,?\s+\d{4})?(?=\W|$)|today|tomorrow|tonight|yesterday|"
    r"(?:next|this) (?:week|month|year|weekend|monday|tuesday|wednesday|thursday|friday|saturday|sunday)|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b"
)
_TIME = re.compile(r"(?i)\b(?:\d{1,2}:\d{2}(?:\s*[ap]\.?m\b)?|\d{1,2}\s*[ap]\.?m\b|noon|midnight)")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_URL = re.compile(r"https?://[^\s'\"<>]+")
_PROPER = r"((?:[A-Z][\w'’.-]*)(?:(?:\s+|,\s+)(?:of\s+|de\s+|the\s+)?[A-Z][\w'’-]*)*)"
_PLACE = re.compile(r"\b(?:in|at|near|for|to|from|around|of)\s+" + _PROPER)
_PERSON = re.compile(r"\b(?:for|to|named|called|with|by|from)\s+" + _PROPER)
_FREE = re.compile(
    r"(?i)^(?:query|q|text|topic|message|content|prompt|input|question|search|subject|body|keywords?|sentence|document|data)$"
)
_VERB = re.compile(r"(?i)^(?:please\s+)?(?:[a-z]+)(?:\s+(?:me|for|about|up|on|of|the web for))*\s+")


@dataclass(frozen=True, slots=True)
class Filled:
    """Arguments of a tool, and a question for each that is required and not said."""

    arguments: dict[str, Value]
    missing: tuple[str, ...]


class _Clause:
    """The words of a clause, and which of them are already given to an argument."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.start = text[:READ]
        """Where values are looked for."""
        self.quoted = [next(group for group in m.groups() if group is not None) for m in _QUOTED.finditer(self.start)]
        self._spent: list[tuple[int, int]] = []

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Return the first match of a pattern that no other argument has, and mark it as taken."""
        for match in pattern.finditer(self.start):
            start, end = match.span(1) if match.re.groups else match.span()
            if start >= 0 and all(end <= left or start >= right for left, right in self._spent):
                self._spent.append((start, end))
                return self.start[start:end].strip(" ,.")
        return None


def fill(spec: NodeSpec, text: str, earlier: Sequence[Ref] = (), attachments: Sequence[Ref] = ()) -> Filled:
    """Fill a tool's arguments from a clause.

    Literals of the clause come first; `earlier` are outputs that the clause speaks of and stand in for a required
    argument without a literal; `attachments` go to object arguments named after their modality.
    """
    clause = _Clause(text)
    found: dict[str, Value] = {}
    for name, argument in _by_certainty(spec.arguments):
        value = _literal(name, argument, clause, len(spec.arguments))
        if value is not None:
            found[name] = value
    spare = list(earlier)
    for name, argument in spec.arguments.items():
        if name in found or not argument.required or argument.default is not None:
            continue
        if argument.type == "object" and (match := [ref for ref in attachments if ref.path[0] in name.lower()]):
            found[name] = match[0]
        elif spare and not argument.enum and argument.type in ("string", "array", "object"):
            found[name] = spare.pop(0) if len(spare) > 1 else spare[0]
    missing = tuple(_question(spec, name, arg) for name, arg in spec.arguments.items() if _lacks(name, arg, found))
    return Filled({name: found[name] for name in spec.arguments if name in found}, missing)


def _lacks(name: str, argument: Argument, found: dict[str, Value]) -> bool:
    return argument.required and argument.default is None and name not in found


def _question(spec: NodeSpec, name: str, argument: Argument) -> str:
    what = argument.description.rstrip(".") or name.replace("_", " ")
    choice = f" One of: {', '.join(map(str, argument.enum))}." if argument.enum else ""
    return f"{spec.name} needs {name!r} ({what}): what should it be?{choice}"


def _by_certainty(arguments: dict[str, Argument]) -> Iterator[tuple[str, Argument]]:
    """Order arguments so that those of an unmistakable form are taken before free text."""

    def rank(item: tuple[str, Argument]) -> int:
        name, argument = item
        if argument.enum:
            return 0
        if argument.type != "string":
            return 1
        return 3 if _FREE.match(name) else 2

    return iter(sorted(arguments.items(), key=rank))


def _literal(name: str, argument: Argument, clause: _Clause, count: int) -> Value | None:
    if argument.enum:
        return _enum(argument, clause)
    if argument.type in ("integer", "number"):
        return _number(name, argument, clause)
    if argument.type == "boolean":
        return _boolean(name, clause.start)
    if argument.type == "array":
        return _array(clause)
    if argument.type == "string":
        return _string(name, argument, clause, count)
    return None


def _enum(argument: Argument, clause: _Clause) -> Value | None:
    for value in argument.enum:
        words = re.escape(str(value)).replace("_", r"[\s_-]")
        if argument.admits(value) and clause.take(re.compile(rf"(?i)(?<!\w){words}(?!\w)")):
            return value
    return None


def _number(name: str, argument: Argument, clause: _Clause) -> int | float | None:
    word = re.escape(name.split("_")[-1].rstrip("s"))
    near = re.compile(rf"(?i)\b{word}\w*\W{{1,4}}(?:(?:is|of|to|=)\s+)?([-+]?\d[\d,]*(?:\.\d+)?)")
    before = re.compile(rf"(?i)(?<![\w.,])([-+]?\d[\d,]*(?:\.\d+)?)[\s-]+(?:\w+\s+)?{word}")
    raw = clause.take(near) or clause.take(before) or clause.take(_NUMBER)
    if raw is None:
        return None
    value = float(raw.replace(",", ""))
    if not math.isfinite(value):
        return None
    if argument.type == "integer":
        return int(value) if value.is_integer() else None
    return int(value) if value.is_integer() else value


def _boolean(name: str, text: str) -> bool | None:
    match = re.search(rf"(?i)(\b(?:no|not|without|don'?t)\s+(?:\w+\s+)?)?\b{re.escape(name.replace('_', ' '))}", text)
    return None if match is None else match[1] is None


def _array(clause: _Clause) -> list[Value] | None:
    if clause.quoted:
        taken, clause.quoted = clause.quoted, []
        return list(taken)
    listed = re.search(
        r"(?<!\d)[-+]?\d+(?:\.\d+)?(?:\s*,\s*(?:and\s+)?[-+]?\d+(?:\.\d+)?|\s+and\s+[-+]?\d+(?:\.\d+)?)+",
        clause.start,
    )
    if listed is None:
        return None
    numbers = [float(item) for item in re.findall(r"[-+]?\d+(?:\.\d+)?", listed[0])]
    return [int(item) if item.is_integer() else item for item in numbers if math.isfinite(item)]


def _string(name: str, argument: Argument, clause: _Clause, count: int) -> str | None:
    words = re.escape(name.replace("_", " "))
    value = clause.take(re.compile(rf"(?i)\b{words}\s*(?:is|=|:|named|called)\s*[\"'“]?([^\s\"'”,;]+)"))
    if value:
        return value
    label = f"{name.replace('_', ' ')} {argument.description}".lower()
    for hint, pattern in _shapes(name):
        if re.search(hint, label):
            shaped = clause.take(pattern)
            if shaped or hint in (_SHAPED_ONLY):
                return shaped or (clause.quoted.pop(0) if clause.quoted and hint not in _STRICT else None)
    if clause.quoted:
        return clause.quoted.pop(0)
    if _FREE.match(name) and not re.search(
        r"(?i)\b(?:it|this|that|them|the (?:above|results?|summary|transcript|answer))\b", clause.text
    ):
        return _VERB.sub("", clause.text, count=1).strip(" .?!") or None
    return None


_STRICT = frozenset({r"\bdate\b|\bday\b", r"\be-?mail\b", r"\burl\b|\blink\b", r"\btime\b"})
_SHAPED_ONLY = _STRICT | {r"\bcity\b|\blocation\b|\bplace\b|\bcountry\b|\bregion\b|\baddress\b"}


def _shapes(name: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield (what the argument's name or description says, how such a value looks)."""
    if re.search(r"(?i)(?:^|_)(?:from|origin|source|departure)(?:_|$)", name):
        yield "", re.compile(r"\bfrom\s+" + _PROPER)
    if re.search(r"(?i)(?:^|_)(?:to|destination|target|arrival)(?:_|$)", name):
        yield "", re.compile(r"\b(?:to|in)\s+" + _PROPER)
    yield r"\be-?mail\b", _EMAIL
    yield r"\burl\b|\blink\b", _URL
    yield r"\bdate\b|\bday\b", _DATE
    yield r"\btime\b", _TIME
    yield r"\bcity\b|\blocation\b|\bplace\b|\bcountry\b|\bregion\b|\baddress\b", _PLACE
    yield r"\bname\b|\bperson\b|\brecipient\b|\bdoctor\b|\blawyer\b", _PERSON
