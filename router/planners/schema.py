"""The JSON schema of a plan on one graph: only its nodes, and for each node only its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graph.spec import Argument, NodeSpec

MAX_PLANNED_TASKS = 16
"""Tasks that a language model may plan for one request."""

_REFERENCE = {
    "type": "object",
    "properties": {"$ref": {"type": "string", "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"}},
    "required": ["$ref"],
    "additionalProperties": False,
}


def plan_schema(specs: Sequence[NodeSpec]) -> dict[str, Any]:
    """Return the schema that an answer must fit; `$ref` objects stand for outputs and attachments."""
    return {
        "type": "object",
        "properties": {
            "tasks": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PLANNED_TASKS,
                "items": {"anyOf": [_task(spec) for spec in specs]},
            },
        },
        "required": ["tasks"],
        "additionalProperties": False,
    }


def response_format(specs: Sequence[NodeSpec]) -> dict[str, Any]:
    """Return OpenAI's `response_format` for a plan."""
    return {"type": "json_schema", "json_schema": {"name": "plan", "schema": plan_schema(specs)}}


def _task(spec: NodeSpec) -> dict[str, Any]:
    signature = spec.signature()
    arguments = {
        "type": "object",
        "properties": {name: _value(name, argument, spec) for name, argument in signature.items()},
        "required": [name for name, argument in signature.items() if argument.required and argument.default is None],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^t[0-9]{1,3}$"},
            "node": {"const": spec.name},
            "arguments": arguments,
        },
        "required": ["id", "node", "arguments"],
        "additionalProperties": False,
    }


def _value(name: str, argument: Argument, spec: NodeSpec) -> dict[str, Any]:
    if not spec.is_tool and name in ("audio", "image"):
        return _REFERENCE
    if not spec.is_tool and name == "context":
        return {"type": "array", "items": {"anyOf": [_REFERENCE, {"type": "string"}]}}
    literal = {"enum": list(argument.enum)} if argument.enum else {"type": argument.type}
    return {"anyOf": [literal, _REFERENCE]}
