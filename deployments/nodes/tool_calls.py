"""Forced tool calls: `tool_choice` required or naming a function, made certain by constrained decoding.

Works with any model: the answer is held to a JSON schema of the allowed calls, then handed on as a tool call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from graph.errors import InvalidRequest

Tool = Mapping[str, Any]


def functions_of(params: Mapping[str, Any], *, node: str) -> list[Tool]:
    """Return the functions that a call offers. Raises `InvalidRequest` if `tools` is not in OpenAI's form."""
    tools = params.get("tools") or []
    if not isinstance(tools, list) or not all(_is_function(tool) for tool in tools):
        raise InvalidRequest(
            'tools must be a list of {"type": "function", "function": {"name", "description", "parameters"}}',
            param="tools",
            node=node,
        )
    return [tool["function"] for tool in tools]


def _is_function(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("parameters", {}), Mapping)
    )


def forced_functions(functions: Sequence[Tool], choice: Any, *, node: str) -> list[Tool]:
    """Return the functions of which one must be called; empty if the model may choose to call none.

    Raises `InvalidRequest` for a choice that is unknown, or that names a function which is not offered.
    """
    if choice in (None, "auto", "none"):
        return []
    if choice == "required" and functions:
        return list(functions)
    name = choice["function"].get("name") if _is_function(choice) else None
    named = [function for function in functions if function["name"] == name]
    if not named:
        offered = ", ".join(function["name"] for function in functions) or "none"
        raise InvalidRequest(
            f"tool_choice must be none, auto, required or name an offered function; offered: {offered}",
            param="tool_choice",
            node=node,
        )
    return named


def call_schema(functions: Sequence[Tool]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of the functions."""
    shapes = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}


def call_instructions(functions: Sequence[Tool]) -> str:
    """Return what to tell the model so that it knows the functions and the form of the answer."""
    listed = "\n".join(json.dumps(dict(function), ensure_ascii=False) for function in functions)
    return (
        f"Answer with a call of one of these functions and nothing else:\n{listed}\n"
        'The form is {"name": <function name>, "arguments": <object of arguments>}.'
    )


def tool_call(answer: str) -> Mapping[str, Any]:
    """Turn the constrained answer into OpenAI's streamed form of a tool call. Raises `ValueError` if it was cut."""
    data = json.loads(answer)
    return {
        "index": 0,
        "id": f"call_{uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": data["name"], "arguments": json.dumps(data["arguments"], ensure_ascii=False)},
    }
