"""YAML in, `NodeSpec`s out; every problem of every document in one error, never only the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from graph.errors import InvalidSpec, Problem
from graph.node import KindRegistry
from graph.plain_yaml import PlainLoader, SafeLoader
from graph.spec import MAX_PATH, SECRET, Argument, NodeSpec, Output

MAX_BYTES = 1_000_000
"""Largest document that is parsed; a node's YAML is a page, not a book."""
MAX_DEPTH = 20
MAX_EVENTS = 50_000
"""Keys and values of a document; the most examples that a node may have are a fifth of it."""
MAX_NUMBER = 40
"""Characters of a number: YAML's other notations of long ones take minutes to read."""
MAX_PROBLEMS = 100
"""Problems that are reported of one document."""
PYTHON_WORDS = {"valid tuple": "list", "valid dictionary": "mapping", "valid string": "text"}
"""What pydantic calls the shapes of YAML, and what a writer of YAML does."""
_NAMED: Mapping[str, type[BaseModel]] = {"arguments": Argument, "outputs": Output}
"""What stands under names that a declaration makes up."""
_SECRET_WORDS = ("key", "secret", "token", "password", "header", "auth", "credential", "cookie")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a set of files declares, and what is wrong with them."""

    specs: tuple[NodeSpec, ...]
    problems: tuple[Problem, ...]
    sources: Mapping[str, str]
    """Node name to the file and document that declares it."""

    def require(self) -> tuple[NodeSpec, ...]:
        """Return the specs, or raise `InvalidSpec` with every problem."""
        if self.problems:
            raise InvalidSpec(self.problems)
        return self.specs


def load_paths(paths: Iterable[Path], kinds: KindRegistry) -> Loaded:
    """Read files and folders of YAML (`*.yaml`, `*.yml`, sorted; one or more documents each)."""
    documents: list[tuple[str, Any]] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        except OSError as error:
            problems.append(Problem(str(path), "", f"cannot be read: {error.strerror}"))
            continue
        if not files:
            problems.append(Problem(str(path), "", "folder has no *.yaml file"))
        for file in files:
            try:
                data = file.read_bytes()
            except OSError as error:
                problems.append(Problem(str(file), "", f"cannot be read: {error.strerror}"))
                continue
            found, wrong = parse_documents(data, str(file))
            documents += found
            problems += wrong
    return check_documents(documents, kinds, problems)


def load_text(text: str | bytes, kinds: KindRegistry, where: str = "body") -> Loaded:
    """Read YAML (or JSON, which is YAML) from a string."""
    documents, problems = parse_documents(text.encode() if isinstance(text, str) else text, where)
    return check_documents(documents, kinds, problems)


def parse_documents(data: bytes, where: str) -> tuple[list[tuple[str, Any]], list[Problem]]:
    """Split bytes into YAML documents. Aliases, custom tags, deep nesting and huge input are refused."""
    if len(data) > MAX_BYTES:
        return [], [Problem(where, "", f"{len(data)} bytes; at most {MAX_BYTES} are read")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [], [Problem(where, "", f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}")]
    try:
        _check_events(text)
        documents = list(yaml.load_all(text, Loader=_StrictLoader))  # a SafeLoader with unique keys
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        advice = "; a text with ': ' in it stands in quotes" if problem.startswith("mapping values") else ""
        return [], [Problem(where, "", f"is not valid YAML{line}: {problem}{advice}")]
    except (ValueError, RecursionError) as error:
        return [], [Problem(where, "", str(error))]
    named = [(f"{where}#{index}" if len(documents) > 1 else where, d) for index, d in enumerate(documents, 1)]
    found = [(name, document) for name, document in named if document is not None]
    return found, [] if found else [Problem(where, "", "declares no node")]


def _check_events(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{_line(event)}aliases (*{event.anchor}) are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{_line(event)}nested deeper than {MAX_DEPTH}")
        if count > MAX_EVENTS:
            raise ValueError(f"has more than {MAX_EVENTS} values")


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""


class _StrictLoader(PlainLoader):
    """A safe loader of what JSON can say: other types and a key written twice are refused."""

    yaml_constructors = {  # noqa: RUF012 - PyYAML's own way to declare them
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool)):
            raise ValueError(f"line {key_node.start_mark.line + 1}: a key must be a plain word")
        if key in seen:
            raise ValueError(f"line {key_node.start_mark.line + 1}: key {key!r} is written twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _short_number(loader: _StrictLoader, node: yaml.ScalarNode) -> int | float:
    line = f"line {node.start_mark.line + 1}: "
    if len(node.value) > MAX_NUMBER:
        raise ValueError(f"{line}a number has at most {MAX_NUMBER} characters")
    is_int = node.tag.endswith(":int")
    try:
        number: int | float = loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)
    except ValueError:
        raise ValueError(f"{line}{node.value!r} is not a number") from None
    if is_int and not -(2**63) <= number < 2**63:
        raise ValueError(f"{line}{node.value} does not fit into 64 bits, which JSON needs")
    return number


for _tag in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _short_number)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def check_documents(
    documents: Sequence[tuple[str, Any]], kinds: KindRegistry, problems: Iterable[Problem] = ()
) -> Loaded:
    """Validate parsed documents, each on its own and all together."""
    found = list(problems)
    specs: list[NodeSpec] = []
    sources: dict[str, str] = {}
    for where, document in documents:
        spec, wrong = check_document(document, kinds, where)
        found += wrong
        if spec is None:
            continue
        if spec.name in sources:
            found.append(Problem(where, "name", f"{spec.name!r} is already declared in {sources[spec.name]}"))
            continue
        sources[spec.name] = where
        specs.append(spec)
    return Loaded(tuple(specs), tuple(found), sources)


def check_document(document: Any, kinds: KindRegistry, where: str) -> tuple[NodeSpec | None, list[Problem]]:
    """Validate one document: its shape, its kind and the kind's own params."""
    if not isinstance(document, Mapping):
        found = "a list" if isinstance(document, list) else "plain text"
        message = f"is {found}; a node is a mapping with at least name, kind and description"
        return None, [Problem(where, "", message)]
    problems = []
    spec = None
    try:
        spec = NodeSpec.model_validate(document)
    except ValidationError as error:
        problems = _translate(error, NodeSpec, where)
    kind_name = document.get("kind")
    kind = kinds.get(kind_name) if isinstance(kind_name, str) else None
    if isinstance(kind_name, str) and kind is None:
        problems.append(
            Problem(
                where,
                "kind",
                f"{kind_name!r} is not installed{_suggest(kind_name, kinds)}; installed: {', '.join(sorted(kinds))}",
            )
        )
    if kind is not None:
        try:
            params = document.get("params")
            kind.Params.model_validate(params if isinstance(params, Mapping) else {})
        except ValidationError as error:
            problems += _translate(error, kind.Params, where, "params")
        if spec is not None and not problems:
            problems += [Problem(where, key, message) for key, message in kind.problems(spec)]
            if spec.cascade is not None and spec.cascade.reads_logprobs and "logprobs" not in kind.honours:
                message = f"kind {spec.kind!r} gives no log-probabilities; use must_match, must_not_match or valid_json"
                problems.append(Problem(where, "cascade", message))
    return (None if problems else spec), problems


def _translate(error: ValidationError, model: type[BaseModel], where: str, prefix: str = "") -> list[Problem]:
    """Turn pydantic's report into ours: dotted key, the value, and what would be right."""
    problems = []
    for item in error.errors()[:MAX_PROBLEMS]:
        path = [str(part) for part in item["loc"]]
        key = ".".join([prefix, *path] if prefix else path)
        message = item["msg"].removeprefix("Value error, ")
        for theirs, word in PYTHON_WORDS.items():
            message = message.replace(theirs, word)
        if item["type"] == "extra_forbidden":
            valid = _fields_at(model, item["loc"][:-1])
            message = f"unknown key{_suggest(path[-1], valid)}; valid keys: {', '.join(sorted(valid))}"
        elif item["type"] == "missing":
            message = "is required"
        elif path and not _may_be_secret(key):
            message = f"{message[0].lower()}{message[1:]}; got {_short(item['input'])}"
        if key == "name" and item["type"] == "string_pattern_mismatch":
            message = (
                f"{_short(item['input'])} must be 1 to 63 lower-case letters, digits, '.', '_' or '-', "
                "beginning and ending with a letter or digit"
            )
        if path[:1] == ["outputs"] and path[-1] == "[key]":
            key = "outputs"
            message = (
                f"{_short(item['input'])} must be the path of a field, such as 'orders.0.id': steps with dots between "
                f"them and no spaces, {MAX_PATH} characters at most"
            )
        problems.append(Problem(where, key, message))
    return problems


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return set(_NAMED.get(str(loc[0]), model).model_fields)
        model = inner
    return set(model.model_fields)


def _suggest(word: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _may_be_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET_WORDS)


def _short(value: Any) -> str:
    if isinstance(value, str) and SECRET.search(value):
        return "a secret reference"
    if isinstance(value, (Mapping, list)):
        return "a mapping" if isinstance(value, Mapping) else "a list"  # a secret may lie somewhere inside
    text = repr(re.sub(r"//[^/@\s]*@", "//***@", value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def dump_yaml(spec: NodeSpec) -> str:
    """Write a spec as the YAML that a user would have written."""
    return yaml.safe_dump(spec.to_yaml_dict(), sort_keys=False, allow_unicode=True)
