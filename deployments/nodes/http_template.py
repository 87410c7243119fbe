"""Templates of an HTTP request: `{name}` stands for an argument, `${NAME}` for a secret, `{{name}}` for itself.

No template language: a placeholder is replaced by a value, and a value is never read as a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode

from graph.errors import InvalidRequest

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
PART: Final = re.compile(rf"\$\{{({_NAME})\}}|\{{\{{({_NAME})\}}\}}|\{{({_NAME})\}}")
"""A placeholder: of a secret (group 1), of its own text (2), or of an argument (3)."""
ABSENT: Final = object()
"""Stands for an optional argument that was not given: its field is left out."""


def placeholders(template: Any) -> Iterator[str]:
    """Yield the names of the arguments that a template refers to, anywhere inside it."""
    if isinstance(template, str):
        yield from (match[3] for match in PART.finditer(template) if match[3])
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, (list, tuple)):
        for value in template:
            yield from placeholders(value)


def fill(template: Any, values: Mapping[str, Any], secret: Callable[[str], str]) -> Any:
    """Return a template with its placeholders replaced.

    A string that is one placeholder becomes the typed value; inside a longer string a value becomes its text. A field
    or an element that is one placeholder without a value is left out.
    """
    if isinstance(template, str):
        alone = PART.fullmatch(template)
        if alone and alone[3]:
            return values.get(alone[3], ABSENT)
        return fill_text(template, values, secret)
    if isinstance(template, Mapping):
        filled = {key: fill(value, values, secret) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not ABSENT}
    if isinstance(template, (list, tuple)):
        return [item for value in template if (item := fill(value, values, secret)) is not ABSENT]
    return template


def fill_text(
    template: str, values: Mapping[str, Any], secret: Callable[[str], str], encode: Callable[[str], str] = str
) -> str:
    """Return a text with its placeholders replaced by the text of their values, each passed through `encode`."""

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return encode(secret(match[0]))
        if match[2]:
            return "{" + match[2] + "}"
        return encode(as_text(values[match[3]])) if match[3] in values else ""

    return PART.sub(replacement, template)


def fill_path(template: str, values: Mapping[str, Any], secret: Callable[[str], str], node: str) -> str:
    """Return a path with its placeholders percent-encoded.

    Raises `InvalidRequest` for a value that is empty or would lead out of its place (`..`): it would name another
    resource than the one that the path is for.
    """
    for name in placeholders(template):
        text = as_text(values.get(name, ""))
        if not text.strip():
            raise InvalidRequest(f"argument {name!r} must not be empty: it is part of a path", param=name, node=node)
    path = fill_text(template, values, secret, lambda text: quote(text, safe=""))
    steps = re.split(r"[/\\]", _unquoted(path))
    if any(re.split(r"[;\0]", step)[0].strip() in (".", "..") for step in steps):  # some servers drop what follows
        first = next(placeholders(template), None)
        raise InvalidRequest("the arguments of a path must not hold '.' or '..' as a step", param=first, node=node)
    return path


def fill_query(
    query: Mapping[str, Any],
    values: Mapping[str, Any],
    secret: Callable[[str], str],
    joined: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a query string. A list repeats its key, or is one value where `joined` has what stands between.

    A missing optional value leaves its key out.
    """
    filled = fill(query, values, secret)
    for key in filled.keys() & joined.keys():
        if isinstance(filled[key], list):
            filled[key] = joined[key].join(map(as_text, filled[key]))
    return form(filled)


def form(fields: Any) -> str:
    """Return fields as a form or a query has them: a list repeats its key, nothing is left out but null.

    Raises `TypeError` for what has no fields.
    """
    if not isinstance(fields, Mapping):
        raise TypeError(f"a form has fields, and this is {type(fields).__name__}")
    pairs: list[tuple[str, str]] = []
    for key, value in fields.items():
        items = value if isinstance(value, list) else [value]
        pairs += [(key, as_text(item)) for item in items if item is not None]
    return urlencode(pairs, quote_via=quote)


def fill_headers(
    headers: Mapping[str, str], values: Mapping[str, Any], secret: Callable[[str], str], node: str
) -> dict[str, str]:
    """Return headers with their placeholders replaced, a list by its items with commas between.

    A header with a placeholder that has no value is left out. Raises `InvalidRequest` for a value that no header can
    carry.
    """
    filled = {}
    for name, template in headers.items():
        names = list(placeholders(template))
        if not all(argument in values for argument in names):
            continue
        flat = {n: ",".join(map(as_text, v)) if isinstance(v := values[n], list) else v for n in names}
        filled[name] = fill_text(template, flat, secret)
        if not filled[name].isascii() or not filled[name].isprintable():
            words = f"argument {names[0]!r} holds characters that a header cannot have"
            raise InvalidRequest(words, param=names[0], node=node)
    return filled


def as_text(value: Any) -> str:
    """Return a value as it stands in a path, a query or a text: JSON, except that a text is itself."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unquoted(path: str) -> str:
    """Undo percent-encoding as often as a chain of servers might."""
    for _ in range(3):
        path = unquote(path)
    return path
