"""JSON schemas, as documents and tool servers write them, brought to the typed arguments that a node can have.

References are followed inside the document only, and every walk is bounded: schemas may refer to themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote

from graph.spec import Argument

ArgumentType: TypeAlias = Literal["string", "integer", "number", "boolean", "array", "object"]
TYPES: Final = ("string", "integer", "number", "boolean", "array", "object")
MAX_REFERENCES: Final = 50
"""References in a row."""
MAX_PARTS: Final = 200
"""Parts that one schema may be put together from."""
MAX_ENUM: Final = 200
MAX_NESTED: Final = 5
"""Alternatives within alternatives."""
_MAX_DEPTH: Final = 2
"""How deep inner fields are described in words."""
_MAX_WORDS: Final = 500
_MAX_FIELDS: Final = 12


class Unresolvable(ValueError):
    """A reference that leads nowhere inside the document, or round in circles."""


class Schemas:
    """The schemas of one document."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def resolve(self, value: Any) -> Any:
        """Follow `$ref` until something else stands there. Raises `Unresolvable`.

        What stands beside a reference is kept, and wins, as OpenAPI 3.1 has it.
        """
        beside: dict[str, Any] = {}
        for _ in range(MAX_REFERENCES):
            if not isinstance(value, Mapping) or not isinstance(value.get("$ref"), str):
                return {**value, **beside} if beside and isinstance(value, Mapping) else value
            beside = {**{k: v for k, v in value.items() if k != "$ref"}, **beside}
            value = self._target(value["$ref"])
        raise Unresolvable(f"the reference {value.get('$ref')!r} goes round in circles")

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise Unresolvable(
                f"{reference!r} refers to another document; only references inside this one are followed"
            )
        found = self._document
        for step in unquote(reference[1:]).strip("/").split("/") if reference != "#" else ():
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and step in found:
                found = found[step]
            elif isinstance(found, Mapping) and step.isdecimal() and int(step) in found:  # YAML's reading of a status
                found = found[int(step)]
            elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise Unresolvable(f"the reference {reference!r} leads nowhere")
        return found

    def merged(self, schema: Any) -> dict[str, Any]:
        """Return a schema without `$ref` and `allOf`: their parts put together, required fields added up.

        Raises `Unresolvable`, for a schema that holds itself, too.
        """
        found: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[str] = []
        for part in self._parts(schema):
            if isinstance(part.get("properties"), Mapping):
                properties |= {str(name): value for name, value in part["properties"].items()}
            if isinstance(part.get("required"), list):
                required += [str(name) for name in part["required"] if name not in required]
            found |= {key: value for key, value in part.items() if key not in found}
        if properties:
            found["properties"] = properties
        if required:
            found["required"] = required
        found.pop("allOf", None)
        return found

    def _parts(self, schema: Any) -> Iterator[Mapping[str, Any]]:
        open_parts, count = [schema], 0
        while open_parts:
            count += 1
            if count > MAX_PARTS:
                raise Unresolvable(f"a schema is put together from more than {MAX_PARTS} parts, or from itself")
            part = self.resolve(open_parts.pop(0))
            if isinstance(part, Mapping):  # true and false are schemas, too, and say nothing of a value
                yield part
                inner = part.get("allOf")
                open_parts[:0] = inner if isinstance(inner, list) else []

    def alternatives(self, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what `oneOf` and `anyOf` of a merged schema offer, without the one that only allows null."""
        found: list[dict[str, Any]] = []
        open_: list[tuple[Any, int]] = [(item, 1) for item in _offered(schema)]
        while open_ and len(found) < MAX_PARTS:
            item, depth = open_.pop(0)
            merged = self.merged(item)
            if (inner := _offered(merged)) and depth < MAX_NESTED:
                open_[:0] = [(other, depth + 1) for other in inner]
            elif merged.get("type") != "null":
                found.append(merged)
        return found

    def type_of(self, schema: Mapping[str, Any]) -> tuple[ArgumentType, str | None]:
        """Return the argument type that a merged schema comes to, and what was lost on the way."""
        names = _named(schema)
        if not names:
            names = list(dict.fromkeys(name for other in self.alternatives(schema) for name in _types(other)))
        if len(names) < 2:
            return (names or _types(schema))[0], None
        if set(names) == {"integer", "number"}:
            return "number", None
        chosen: ArgumentType = "string" if "string" in names else names[0]
        return chosen, f"may be {' or '.join(names)}; taken as {chosen}"

    def argument(self, schema: Any, *, required: bool, about: str = "") -> tuple[Argument, list[str]]:
        """Return a schema as an argument, and what could not be said of it."""
        merged = self.merged(schema)
        type_, lost = self.type_of(merged)
        notes = [lost] if lost else []
        values, left_out = self._enum(merged, type_)
        notes += left_out
        argument = Argument(type=type_, required=required, enum=tuple(values), description="")
        default = merged.get("default", values[0] if "const" in merged and values else None)
        if default is not None and (not argument.admits(default) or (values and default not in values)):
            notes.append(f"its default {_short(default)} does not fit its schema and was left out")
            default = None
        words = _joined(about or str(merged.get("description") or ""), self._shape(merged, type_))
        return argument.model_copy(update={"default": default, "description": words}), notes

    def _enum(self, schema: Mapping[str, Any], type_: ArgumentType) -> tuple[list[Any], list[str]]:
        lists = [_values(schema)] if _values(schema) else [_values(other) for other in self.alternatives(schema)]
        probe = Argument(type=type_)
        given = [value for values in lists for value in values] if all(lists) else []
        values = [value for value in given if value is not None and probe.admits(value)]
        if len(values) > MAX_ENUM:
            return [], [f"its {len(values)} allowed values were left out; at most {MAX_ENUM} are kept"]
        return values, []

    def _shape(self, schema: Mapping[str, Any], type_: ArgumentType) -> str:
        """Say in words what an argument's type alone does not."""
        if type_ in ("object", "array"):
            return self.words(schema, _MAX_DEPTH)
        if schema.get("format") and type_ in ("string", "integer", "number"):
            return str(schema["format"])
        return ""

    def words(self, schema: Any, depth: int) -> str:
        """Describe a schema in words: `object of street (string, required), city (string)`."""
        try:
            merged = self.merged(schema)
        except Unresolvable:
            return "anything"
        type_, _ = self.type_of(merged)
        if type_ == "array":
            inner = self.words(merged.get("items", {}), depth - 1) if depth > 0 else ""
            return f"list of {inner}" if inner else "list"
        if type_ != "object":
            allowed = self._enum(merged, type_)[0]
            return f"{type_} ({' | '.join(map(str, allowed[:10]))})" if allowed else type_
        fields = self.fields(merged)
        if not fields or depth <= 0:
            return "object"
        needed = set(merged.get("required", ()))
        inner = ", ".join(
            f"{name} ({self.words(value, depth - 1)}{', required' if name in needed else ''})"
            for name, value in list(fields.items())[:_MAX_FIELDS]
        )
        return f"object of {inner}"

    def fields(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a merged schema, those of its alternatives included."""
        found: dict[str, Any] = {}
        for other in self.alternatives(schema):
            inner = other.get("properties")
            if isinstance(inner, Mapping):
                found |= {name: value for name, value in inner.items() if name not in found}
        own = schema.get("properties")
        return found | (dict(own) if isinstance(own, Mapping) else {})

    def required(self, schema: Mapping[str, Any]) -> set[str]:
        """Return the fields that a merged schema requires, whichever of its alternatives is meant."""
        own = set(schema.get("required") or ())
        others = [set(other.get("required") or ()) for other in self.alternatives(schema)]
        return own | (set.intersection(*others) if others else set())


def example_of(schema: Mapping[str, Any]) -> Any:
    """Return a value that a schema or a parameter shows as an example, if it is short; None otherwise."""
    examples = schema.get("examples")
    given = [schema.get("example")]
    if isinstance(examples, list):
        given += examples
    elif isinstance(examples, Mapping):
        given += [item.get("value") for item in examples.values() if isinstance(item, Mapping)]
    given.append(schema.get("default"))
    given += schema["enum"][:1] if isinstance(schema.get("enum"), list) else []
    plain = (value for value in given if isinstance(value, str | int | float) and not isinstance(value, bool))
    return next((value for value in plain if str(value).strip() and len(str(value)) < 60), None)


def _offered(schema: Mapping[str, Any]) -> list[Any]:
    found = schema.get("oneOf") or schema.get("anyOf")
    return found if isinstance(found, list) else []


def _named(schema: Mapping[str, Any]) -> list[ArgumentType]:
    named = schema.get("type")
    return [name for name in (named if isinstance(named, list) else [named]) if name in TYPES]


def _values(schema: Mapping[str, Any]) -> list[Any]:
    found = [schema["const"]] if "const" in schema else schema.get("enum")
    return found if isinstance(found, list) else []


def _types(schema: Mapping[str, Any]) -> list[ArgumentType]:
    """Return the types that a schema names, or the one that it implies."""
    if named := _named(schema):
        return named
    if "properties" in schema or "additionalProperties" in schema:
        return ["object"]
    if "items" in schema:
        return ["array"]
    values = [value for value in _values(schema) if value is not None]
    scalars: tuple[ArgumentType, ...] = ("boolean", "integer", "number")
    return [next((name for name in scalars if values and all(map(Argument(type=name).admits, values))), "string")]


def _joined(about: str, shape: str) -> str:
    text = " ".join(about.split())
    text = text if len(text) <= _MAX_WORDS else text[: _MAX_WORDS - 1] + "…"
    shape = shape if len(shape) <= _MAX_WORDS else shape[: _MAX_WORDS - 1] + "…"
    return f"{text} ({shape})" if text and shape else text or shape


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
