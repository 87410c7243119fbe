"""Each operation of an OpenAPI document becomes a node of kind `http`, or a reason why it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urljoin

from deployments.imports.hints import Interface, feeds, interface, output_fields
from deployments.imports.names import node_name, words_of
from deployments.imports.outputs import declared_outputs
from deployments.imports.report import Imported, Left, Made, with_feeds
from deployments.imports.request_parts import Inexpressible, RequestParts
from deployments.imports.schemas import Schemas, Unresolvable
from deployments.imports.security import add_security
from deployments.nodes.http import HttpNode
from graph.loader import check_document
from graph.spec import NodeSpec

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_UNSENT: Final = frozenset({"options", "head", "trace"})
_ONCE: Final = frozenset({"post", "patch"})
"""Methods that may do their work twice when they are sent twice."""
_KINDS: Final[Mapping[str, Any]] = {"http": HttpNode}
_MAX_DESCRIPTION: Final = 1000
_MAX_EXAMPLE_VALUES: Final = 3


@dataclass(frozen=True, slots=True)
class Selection:
    """Which operations are wanted, and how their nodes are called and reached."""

    prefix: str = ""
    server: str | None = None
    include: tuple[str, ...] = ()
    """Patterns (`*order*`) of which one must fit the node's name, the operation's id or `GET /path`."""
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    item: Mapping[str, Any]
    given: Mapping[str, Any]

    @property
    def source(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def id(self) -> str:
        """The operation's id, without the path and the method that some frameworks put behind it."""
        given = str(self.given.get("operationId") or "")
        return given.removesuffix(f"{re.sub(r'[^A-Za-z0-9_]', '_', self.path)}_{self.method}") or given


@dataclass
class _Import:
    document: Mapping[str, Any]
    source: str
    selection: Selection
    schemas: Schemas
    made: dict[str, Made] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    summaries: set[str] = field(default_factory=set)
    unselected: int = 0


def import_openapi(document: Mapping[str, Any], source: str, selection: Selection | None = None) -> Imported:
    """Make nodes of a document's operations. `source` is where it was read: relative servers begin there.

    What cannot be expressed is in the report, an operation at a time; nothing stops the others.
    """
    work = _Import(document, source, selection or Selection(), Schemas(document))
    for operation in _operations(work):
        _take(work, operation)
    made = with_feeds(work.made, feeds(work.interfaces))
    return Imported(_title(document), made, tuple(work.left), work.unselected, work.secrets)


def _operations(work: _Import) -> Iterator[_Operation]:
    for path, item in work.document["paths"].items():
        try:
            item = work.schemas.resolve(item)
        except Unresolvable as error:
            work.left.append(Left(str(path), str(error)))
            continue
        if not isinstance(item, Mapping):
            if not str(path).startswith("x-"):
                work.left.append(Left(str(path), "is no mapping of methods to operations"))
            continue
        for method in METHODS:
            if method in item:
                given = item[method]
                yield _Operation(method, str(path), item, given if isinstance(given, Mapping) else {})


def _take(work: _Import, operation: _Operation) -> None:
    name = _name(work, operation)
    if not _wanted(work.selection, operation, name):
        work.unselected += 1
        return
    parts = RequestParts(work.schemas, operation.path, work.selection.prefix or _title(work.document))
    try:
        spec, outputs = _spec(work, operation, name, parts)
    except (Inexpressible, Unresolvable) as error:
        work.left.append(Left(operation.source, str(error)))
        return
    checked, problems = check_document(spec, _KINDS, name)
    if checked is None:
        reasons = "; ".join(f"{problem.key}: {problem.message}" for problem in problems[:5])
        work.left.append(Left(operation.source, f"kind http refuses it: {reasons}"))
        return
    required = {parts.wires[n]: "path" if f"{{{n}}}" in spec["params"]["path"] else "" for n in _required(checked)}
    work.interfaces.append(interface(name, operation.path, required, outputs))
    work.secrets |= parts.secrets
    work.made[name] = Made(operation.source, checked, tuple(parts.notes))


def _name(work: _Import, operation: _Operation) -> str:
    """Return the operation's id as a name; with the path where another operation has that id, too."""
    prefix = work.selection.prefix
    name = node_name(operation.id or f"{operation.method} {operation.path}", prefix, ())
    return name if name not in work.made else node_name(f"{operation.id} {operation.path}", prefix, work.made)


def _wanted(selection: Selection, operation: _Operation, name: str) -> bool:
    if selection.tags and not selection.tags & set(map(str, operation.given.get("tags") or ())):
        return False
    names = (name, operation.id, operation.source)
    return not selection.include or any(fnmatchcase(n, pattern) for n in names for pattern in selection.include)


def _required(spec: NodeSpec) -> list[str]:
    return [name for name, argument in spec.arguments.items() if argument.required and argument.default is None]


def _spec(
    work: _Import, operation: _Operation, name: str, parts: RequestParts
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    given = operation.given
    if operation.method in _UNSENT:
        raise Inexpressible(f"kind http does not send {operation.method.upper()}: its answer has no content")
    if given.get("deprecated"):
        parts.notes.append("the operation is deprecated")
    if operation.id and name != (wanted := node_name(operation.id, work.selection.prefix, ())):
        parts.notes.append(f"the name {wanted!r} is taken by another operation")
    for parameter in _parameters(work.schemas, operation):
        parts.add_parameter(parameter)
    body = work.schemas.resolve(given.get("requestBody"))
    if isinstance(body, Mapping):
        if operation.method in ("get", "delete") and not body.get("required"):
            parts.notes.append("its body was left out: with this method it means nothing")
        else:
            parts.add_body(body)
    schemes = (work.document.get("components") or {}).get("securitySchemes") or {}
    api_key = add_security(parts, given.get("security", work.document.get("security")), schemes)
    produces, answer = _answer(work.schemas, given, parts)
    path = parts.finished_path()
    summary = _words(given.get("summary")) or _words(operation.item.get("summary"))
    spec: dict[str, Any] = {
        "name": name,
        "kind": "http",
        "description": _description(operation, summary),
        "produces": [produces],
        "examples": _examples(work, summary, parts),
        "endpoint": _server(work, operation),
        "arguments": {key: argument.model_dump(exclude_defaults=True) for key, argument in parts.arguments.items()},
        "params": {"method": operation.method.upper(), "path": path, **parts.params},
    }
    if outputs := declared_outputs(work.schemas, answer):
        spec["outputs"] = outputs
    if api_key:
        spec["api_key"] = api_key
    if operation.method in _ONCE:
        spec["idempotent"] = False
    return spec, output_fields(work.schemas, answer)


def _parameters(schemas: Schemas, operation: _Operation) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters: those of the operation win over those of its path."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for given in (operation.item.get("parameters"), operation.given.get("parameters")):
        for item in given if isinstance(given, list) else ():
            parameter = schemas.resolve(item)
            if isinstance(parameter, Mapping):
                found[str(parameter.get("in")), str(parameter.get("name"))] = parameter
    yield from found.values()


def _answer(schemas: Schemas, given: Mapping[str, Any], parts: RequestParts) -> tuple[str, Any]:
    """Return what the node produces, and the schema of its answer. Raises `Inexpressible` for bytes."""
    responses = given.get("responses")
    responses = responses if isinstance(responses, Mapping) else {}
    good = sorted((str(code), value) for code, value in responses.items() if str(code).upper().startswith("2"))
    for _, value in good or [("default", responses.get("default"))]:
        try:
            response = schemas.resolve(value)
        except Unresolvable as error:
            parts.notes.append(f"its answer is not known: {error}")
            continue
        content = response.get("content") if isinstance(response, Mapping) else None
        if not isinstance(content, Mapping) or not content:
            continue
        for media, inner in content.items():
            if "json" in str(media) or str(media) == "*/*":
                return "json", inner.get("schema") if isinstance(inner, Mapping) else None
        if any(
            re.match(r"text/(?!event-stream)|application/(.*\+)?(xml|yaml|javascript|x-ndjson|csv)", str(m))
            for m in content
        ):
            return "text", None
        raise Inexpressible(f"it answers with {', '.join(map(str, content))}; kind http reads JSON and text")
    return "text", None


def _description(operation: _Operation, summary: str) -> str:
    rest = _words(operation.given.get("description")) or _words(operation.item.get("description"))
    text = summary.rstrip(".")
    if rest:
        text = rest if rest.startswith(text) else f"{text}. {rest}"
    text = text or f"{' '.join(words_of(operation.id)).capitalize()} ({operation.source})".lstrip()
    return text if len(text) <= _MAX_DESCRIPTION else text[: _MAX_DESCRIPTION - 1] + "…"


def _examples(work: _Import, summary: str, parts: RequestParts) -> list[str]:
    """Return how somebody would ask for it: its summary, and the same with values that the document shows."""
    if len(summary.split()) < 2 or summary.lower() in work.summaries or len(summary) > 200:
        return []  # words that several operations share lead to none of them
    work.summaries.add(summary.lower())
    shown = [f"{n.replace('_', ' ')} {value}" for n, value in parts.examples.items() if n in parts.arguments]
    asked = summary.rstrip(".")
    return [asked, f"{asked}: {', '.join(shown[:_MAX_EXAMPLE_VALUES])}"] if shown else [asked]


def _server(work: _Import, operation: _Operation) -> str:
    if work.selection.server:
        return work.selection.server.rstrip("/")
    for given in (operation.given, operation.item, work.document):
        servers: Sequence[Any] = given["servers"] if isinstance(given.get("servers"), list) else ()
        for server in servers:
            if isinstance(server, Mapping) and (url := _filled(server)):
                return _absolute(url, work.source)
    return _absolute("/", work.source)


def _filled(server: Mapping[str, Any]) -> str:
    variables = server.get("variables")
    variables = variables if isinstance(variables, Mapping) else {}

    def default(match: re.Match[str]) -> str:
        found = variables.get(match[1])
        return str(found.get("default", "")) if isinstance(found, Mapping) else match[0]

    return re.sub(r"\{([^{}]+)\}", default, str(server.get("url", "")))


def _absolute(url: str, source: str) -> str:
    if source.startswith(("http://", "https://")):
        url = urljoin(source, url)
    if not url.startswith(("http://", "https://")):
        raise Inexpressible(f"its server is {url!r}, which is no address; name it with --server")
    return url.rstrip("/")


def _title(document: Mapping[str, Any]) -> str:
    info = document.get("info")
    return str(info.get("title") or "") if isinstance(info, Mapping) else ""


def _words(value: Any) -> str:
    """Return a text on one line, without the marks of HTML."""
    return " ".join(re.sub(r"<[^<>]{1,100}>", " ", value).split()) if isinstance(value, str) else ""
