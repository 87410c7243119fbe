"""Ranks the decoder's candidates again, by what it does not see: all nodes at once, plans of alike requests, links."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.planners.decoder import Candidate
from router.types import Array

NEAREST = 12
SHARPNESS = 12.0
"""Of the weights of the nearest plans by cosine."""
FEATURES = (
    "logp", "mean_logp", "nodes", "set", "nearest_same", "nearest_nodes", "nearest_links", "frequency", "bigrams",
    "length", "repeats",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The plans of training: vectors of their requests and their node sequences."""

    vectors: Array
    """(plans, width) of length 1."""
    sequences: tuple[tuple[int, ...], ...]
    counts: Mapping[tuple[int, ...], int]
    bigrams: Mapping[tuple[int, int], float]
    """Logarithm of how often the latter follows the former."""

    @classmethod
    def of(cls, vectors: Array, sequences: Sequence[tuple[int, ...]]) -> Memory:
        """Return the memory of these plans."""
        counts: dict[tuple[int, ...], int] = {}
        pairs: dict[tuple[int, int], int] = {}
        firsts: dict[int, int] = {}
        for sequence in sequences:
            counts[sequence] = counts.get(sequence, 0) + 1
            for pair in itertools.pairwise(sequence):
                pairs[pair] = pairs.get(pair, 0) + 1
                firsts[pair[0]] = firsts.get(pair[0], 0) + 1
        logs = {pair: float(np.log((count + 0.1) / (firsts[pair[0]] + 5))) for pair, count in pairs.items()}
        return cls(vectors, tuple(sequences), counts, logs)


def features(
    candidates: Sequence[Candidate], classes: Array, vector: Array, memory: Memory, *, without: int | None = None
) -> Array:
    """Return (candidates, features); `without` is a plan of the memory that does not count."""
    close = memory.vectors @ vector
    if without is not None:
        close[without] = -1.0
    near = np.argsort(close)[::-1][:NEAREST]
    weights = np.exp(SHARPNESS * (close[near] - close[near].max()))
    weights /= weights.sum()
    neighbours = [memory.sequences[index] for index in near]
    chances = np.log1p(np.exp(-np.clip(classes, -30, 30)))  # -log p; -log(1 - p) is this + the logit
    empty = float(-(chances + classes).sum())
    own = memory.sequences[without] if without is not None else None
    rows = []
    for candidate in candidates:
        nodes = candidate.nodes
        inside = np.array(sorted(set(nodes)), dtype=np.int64)
        same = [close[i] for i, sequence in zip(near, neighbours, strict=True) if sequence == nodes]
        links = _links(nodes)
        count = memory.counts.get(nodes, 0) - (nodes == own)
        rows.append(
            (
                candidate.logp,
                candidate.logp / (len(nodes) + 1),
                float(-chances[inside].sum()) if len(inside) else 0.0,
                empty + float(classes[inside].sum()) if len(inside) else empty,
                max(same, default=0.0),
                sum(w * _f1(set(nodes), set(s)) for w, s in zip(weights, neighbours, strict=True)),
                sum(w * _f1(links, _links(s)) for w, s in zip(weights, neighbours, strict=True)),
                float(np.log1p(max(count, 0))),
                sum(memory.bigrams.get(pair, -6.0) for pair in links) / max(len(links), 1),
                float(len(nodes)),
                float(len(nodes) - len(inside)),
            )
        )
    return np.array(rows, dtype=np.float32).reshape(len(rows), len(FEATURES))


def fit(groups: Sequence[tuple[Array, Array]], *, decay: float = 0.02) -> tuple[Array, Array, Array]:
    """Learn to rank from (features, worth) of each request's candidates; return (centre, scale, weights).

    The softmax of a candidate's score is fitted to that of its worth; `decay` pulls the weights to zero.
    """
    from scipy.optimize import minimize

    table = np.concatenate([own for own, _ in groups])
    centre, scale = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-3)
    goals = []
    for own, worth in groups:
        goal = np.exp(8.0 * (worth - worth.max()))
        goals.append(((own - centre) / scale, goal / goal.sum()))

    def loss(weights: Array) -> tuple[float, Array]:
        total, slope = 0.0, np.zeros_like(weights)
        for own, goal in goals:
            scores = own @ weights
            scores -= scores.max()
            chances = np.exp(scores) / np.exp(scores).sum()
            total -= float(goal @ np.log(np.maximum(chances, 1e-9)))
            slope += own.T @ (chances - goal)
        count = len(goals)
        return total / count + decay * float(weights @ weights), slope / count + 2 * decay * weights

    found = minimize(loss, np.zeros(len(centre)), jac=True, method="L-BFGS-B").x
    return centre.astype(np.float32), scale.astype(np.float32), np.asarray(found, dtype=np.float32)


def _links(nodes: Sequence[int]) -> set[tuple[int, int]]:
    return set(itertools.pairwise(nodes))


def _f1(one: Set[Any], two: Set[Any]) -> float:
    return 2 * len(one & two) / (len(one) + len(two)) if one or two else 1.0
