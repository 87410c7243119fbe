"""What an operator should look at: requests worth a label, and subjects for which an expert is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graph.types import NodeName
from router.annotation import cluster, naming_words, vote_k
from router.types import Decision, Encoder
from router.vectors import AnyArray, unit

ROWS_MAX = 2000
"""Requests that are looked at, the newest."""
SURE = 0.9
"""Probability from which a decision is not doubtful."""
SIMILARITY = 0.3
"""Mean cosine of requests that are taken to be of one subject."""
GROUP_MIN = 4
SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the router saw it."""

    text: str
    node: NodeName | None
    probability: float
    margin: float
    """By how much the best node is likelier than the second."""
    out_of_scope: bool
    request_id: str = ""

    @property
    def doubt(self) -> float:
        """0 for a sure decision, 1 for one that could not be less sure."""
        return 0.0 if self.probability >= SURE else 1.0 - max(0.0, min(self.margin, 1.0))


def margin(decision: Decision) -> float:
    """Return by how much the likeliest node is likelier than the second."""
    shares = sorted((candidate.probability for candidate in decision.candidates), reverse=True)[:2]
    return shares[0] - shares[1] if len(shares) == 2 else decision.probability


@dataclass(frozen=True, slots=True)
class ToLabel:
    """A request whose right node would teach the router most."""

    request: Asked
    stands_for: int
    """Doubtful requests that are nearest to this one of all chosen, itself included."""


@dataclass(frozen=True, slots=True)
class MissingExpert:
    """Out-of-scope requests of one subject."""

    name: str
    words: tuple[str, ...]
    count: int
    samples: tuple[str, ...]
    """The most typical first."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What is worth doing about recent requests."""

    requests: int
    """How many were looked at, each text once."""
    doubtful: int
    to_label: tuple[ToLabel, ...]
    missing: tuple[MissingExpert, ...]


def suggest(asked: Sequence[Asked], encoder: Encoder, *, budget: int, taken: Sequence[NodeName] = ()) -> Suggestions:
    """Choose at most `budget` requests to label, and group what was out of scope. Blocks while it encodes.

    `taken` are names that a proposal must not have.
    """
    newest = {item.text: item for item in asked}  # of equal texts the last one counts
    items = list(newest.values())[-ROWS_MAX:]
    vectors = unit(encoder.encode([item.text for item in items])) if items else np.zeros((0, 1), np.float32)
    doubtful = [index for index, item in enumerate(items) if item.doubt > 0 and not item.out_of_scope]
    outside = [index for index, item in enumerate(items) if item.out_of_scope]
    inside = [item.text for item in items if not item.out_of_scope]
    return Suggestions(
        len(items),
        len(doubtful),
        _to_label([items[i] for i in doubtful], vectors[doubtful], budget),
        _missing([items[i].text for i in outside], vectors[outside], inside, taken),
    )


def _to_label(items: Sequence[Asked], vectors: AnyArray, budget: int) -> tuple[ToLabel, ...]:
    if not items or budget < 1:
        return ()
    neighbours = max(3, math.isqrt(len(items)))
    chosen = vote_k(vectors, budget, k=neighbours, weights=np.array([item.doubt for item in items]))
    nearest = (vectors @ vectors[chosen].T).argmax(axis=1)
    shares = np.bincount(nearest, minlength=len(chosen)).tolist()
    return tuple(ToLabel(items[index], share) for index, share in zip(chosen, shares, strict=True))


def _missing(
    texts: Sequence[str], vectors: AnyArray, inside: Sequence[str], taken: Sequence[NodeName]
) -> tuple[MissingExpert, ...]:
    groups = [[texts[i] for i in group] for group in cluster(vectors, similarity=SIMILARITY, least=GROUP_MIN)]
    used = set(taken)
    found = []
    for group, words in zip(groups, naming_words(groups, inside), strict=True):
        name = _free_name(words, used)
        used.add(name)
        found.append(MissingExpert(name, tuple(words), len(group), tuple(group[:SAMPLES])))
    return tuple(found)


def _free_name(words: Sequence[str], used: set[str]) -> str:
    """Return a node's name made of the words that fit into one."""
    plain = [word.lower() for word in words if word.isascii() and word.isalnum()]
    base = "_".join(plain[:2])[:50] or "expert"
    names = (base, *(f"{base}_{number}" for number in range(2, len(used) + 3)))
    return next(name for name in names if name not in used)
