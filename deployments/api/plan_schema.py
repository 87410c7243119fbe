"""The JSON schema of a plan, for the OpenAPI document. What is wrong with a plan is said by `graph.plan` itself."""

from __future__ import annotations

from typing import Any, Final

from graph.budget import Budget
from graph.expressions.parser import MAX_LENGTH
from graph.plan import MAX_REPLANS, MAX_TASKS
from graph.task import MAX_ITEMS, MAX_ITERATIONS

_EXPRESSION: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH}
_REFERENCE: Final[dict[str, Any]] = {
    "type": "object",
    "description": '{"$ref": "t1.field"} or {"$expr": "t1.score > 0.5"}',
    "properties": {"$ref": {"type": "string"}, "$expr": _EXPRESSION},
    "additionalProperties": False,
}
_LIST: Final[dict[str, Any]] = {"anyOf": [{"type": "array", "items": {}, "maxItems": MAX_ITEMS}, _REFERENCE]}
_MAP: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"over": _LIST, "parallel": {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS}},
    "required": ["over"],
    "additionalProperties": False,
}
_REPEAT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"until": _EXPRESSION, "max": {"type": "integer", "minimum": 1, "maximum": MAX_ITERATIONS}},
    "required": ["until", "max"],
    "additionalProperties": False,
}
_TASK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "node": {"type": "string"},
        "arguments": {"type": "object", "description": "Values, references and expressions."},
        "when": {**_EXPRESSION, "description": "The task is skipped when this is false."},
        "map": {"anyOf": [*_LIST["anyOf"], _MAP], "description": "Run the task for each item of a list."},
        "repeat": {**_REPEAT, "description": "Run the task until this holds of its output."},
        "expect": {**_EXPRESSION, "description": "The task has failed when this does not hold of its output."},
        "composes": {"type": "array", "items": {"type": "string"}, "description": "Write an answer from these tasks."},
        "idempotent": {
            "type": "boolean",
            "description": "If false it is never asked for twice, after a crash neither.",
        },
    },
    "required": ["id", "node"],
    "additionalProperties": False,
}
PLAN: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": {"type": "array", "items": _TASK, "minItems": 1, "maxItems": MAX_TASKS},
        "links": {"type": "array", "items": {}, "description": "Read from the tasks; what is given is not looked at."},
        "output": {"type": "string"},
        "planner": {"type": "string"},
        "answer": {"type": "array", "items": {"type": "string"}},
        "missing": {"type": "array", "items": {"type": "string"}},
        "budget": {
            "type": "object",
            "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in Budget.__dataclass_fields__},
            "additionalProperties": False,
        },
        "replan": {"type": "integer", "minimum": 0, "maximum": MAX_REPLANS},
        "template": {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]},
        "elapsed_ms": {"type": "number"},
    },
    "required": ["tasks"],
    "additionalProperties": False,
}
