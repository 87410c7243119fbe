"""How large a schema may be that an answer is held to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deployments.nodes.schema_bounds import check_schema
from graph.errors import InvalidRequest


def within(schema: Any) -> None:
    check_schema({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, "response_format", "n")


def items(count: int, inner: Any) -> dict[str, Any]:
    return {"type": "array", "minItems": count, "items": inner}


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"v{i}" for i in range(100_000)]},
        {"enum": ["v" * 100_000]},
        {"const": "v" * 100_000},
        {"anyOf": [{"type": "string"}] * 1000},
        items(200, items(200, items(200, {"type": "integer"}))),
        items(100_000, {"type": "string"}) | {"minItems": 1, "maxItems": 100_000},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}},
        json.loads('{"items":' * 240 + "{}" + "}" * 240),
        json.loads('{"anyOf":[' * 400 + "{}" + "]}" * 400),
    ],
    ids=["values", "value", "const", "choices", "nested", "items", "fields", "deep", "deep-choices"],
)
def test_a_schema_that_would_keep_a_model_busy_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="the schema is too large") as caught:
        within(schema)
    assert caught.value.param == "response_format"


def test_schemas_as_people_write_them() -> None:
    check_schema(None, "tools", "n")
    within({"enum": [f"country {i}" for i in range(250)]})
    text = {"type": "string", "description": "long words " * 1000, "maxLength": 10**6}
    within({"type": "object", "properties": {f"p{i}": text for i in range(200)}, "required": ["p1"]})
    within(items(20, {"type": "object", "properties": {"a": text, "b": {"enum": ["x", "y"]}}}))
    one = {
        "name": "f",
        "description": "d" * 5000,
        "parameters": {"type": "object", "properties": {"a": text, "b": text}},
    }
    check_schema([{"type": "function", "function": one}] * 128, "tools", "n")
