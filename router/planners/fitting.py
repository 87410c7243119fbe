"""How well a value that a request names fits a parameter: by type, form, and the words around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from graph.plan import Value
from router.planners.toolset import Parameter, Tool
from router.planners.values import Mention
from router.planners.words import stem, stems, told

_FORMS: Mapping[str, re.Pattern[str]] = {
    "date": re.compile(
        r"(?i)date|\bday\b|birth|check.?in|check.?out|start.?time|end.?time|when|deadline|\bfrom\b|\bto\b|\bdob\b"
    ),
    "time": re.compile(r"(?i)time|hour|when"),
    "email": re.compile(r"(?i)mail|recipient|contact|attendee|participant|\bto\b"),
    "url": re.compile(r"(?i)url|link|website|site|\bdata\b|source|domain|address|page"),
    "phone": re.compile(r"(?i)phone|mobile|number|contact|recipient|\bto\b"),
    "path": re.compile(r"(?i)path|file|folder|director|location|program"),
    "file": re.compile(r"(?i)file|image|photo|picture|audio|video|path|document|attachment|url|data|source|text|input"),
}  # fmt: skip
_ONLY: Mapping[str, re.Pattern[str]] = {
    "date": re.compile(r"(?i)(?:^|_)date(?:$|_)|_date$|birthdate|birthday"),
    "email": re.compile(r"(?i)e-?mail"),
    "url": re.compile(r"(?i)(?:^|_)url(?:$|_)|_link$"),
    "time": re.compile(r"(?i)_time$|^time$"),
}
_LIKE: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (re.compile(r"(?i)e-?mail(?:_?address)?$"), re.compile("@")),
    (re.compile(r"(?i)(?:phone|mobile)(?:_?(?:number|no))?$"), re.compile(r"\d{3}")),
)
"""Names of parameters, and what their values have however they are said: no quoted "hello" is a phone number."""
_CUES: Mapping[str, str] = {
    "from": r"from|source|origin|start|begin|departure|pickup",
    "to": r"(?:^|_)to(?:_|$)|target|dest|end|arrival|recipient|dropoff|language",
    "until": r"end|until|to",
    "in": r"city|location|country|place|region|area|language|state|where|year|format",
    "near": r"city|location|place|address|area|query",
    "at": r"time|rate|location|place|price|where",
    "on": r"date|day|when|topic|platform|exchange|market",
    "by": r"artist|author|director|creator|brand|singer|by|method",
    "between": r"start|from|begin|num|a$|x",
    "with": r"participant|attendee|key|name|people|person",
    "titled": r"title|name", "called": r"title|name", "named": r"title|name", "key": r"key",
    "than": r"min|max|rating|price|limit",
}  # fmt: skip
_UNITS: Mapping[str, str] = {
    "%": r"rate|percent|discount|tip|interest|tax|ratio|share|yield|growth",
    "$": r"amount|price|cost|bill|budget|salary|principal|revenue|expense|income|value|loan|total|fee|allowance|tip|pay"
    r"|purchase|balance|invest|profit",
    "year": r"year|term|duration|period|age|time", "month": r"month|term|duration|period",
    "day": r"day|duration|period|stay|limit", "night": r"night|day|stay", "hour": r"duration|hour|time",
    "minute": r"duration|minute|time|length", "second": r"duration|second|time|length",
    "pound": r"weight|mass|amount", "kg": r"weight|mass", "kilogram": r"weight|mass", "gram": r"weight|mass",
    "mile": r"distance|length|range", "km": r"distance|range", "kilometer": r"distance|range",
    "meter": r"height|length|distance|width|radius|base|depth",
    "people": r"people|size|guest|number|party|seat|person", "person": r"people|size|guest|party",
    "adult": r"adult|guest|people", "guest": r"guest|people|size", "ticket": r"ticket|number|quantity|seat",
    "room": r"room|number", "bedroom": r"bed", "bathroom": r"bath", "bag": r"bag|luggage",
    "m/s": r"speed|velocity", "km/h": r"speed|velocity", "mph": r"speed|velocity", "m/s^2": r"accel|gravit",
    "hz": r"freq", "volt": r"volt|potential", "amp": r"current", "ampere": r"current", "ohm": r"resist",
    "coulomb": r"charge", "newton": r"force", "joule": r"energy|work|heat", "watt": r"power",
    "tesla": r"field", "farad": r"capacit", "kelvin": r"temp", "celsius": r"temp", "fahrenheit": r"temp",
    "mole": r"mole|quantity|amount",
}  # fmt: skip


CONTENT = re.compile(r"(?i)^(?:text|message|content|data|sentence|body|input|word|description|comment|note)s?$")
"""Names of parameters whose value is quoted or made by another tool, rather than a name said in passing."""


TOLD = 0.25
"""Evidence from which the words around a value say which parameter it is for."""


def fit(item: Parameter, mention: Mention, order: int, tool: Tool) -> float:
    """Return how well a mention fits the parameter at this place; below 1 it does not."""
    score = _form(item, mention)
    if score <= 0 or (mention.kind in ("proper", "quoted") and set(stems(str(mention.value))) <= told(tool.name)):
        return 0.0
    said = evidence(item, mention)
    if mention.spelt and said < TOLD:
        return 0.0  # it only counts things: "two circles"
    return score + said + (0.15 if item.required else -0.2) - 0.01 * order


def evidence(item: Parameter, mention: Mention) -> float:
    """Return how much the words around a mention speak for the parameter; below 0 where they speak against it."""
    names = stems(item.name)
    before, after = [stem(word) for word in mention.before], [stem(word) for word in mention.after]
    described = {word for word in told(item.description) if word not in names}
    shared = 0.12 * len(described & {*before[-4:], *after[:2]}) + _listed_in(item, mention)
    return _near(names, before, after) + _cue(item, mention) + _unit(item, mention) + shared


def _listed_in(item: Parameter, mention: Mention) -> float:
    """Score a value that the parameter's description itself names: "one of 'open', 'close' or 'high'"."""
    value = str(mention.value)
    if mention.kind not in ("quoted", "proper", "code") or len(value) < 3:
        return 0.0
    if value.lower() not in item.description.lower():  # the pattern below costs a hundred times as much
        return 0.0
    return 0.5 if re.search(rf"(?i)(?<!\w){re.escape(value)}(?!\w)", item.description) else 0.0


def _form(item: Parameter, mention: Mention) -> float:
    """Score the form of a value against the parameter's type and name; 0 where it cannot be."""
    label = f"{item.name} {item.description}"
    if item.type in ("integer", "number"):
        if mention.kind == "number":
            return 1.0 if item.type == "number" or float(mention.value).is_integer() else 0.4
        return 0.9 if mention.kind == "quoted" and re.fullmatch(r"-?\d[\d,]*(?:\.\d+)?", str(mention.value)) else 0.0
    for kind, pattern in _ONLY.items():
        if pattern.search(item.name) and mention.kind not in (kind, "quoted", "date"):
            return 0.0
    if any(name.search(item.name) and not like.search(str(mention.value)) for name, like in _LIKE):
        return 0.0
    return _text_form(item, mention, label)


def _text_form(item: Parameter, mention: Mention, label: str) -> float:
    """Score the form of a value for a parameter that takes text."""
    if mention.kind == "list":
        return 0.0
    if mention.kind == "language":
        return 1.2 if re.search(r"(?i)lang|^to$|^from$|locale", item.name) else 0.3
    if CONTENT.search(item.name) and mention.kind in ("proper", "code", "date", "time"):
        return 0.3
    if mention.kind in _FORMS:
        return 1.4 if _FORMS[mention.kind].search(item.name) else 1.0 if _FORMS[mention.kind].search(label) else 0.1
    if mention.kind == "number":
        return 0.7 if _COUNTED.search(label) else 0.3
    if mention.kind == "quoted":
        return 1.0
    if re.search(r"(?i)(?:^|_)id$|Id$", item.name):
        return 0.9 if mention.kind == "code" and re.search(r"\d", str(mention.value)) else 0.2
    return 0.9 if mention.kind == "proper" else 0.75


_COUNTED = re.compile(r"(?i)number|size|count|amount|year|\bid\b|_id$|code|age|length|price|quantity")


def _near(names: list[str], before: list[str], after: list[str]) -> float:
    """Score the parameter's own words beside the value: nearer counts more."""
    score = 0.0
    for word in dict.fromkeys(names):
        for distance, other in enumerate(reversed(before[-5:])):
            if word == other:
                score += (1.2, 1.0, 0.8, 0.5, 0.3)[distance] / len(names) ** 0.5
                break
        for distance, other in enumerate(after[:2]):
            if word == other:
                score += (1.1, 0.5)[distance] / len(names) ** 0.5
                break
    return score


def _cue(item: Parameter, mention: Mention) -> float:
    for distance, word in enumerate(reversed(mention.before[-3:])):
        if word in _CUES:
            return (0.6, 0.35, 0.2)[distance] if re.search(rf"(?i){_CUES[word]}", item.name) else 0.0
    return 0.0


def cue_of(item: Parameter, word: str) -> float:
    """Return how much a preposition before a value speaks for the parameter."""
    return 0.6 if word in _CUES and re.search(rf"(?i){_CUES[word]}", item.name) else 0.0


def _unit(item: Parameter, mention: Mention) -> float:
    if mention.kind != "number":
        return 0.0
    label = item.name
    if mention.unit:
        return 0.8 if re.search(rf"(?i){_UNITS[mention.unit]}", label) else -0.6
    for place, word in enumerate(mention.after[:2]):
        unit = "/".join(mention.after[place : place + 2])  # "m/s" is two words
        if unit == "m/s" and mention.after[place + 2 : place + 3] == ("2",):
            unit = "m/s^2"
        unit = unit if unit in _UNITS else word if word in _UNITS else word.rstrip("s")
        if unit in _UNITS:
            return 0.7 if re.search(rf"(?i){_UNITS[unit]}", label) else -0.4
    return 0.0


def cast(item: Parameter, value: Any) -> Value:
    """Return a value in the parameter's type, where it has one that the value can take."""
    if item.type == "string" and not isinstance(value, str):
        return str(value)
    if item.type in ("integer", "number") and isinstance(value, str):
        try:
            number = float(value.replace(",", ""))
        except ValueError:
            return value
        return int(number) if number.is_integer() else number
    if item.type == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
