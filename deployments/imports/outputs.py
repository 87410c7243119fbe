"""The fields of an answer, as a node declares them, read off the schema of the answer."""

from __future__ import annotations

from typing import Any, Final

from deployments.imports.schemas import Schemas, Unresolvable
from graph.spec import MAX_PATH

MAX_OUTPUTS: Final = 60
"""Fields of one answer; of more, those nearest to its top are kept."""
_MAX_DEPTH: Final = 4
_MAX_DESCRIPTION: Final = 200


def declared_outputs(schemas: Schemas, schema: Any) -> dict[str, dict[str, Any]]:
    """Return the fields by path; of a list, those of its first item."""
    found: dict[str, dict[str, Any]] = {}
    open_: list[tuple[tuple[str, ...], Any]] = [((), schema)]
    while open_ and len(found) < MAX_OUTPUTS:
        path, value = open_.pop(0)
        try:
            merged = schemas.merged(value)
            fields = schemas.fields(merged)
        except Unresolvable:
            continue
        type_ = schemas.type_of(merged)[0]
        if len(".".join(path)) > MAX_PATH:
            continue
        if path and not path[-1].isdecimal():
            words = " ".join(str(merged.get("description") or "").split())[:_MAX_DESCRIPTION]
            found[".".join(path)] = {"type": type_} | ({"description": words} if words else {})
        if len(path) > _MAX_DEPTH:
            continue
        if type_ == "array" and "items" in merged:
            open_.append(((*path, "0"), merged["items"]))
        open_ += [((*path, name), inner) for name, inner in fields.items() if _tells(name, inner)]
    return found


def _tells(name: str, schema: Any) -> bool:
    """Whether a field is in answers, and its name can stand in a path."""
    hidden = isinstance(schema, dict) and schema.get("writeOnly")
    return not hidden and bool(name) and "." not in name and not any(map(str.isspace, name)) and not name.isdecimal()
