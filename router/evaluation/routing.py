"""Labelled requests, and how well predictions fit them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graph.types import NodeName

BINS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A request and the node that should take it; None if no node should."""

    text: str
    node: NodeName | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a router said of a request."""

    node: NodeName | None
    """None where the router said that the request is out of scope."""
    probability: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures between 0 and 1; None where there are no rows to tell."""

    rows: int
    accuracy: float | None
    """Share of in-scope requests that went to the right node; an in-scope request called out of scope is an error."""
    oos_recall: float | None
    """Share of out-of-scope requests that were found to be so."""
    oos_precision: float | None
    """Share of requests called out of scope that were."""
    calibration_error: float | None
    """Expected calibration error of the probability (10 bins) over requests that were given a node."""


def evaluate(rows: Sequence[Row], predictions: Sequence[Prediction]) -> Metrics:
    """Compare predictions with what was asked for, row by row."""
    right = np.array([p.node == r.node for r, p in zip(rows, predictions, strict=True)], dtype=bool)
    outside = np.array([row.node is None for row in rows], dtype=bool)
    refused = np.array([p.node is None for p in predictions], dtype=bool)
    probability = np.array([p.probability for p in predictions], dtype=np.float64)
    return Metrics(
        len(rows),
        _mean(right[~outside]),
        _mean(refused[outside]),
        _mean(outside[refused]),
        _calibration_error(probability[~refused], right[~refused]),
    )


def read_rows(path: Path) -> list[Row]:
    """Read JSON lines of `{"text", "node"}`, gzipped or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [Row(item["text"], item["node"]) for item in map(json.loads, text.strip().split("\n"))]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _calibration_error(probability: np.ndarray, right: np.ndarray) -> float | None:
    if not len(right):
        return None
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(probability[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    return float(sum(gaps))
