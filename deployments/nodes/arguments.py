"""Typed arguments of a tool: found in a call, checked against their declarations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from graph.errors import InvalidRequest
from graph.spec import Argument
from graph.types import Call, Modality

_INTEGER: Final = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORDS: Final = MappingProxyType(
    {
        "string": "a text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "array": "a JSON array",
        "object": "a JSON object",
    }
)


def read_arguments(call: Call, declared: Mapping[str, Argument], node: str) -> dict[str, Any]:
    """Return the arguments of a call, coerced to their declared types, defaults filled in.

    They come from the call's inputs. A call without inputs gives them in its last user message: as a JSON object, or as
    plain text where exactly one text is required. Raises `InvalidRequest` naming the argument, its value and what
    would be right.
    """
    given = _inputs(call, node) if call.inputs else _message(call, declared, node)
    for name in given:
        if name not in declared:
            valid = ", ".join(sorted(declared)) or "none"
            raise InvalidRequest(f"unknown argument {name!r}; node {node!r} takes {valid}", param=name, node=node)
    found = {}
    for name, argument in declared.items():
        value = given.get(name)
        if value is None:
            value = argument.default
        if value is not None:
            found[name] = _checked(name, value, argument, node)
        elif argument.required:
            words = f"argument {name!r} is required: {_wanted(argument)}"
            raise InvalidRequest(words, param=name, node=node)
    return found


def _inputs(call: Call, node: str) -> dict[str, Any]:
    for name, payload in call.inputs.items():
        if payload.modality not in (Modality.TEXT, Modality.JSON):
            raise InvalidRequest(
                f"argument {name!r} is {payload.modality.value}; node {node!r} takes text and JSON",
                param=name,
                node=node,
            )
    return {name: payload.value for name, payload in call.inputs.items()}


def _message(call: Call, declared: Mapping[str, Argument], node: str) -> dict[str, Any]:
    text = call.text
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        return parsed
    required = [name for name, argument in declared.items() if argument.required and argument.default is None]
    if text.strip() and len(required) == 1 and declared[required[0]].type == "string":
        return {required[0]: text.strip()}
    if not required and not text.strip():
        return {}
    wanted = ", ".join(f"{name} ({_wanted(argument)})" for name, argument in declared.items()) or "none"
    raise InvalidRequest(
        f"the message of a call to the tool {node!r} must be a JSON object of its arguments: {wanted}",
        param="messages",
        node=node,
    )


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _checked(name: str, value: Any, argument: Argument, node: str) -> Any:
    coerced = _COERCE[argument.type](value)
    if coerced is None or (argument.enum and coerced not in argument.enum):
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise InvalidRequest(f"argument {name!r} must be {_wanted(argument)}; got {shown}", param=name, node=node)
    return coerced


def _wanted(argument: Argument) -> str:
    if argument.enum:
        return "one of " + ", ".join(repr(value) for value in argument.enum)
    return _WORDS[argument.type]


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return None


def _number(value: Any) -> float | int | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = _integer(value) if _INTEGER.fullmatch(value.strip()) else float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _array(value: Any) -> list[Any] | None:
    found = _parsed(value) if isinstance(value, str) else value
    return list(found) if isinstance(found, (list, tuple)) else None


def _object(value: Any) -> dict[str, Any] | None:
    found = _parsed(value) if isinstance(value, str) else value
    return dict(found) if isinstance(found, Mapping) else None


_COERCE: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "string": _string,
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "array": _array,
        "object": _object,
    }
)
