"""Reads one tool, in any of the forms that tool descriptions come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graph.errors import InvalidRequest
from router.planners.toolset import ANY, Output, Parameter, Tool

_TYPES = {
    "str": "string", "string": "string", "date": "string", "time": "string", "url": "string", "uri": "string",
    "int": "integer", "integer": "integer", "long": "integer", "float": "number", "number": "number",
    "double": "number", "bool": "boolean", "boolean": "boolean", "list": "array", "array": "array", "tuple": "array",
    "arraylist": "array", "dict": "object", "object": "object", "hashmap": "object",
}  # fmt: skip
_PARAMETERS = ("parameters", "arguments", "query_parameters", "path_parameters", "body_parameters", "input_schema")
_OUTPUTS = ("output_parameters", "outputs", "output_schema", "returns")


def tool_of(item: Any, where: str) -> Tool:
    """Read one tool; raises `InvalidRequest` that says what is wrong `where`."""
    if isinstance(item, Mapping) and isinstance(item.get("function"), Mapping):
        item = item["function"]
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"{where} is a {type(item).__name__}; a tool is {{name, description, …}}", param="tools")
    name = item.get("name", item.get("id"))
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{where}: name must be a text; got {name!r}", param="tools")
    description = item.get("description", item.get("desc")) or ""
    if not isinstance(description, str):
        raise InvalidRequest(f"{where}: description must be a text; got {description!r}", param="tools")
    parameters = [found for key in _PARAMETERS for found in _parameters(item.get(key), f"{where}: {key}")]
    outputs = [found for key in _OUTPUTS for found in _outputs(item.get(key), (), f"{where}: {key}")]
    return Tool(
        name,
        description,
        tuple({found.name: found for found in parameters}.values()),
        tuple(outputs),
        frozenset(str(kind).lower() for kind in _listed(item, "input-type")),
        frozenset(str(kind).lower() for kind in _listed(item, "output-type")),
    )


def _parameters(declared: Any, where: str) -> Iterator[Parameter]:
    """Read a JSON schema, a mapping of names, or a list of `{name, type, desc}`."""
    if not declared:
        return
    needed: set[str] | None = None
    if isinstance(declared, Mapping) and isinstance(declared.get("properties"), Mapping):
        listed = declared.get("required")
        needed = {str(name) for name in listed} if isinstance(listed, list) else None
        declared = declared["properties"]
    if isinstance(declared, list):
        declared = {item.get("name"): item for item in declared if isinstance(item, Mapping)}
    if not isinstance(declared, Mapping):
        raise InvalidRequest(f"{where} must be an object of parameters; got {declared!r}", param="tools")
    for name, item in declared.items():
        item = item if isinstance(item, Mapping) else {"description": str(item)}
        wanted = item.get("required", not item.get("optional", False)) if needed is None else str(name) in needed
        yield Parameter(
            str(name),
            kind_of(item.get("type")),
            str(item.get("description", item.get("desc")) or ""),
            wanted if isinstance(wanted, bool) else True,
            item.get("default", item.get("default_value")),
            _listed(item, "enum", "possible_values", "allowed_values"),
            tuple(_parameters(item if isinstance(item.get("properties"), Mapping) else None, where)),
        )


def _outputs(declared: Any, path: tuple[str, ...], where: str) -> Iterator[Output]:
    """Read the fields of an output, those inside of objects after the objects themselves."""
    if isinstance(declared, Mapping) and isinstance(declared.get("properties"), Mapping):
        declared = declared["properties"]
    if not isinstance(declared, Mapping) or len(path) > 4:
        return
    for name, item in declared.items():
        item = item if isinstance(item, Mapping) else {}
        here = (*path, str(name))
        yield Output(here, kind_of(item.get("type")), str(item.get("description") or ""))
        inner = item.get("items") if isinstance(item.get("items"), Mapping) else item
        if isinstance(inner, Mapping) and isinstance(inner.get("properties"), Mapping):
            yield from _outputs(inner, here, where)


def _listed(item: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    """Return the first of these fields that is a list with something in it."""
    return next((tuple(item[key]) for key in keys if isinstance(item.get(key), list) and item[key]), ())


def kind_of(declared: Any) -> str:
    """Return the JSON type that a declared type means; `any` for one that nobody knows."""
    if isinstance(declared, list):
        declared = next((kind for kind in declared if kind != "null"), None)
    return _TYPES.get(str(declared).lower().split("[")[0].split("<")[0].strip(), ANY)
