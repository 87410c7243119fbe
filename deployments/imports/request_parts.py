"""What an operation sends, put together from its parameters and its body as kind `http` can send it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deployments.imports.names import argument_name
from deployments.imports.schemas import Schemas, Unresolvable, example_of
from deployments.nodes.http import FORM
from graph.spec import Argument

_SECRET_HEADER: Final = re.compile(r"authorization|api-?key|token|secret|password|cookie", re.IGNORECASE)
"""As kind `http` sees it: such a header is a secret, which is named and never an argument."""
_NOT_PARAMETERS: Final = frozenset({"accept", "content-type", "authorization"})
"""Header parameters of these names mean nothing, as OpenAPI says."""
_OF_THE_CLIENT: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_SEPARATORS: Final[Mapping[str, str]] = {"form": ",", "spaceDelimited": " ", "pipeDelimited": "|"}
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
MAX_ARGUMENTS: Final = 100


class Inexpressible(ValueError):
    """An operation that kind `http` cannot express; the message says why."""


@dataclass
class RequestParts:
    """The request of one operation, while it is put together."""

    schemas: Schemas
    path: str
    secret_prefix: str
    arguments: dict[str, Argument] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, Any] = field(default_factory=dict)
    wires: dict[str, str] = field(default_factory=dict)
    """Argument to the name that the service has for it."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Variables that must be set, and what for."""
    notes: list[str] = field(default_factory=list)
    _places: dict[str, str] = field(default_factory=dict)

    def add_parameter(self, parameter: Mapping[str, Any]) -> None:
        """Take one parameter. Raises `Inexpressible` for a required one that cannot be sent."""
        name, where = str(parameter.get("name", "")), str(parameter.get("in", ""))
        required = bool(parameter.get("required")) or where == "path"
        try:
            self._add(name, where, required, parameter)
        except (Inexpressible, Unresolvable) as error:
            if required:
                raise Inexpressible(f"{where} parameter {name!r}: {error}") from None
            self.notes.append(f"{where} parameter {name!r} was left out: {error}")

    def _add(self, name: str, where: str, required: bool, parameter: Mapping[str, Any]) -> None:
        if where not in _STYLES or not name:
            raise Inexpressible("parameters are in path, query, header or cookie, and have a name")
        if where == "header" and self._is_special(name, required):
            return
        if where == "cookie":
            raise Inexpressible("kind http sends no cookies but secret ones")
        content = parameter.get("content")
        media: Any = next(iter(content.values()), None) if isinstance(content, Mapping) else None
        inner = media.get("schema") if isinstance(media, Mapping) else None
        schema = self.schemas.merged(parameter.get("schema", inner))
        style = str(parameter.get("style") or _STYLES[where])
        explode = bool(parameter.get("explode", style == "form"))
        if parameter.get("deprecated") and not required:
            raise Inexpressible("it is deprecated")
        if where == "query" and not content and self.schemas.type_of(schema)[0] == "object":
            self._add_fields(name, schema, style, explode, required)
            return
        argument = self._argument(name, where, schema, required, str(parameter.get("description") or ""))
        if (example := example_of(parameter)) is not None:
            self.examples[argument] = example
        self._place(name, where, argument, style, explode, bool(content))

    def _is_special(self, name: str, required: bool) -> bool:
        """Deal with the headers that are not the caller's to set."""
        if name.lower() in _NOT_PARAMETERS:
            return True
        if name.lower() in _OF_THE_CLIENT:
            raise Inexpressible("this header is set by the client itself")
        if not _SECRET_HEADER.search(name):
            return False
        if not required:
            raise Inexpressible("by its name it is a secret; write it under params.headers as ${NAME} if it is needed")
        self.add_secret_header(name, f"header {name}")
        return True

    def add_secret_header(self, name: str, about: str, prefix: str = "") -> None:
        """Send a header whose value is a secret of its own variable."""
        variable = variable_name(self.secret_prefix, name)
        self.secrets[variable] = about
        self.params.setdefault("headers", {})[name.lower()] = f"{prefix}${{{variable}}}"

    def _place(self, name: str, where: str, argument: str, style: str, explode: bool, content: bool) -> None:
        type_ = self.arguments[argument].type
        if where == "path":
            if style != "simple" or type_ in ("array", "object"):
                raise Inexpressible(f"a path takes plain values, and this is {type_} in style {style}")
            self._places[name] = argument
        elif where == "header":
            self.params.setdefault("headers", {})[name.lower()] = f"{{{argument}}}"
        else:
            self.params.setdefault("query", {})[name] = f"{{{argument}}}"
            if type_ == "array" and not explode and not content:
                if style not in _SEPARATORS:
                    raise Inexpressible(f"a list in style {style} cannot be written")
                self.params.setdefault("joined", {})[name] = _SEPARATORS[style]

    def _add_fields(self, name: str, schema: Mapping[str, Any], style: str, explode: bool, required: bool) -> None:
        """Take an object in the query, a field at a time."""
        if style not in ("deepObject", "form") or (style == "form" and not explode):
            raise Inexpressible(f"an object in style {style}{'' if explode else ', not exploded,'} cannot be written")
        fields = self.schemas.fields(schema)
        if not fields:
            raise Inexpressible("an object of any fields in the query cannot be written")
        needed = self.schemas.required(schema)
        for key, value in fields.items():
            inner = self.schemas.merged(value)
            wire = f"{name}[{key}]" if style == "deepObject" else key
            if self.schemas.type_of(inner)[0] == "object":
                self.notes.append(f"query parameter {wire!r} was left out: an object inside an object")
                continue
            argument = self._argument(wire, "query", inner, required and key in needed, "")
            self.params.setdefault("query", {})[wire] = f"{{{argument}}}"

    def add_body(self, body: Mapping[str, Any]) -> None:
        """Take the request's body. Raises `Inexpressible` for a required one that cannot be sent."""
        content = body.get("content")
        content = content if isinstance(content, Mapping) else {}
        try:
            if content:
                self._add_body(content, bool(body.get("required")), str(body.get("description") or ""))
        except (Inexpressible, Unresolvable) as error:
            if body.get("required"):
                raise Inexpressible(f"body: {error}") from None
            self.notes.append(f"the body was left out: {error}")

    def _add_body(self, content: Mapping[str, Any], required: bool, about: str) -> None:
        media = next((m for test in _BODIES for m in content if test(_plain(str(m)))), None)
        if media is None:
            listed = ", ".join(map(str, content))
            raise Inexpressible(f"is sent as {listed}, which kind http does not write: it writes JSON, forms and text")
        type_ = "application/json" if _plain(str(media)) == "*/*" else _plain(str(media))
        found = self.schemas.resolve(content[media])
        schema = self.schemas.merged(found.get("schema", {}) if isinstance(found, Mapping) else {})
        if type_ != "application/json":
            self.params["content_type"] = type_
        fields = self.schemas.fields(schema)
        if type_.startswith("text/") or not fields:
            self._add_whole(schema, required, type_, about)
        else:
            self._add_body_fields(schema, fields, type_, _encoding(found))
        if others := self.schemas.alternatives(schema):
            if fields and len(others) > 1:
                self.notes.append(f"the body is one of {len(others)} forms: it takes the fields of all of them")
        if fields and schema.get("additionalProperties") not in (None, False):
            self.notes.append("the body takes further fields, which cannot be given")

    def _add_whole(self, schema: dict[str, Any], required: bool, type_: str, about: str) -> None:
        if not schema.keys() & {"type", "oneOf", "anyOf", "enum", "items"}:
            schema = schema | {"type": "string" if type_.startswith("text/") else "object"}
        if type_ == FORM and self.schemas.type_of(schema)[0] != "object":
            raise Inexpressible("a form must be an object")
        argument = self._argument("body", "body", schema, required, about)
        self.params["body"] = f"{{{argument}}}"

    def _add_body_fields(
        self, schema: Mapping[str, Any], fields: Mapping[str, Any], type_: str, encoding: Mapping[str, Any]
    ) -> None:
        needed = self.schemas.required(schema)
        body: dict[str, str] = {}
        for key, value in fields.items():
            try:
                inner = self.schemas.merged(value)
                if inner.get("readOnly"):
                    continue
                if type_ == FORM and self.schemas.type_of(inner)[0] == "object":
                    if _style(encoding, key) == "deepObject":
                        self._add_deep(key, inner, body)
                        continue
                    self.notes.append(f"form field {key!r} is an object: it is sent as JSON")
                body[key] = f"{{{self._argument(key, 'body', inner, key in needed, '')}}}"
            except Unresolvable as error:
                if key in needed:
                    raise Inexpressible(f"field {key!r}: {error}") from None
                self.notes.append(f"body field {key!r} was left out: {error}")
        self.params["body"] = body

    def _add_deep(self, name: str, schema: Mapping[str, Any], body: dict[str, str]) -> None:
        for key, value in self.schemas.fields(schema).items():
            argument = self._argument(f"{name}[{key}]", "body", self.schemas.merged(value), False, "")
            body[f"{name}[{key}]"] = f"{{{argument}}}"

    def _argument(self, wire: str, where: str, schema: Mapping[str, Any], required: bool, about: str) -> str:
        if len(self.arguments) >= MAX_ARGUMENTS:
            raise Inexpressible(f"has more than {MAX_ARGUMENTS} arguments")
        name = argument_name(wire, where, self.arguments)
        argument, notes = self.schemas.argument(schema, required=required, about=about)
        self.arguments[name] = argument
        self.wires[name] = wire
        self.notes += [f"{name}: {note}" for note in notes]
        if (example := example_of(schema)) is not None:
            self.examples[name] = example
        return name

    def finished_path(self) -> str:
        """Return the path with its parameters as kind `http` names them.

        Raises `Inexpressible` for a path that is none, or names a parameter that is not declared.
        """
        if not self.path.startswith("/") or "?" in self.path or "#" in self.path:
            raise Inexpressible(f"the path {self.path!r} must begin with '/' and hold no '?' and no '#'")
        unknown = [name for name in _PLACE.findall(self.path) if name not in self._places]
        if unknown:
            raise Inexpressible(f"the path holds {{{unknown[0]}}}, and no path parameter is declared by that name")
        for name in self._places.keys() - set(_PLACE.findall(self.path)):
            argument = self._places[name]
            del self.arguments[argument]
            self.notes.append(f"path parameter {name!r} was left out: it is not in the path")
        return _PLACE.sub(lambda match: "{" + self._places[match[1]] + "}", self.path)


def variable_name(*parts: str) -> str:
    """Return the name of an environment variable made of words."""
    name = re.sub(r"[^A-Z0-9]+", "_", "_".join(filter(None, parts)).upper()).strip("_")
    return name if name[:1].isalpha() else f"_{name}"


def _plain(media: str) -> str:
    return media.partition(";")[0].strip().lower()


_BODIES: Final = (
    lambda media: media in ("application/json", "*/*", "application/*"),
    lambda media: bool(re.fullmatch(r"application/[\w.-]+\+json", media)),
    lambda media: media == FORM,
    lambda media: bool(re.fullmatch(r"text/[\w.+-]+", media)),
)
"""What kind `http` can write, best first."""


def _encoding(media: Any) -> Mapping[str, Any]:
    found = media.get("encoding") if isinstance(media, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _style(encoding: Mapping[str, Any], key: str) -> str:
    found = encoding.get(key)
    return str(found.get("style", "form")) if isinstance(found, Mapping) else "form"
