"""A written answer with places for outputs: `It is {t1.temperature} degrees in {request.inputs.city} [t1].`"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graph.errors import Problem
from graph.expressions.parser import Expression
from graph.expressions.syntax import InvalidExpression
from graph.language import language_of
from graph.types import Json
from graph.values import brief

MAX_LENGTH = 20_000
_PLACE = re.compile(r"\{\{|\}\}|\{((?:[^{}\"']|\"[^\"]*\"|'[^']*')*)\}|[{}]")


@dataclass(frozen=True)
class Template:
    """One text for each language, each read into parts: texts and expressions."""

    texts: Mapping[str, str]
    """By language code; a single text for every language stands under `""`."""
    parts: Mapping[str, tuple[str | Expression, ...]]

    @property
    def sources(self) -> frozenset[str]:
        """Tasks that the places refer to."""
        found = (part.sources for parts in self.parts.values() for part in parts if isinstance(part, Expression))
        return frozenset().union(*found)

    def to_json(self) -> Json:
        """Return the native surface's form: a text, or one for each language."""
        return self.texts[""] if "" in self.texts else dict(self.texts)

    def fill(self, request: str, value: Callable[[Expression], str]) -> str:
        """Return the text in the request's language, the first if there is none in it."""
        language = language_of(request) if "" not in self.parts else ""
        parts = self.parts.get(language or "") or next(iter(self.parts.values()))
        return "".join(part if isinstance(part, str) else value(part) for part in parts)

    @classmethod
    def read(cls, data: Any) -> tuple[Template | None, list[Problem]]:
        """Read the native surface's form; return what is wrong with it beside it."""
        if data is None:
            return None, []
        texts = {"": data} if isinstance(data, str) else data
        if not isinstance(texts, Mapping) or not texts or not all(isinstance(t, str) and t for t in texts.values()):
            message = f"must be a text, or an object of language codes and texts; got {brief(data)}"
            return None, [Problem("plan", "template", message)]
        parts, problems = {}, []
        for language, text in texts.items():
            try:
                parts[language] = tuple(_parts(text))
            except InvalidExpression as error:
                problems.append(Problem("plan", f"template{'.' if language else ''}{language!s:.20}", error.message))
        return (None, problems) if problems else (cls(dict(texts), parts), [])


def _parts(text: str) -> list[str | Expression]:
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
    found: list[str | Expression] = []
    place = 0
    for match in _PLACE.finditer(text):
        found.append(text[place : match.start()])
        place = match.end()
        if match[0] in ("{{", "}}"):
            found.append(match[0][0])
        elif match[1] is None:
            raise InvalidExpression(f"{match[0]!r} at character {match.start() + 1} has no counterpart; write it twice")
        else:
            found.append(Expression.parse(match[1]))
    return [part for part in [*found, text[place:]] if part != ""]
