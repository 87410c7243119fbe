"""Correctness data: requests, and for each model whether (or how well) it answered them."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from router.vectors import AnyArray


class ChoiceDataError(ValueError):
    """Correctness data that cannot be used; the message names the file, the line and what would be right."""


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """One request, with the score (0 wrong to 1 right) of each model that was tried on it."""

    text: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)
    """What each model's answer to it cost, where the data say so."""


@dataclass(frozen=True, slots=True)
class Correctness:
    """Rows as one table. Immutable; `updated` makes a larger one."""

    texts: tuple[str, ...]
    models: tuple[str, ...]
    """Sorted."""
    scores: AnyArray
    """(texts, models), 0 to 1; nan where a model was not tried."""
    costs: AnyArray
    """(texts, models); nan where nothing is said."""

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(cls, rows: Iterable[ChoiceRow]) -> Correctness:
        """Arrange rows; models are all that any row names."""
        rows = tuple(rows)
        models = tuple(sorted({name for row in rows for name in row.scores}))
        return cls(
            tuple(row.text for row in rows),
            models,
            _matrix([row.scores for row in rows], models),
            _matrix([row.costs for row in rows], models),
        )

    def updated(self, feedback: Iterable[tuple[str, str, float]]) -> Correctness:
        """Return the data with (text, model, score) rows added, such as somebody's rating of an answer.

        A text that is known gets the new score beside the others it has; the latest score of a model counts.
        """
        rows = self.rows()
        place = {row.text: index for index, row in enumerate(rows)}
        for text, model, score in feedback:
            if text not in place:
                place[text] = len(rows)
                rows.append(ChoiceRow(text, {}))
            known = rows[place[text]]
            scores = {**known.scores, model: _score(score, f"the score of {model!r}")}
            rows[place[text]] = replace(known, scores=scores)
        return Correctness.of(rows)

    def rows(self) -> list[ChoiceRow]:
        """Return the rows again."""
        return [
            ChoiceRow(text, _known(scores, self.models), _known(costs, self.models))
            for text, scores, costs in zip(self.texts, self.scores, self.costs, strict=True)
        ]

    def take(self, rows: AnyArray) -> Correctness:
        """Return some of the rows, all models kept."""
        return Correctness(
            tuple(self.texts[i] for i in rows),
            self.models,
            self.scores[rows],
            self.costs[rows],
        )

    def aligned(self, models: Sequence[str]) -> Correctness:
        """Return the same rows with these models as columns, in this order."""
        column = {name: index for index, name in enumerate(self.models)}
        scores = np.full((len(self), len(models)), np.nan, dtype=np.float32)
        costs = scores.copy()
        for target, name in enumerate(models):
            if name in column:
                scores[:, target], costs[:, target] = self.scores[:, column[name]], self.costs[:, column[name]]
        return Correctness(self.texts, tuple(models), scores, costs)


def read_correctness(path: Path) -> Correctness:
    """Read JSON lines of `{"text", "scores": {model: 0..1}}`, gzipped or not; `costs` may stand beside.

    Raises `ChoiceDataError` that names the file, the line and the field at fault.
    """
    rows = [_row(line, f"{path}, line {number}") for number, line in _lines(path)]
    if not rows:
        raise ChoiceDataError(f'{path} has no rows; expected JSON lines such as {{"text": "…", "scores": {{"a": 1}}}}')
    return Correctness.of(rows)


def read_costs(path: Path) -> dict[str, float]:
    """Read what an answer of each model costs: one JSON object of model to number."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ChoiceDataError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict) or not data:
        raise ChoiceDataError(f'{path} must hold one JSON object of model to cost, such as {{"a": 0.2, "b": 5}}')
    return {str(name): _number(value, f"{path}: the cost of {name!r}") for name, value in data.items()}


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ChoiceDataError(f"{path} cannot be read: {error}") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _row(line: str, where: str) -> ChoiceRow:
    try:
        item: Any = json.loads(line)
    except ValueError as error:
        raise ChoiceDataError(f"{where}: is not JSON: {error}") from None
    text = item.get("text") if isinstance(item, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise ChoiceDataError(f"{where}: text: must be a text that is not empty; got {text!r}")
    scores, costs = item.get("scores"), item.get("costs") or {}
    if not isinstance(scores, dict) or not any(value is not None for value in scores.values()):
        raise ChoiceDataError(f"{where}: scores: must be an object of model to a number from 0 to 1; got {scores!r}")
    if not isinstance(costs, dict):
        raise ChoiceDataError(f"{where}: costs: must be an object of model to a number; got {costs!r}")
    return ChoiceRow(
        text,
        {name: _score(value, f"{where}: scores.{name}") for name, value in scores.items() if value is not None},
        {name: _number(value, f"{where}: costs.{name}") for name, value in costs.items() if value is not None},
    )


def _score(value: Any, where: str) -> float:
    number = _number(value, where)
    if number > 1:
        raise ChoiceDataError(f"{where}: must lie between 0 (wrong) and 1 (right); got {value!r}")
    return number


def _number(value: Any, where: str) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ChoiceDataError(f"{where}: must be a number that is not negative; got {value!r}")
    return float(value)


def _matrix(rows: Sequence[Mapping[str, float]], models: Sequence[str]) -> AnyArray:
    return np.array([[row.get(name, np.nan) for name in models] for row in rows], dtype=np.float32).reshape(
        len(rows), len(models)
    )


def _known(values: AnyArray, models: Sequence[str]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(models, values, strict=True) if not np.isnan(value)}
