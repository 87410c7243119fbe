"""What a caller prefers of the choice of a node: `x-modelyard-prefer`, as a header or under `metadata`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from graph.errors import InvalidRequest
from graph.preferences import NAMED, Preferences
from graph.types import Call

PREFER = "x-modelyard-prefer"
"""Name of the header, and of the key in `metadata`."""
BUDGET = "budget"
WEIGHTS = ("quality", "cost", "latency")
_RIGHT = (
    "give quality, cost or latency, or weights such as quality=0.7,cost=0.3, and optionally budget=N "
    "(most cost units per million tokens, in and out together)"
)


def preferring(call: Call, request: Request, metadata: Mapping[str, Any] | None = None) -> Call:
    """Return the call with the caller's preferences in its context; the header goes before the metadata.

    Raises `InvalidRequest` that names the field, the value and what would be right.
    """
    header = request.headers.get(PREFER)
    if header is not None:
        prefer = parse_preferences(header, PREFER)
    elif metadata and PREFER in metadata:
        prefer = parse_preferences(metadata[PREFER], f"metadata.{PREFER}")
    else:
        return call
    return replace(call, context=replace(call.context, prefer=prefer))


def parse_preferences(given: Any, param: str) -> Preferences:
    """Read `cost`, `quality=0.7,cost=0.3`, `latency,budget=5`, or an object of the same names."""
    if isinstance(given, Mapping):
        items = [(str(name), value) for name, value in given.items()]
    elif isinstance(given, str):
        items = [_item(part) for part in given.split(",")]
    else:
        raise InvalidRequest(f"{given!r} is neither a text nor an object; {_RIGHT}", param=param)
    return _preferences(items, given, param)


def _item(part: str) -> tuple[str, str | None]:
    name, separator, value = part.partition("=")
    return name.strip().lower(), value.strip() if separator else None


def _preferences(items: list[tuple[str, Any]], given: Any, param: str) -> Preferences:
    names = [name for name, _ in items]
    for name in names:
        if name not in (*WEIGHTS, BUDGET):
            raise InvalidRequest(f"{given!r}: {name!r} is no preference; {_RIGHT}", param=param)
        if names.count(name) > 1:
            raise InvalidRequest(f"{given!r}: {name} stands there twice; {_RIGHT}", param=param)
    words = [name for name, value in items if value is None]
    values = {name: _number(name, value, given, param) for name, value in items if value is not None}
    budget, weights = values.pop(BUDGET, None), values
    if BUDGET in words or len(words) > 1 or (words and weights):
        raise InvalidRequest(f"{given!r}: either one word or weights; {_RIGHT}", param=param)
    if words:
        return replace(NAMED[words[0]], budget=budget)
    if weights and not any(weights.values()):
        raise InvalidRequest(f"{given!r}: some weight must be above 0; {_RIGHT}", param=param)
    return Preferences.weighed(**weights, budget=budget)


def _number(name: str, value: Any, given: Any, param: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        message = f"{given!r}: {name} must be a number that is not negative; got {value!r}; {_RIGHT}"
        raise InvalidRequest(message, param=param)
    return number
