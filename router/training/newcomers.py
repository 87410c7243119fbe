"""What labels get that a trained router is given later: learned by letting its own labels play newcomers.

A label without rows is known by a description and few examples, which lie further from its requests than what is
trained does. So rows that no part has seen are looked at once more while a share of the labels is known by such texts
alone, and newcomers are lifted until they get as many of those rows as are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.calibration import sigmoid
from router.training.calibrate import Held
from router.training.data import Rows
from router.training.parts import Parts
from router.types import Array
from router.vectors import AnyArray

GROUPS = 3
"""A row sees one group of the labels as newcomers: its own label is one of them for every third row."""
EXAMPLES = 3
"""Examples that newcomers have in the second play; in the first they have none."""
ROWS_MAX = 1000
ROWS_MIN = 8
"""Rows of newcomers below which nothing is learned."""
LIFT_MAX = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Play:
    """What the stages see of rows while each row's group of labels is known by few texts."""

    seen: tuple[Held, Held]
    """Of all trained labels, and after them of all labels as newcomers; those that a row must not see are far away."""
    targets: AnyArray
    """(rows,) index among these."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The texts that one label is known by as a newcomer, description first, and their vectors."""

    texts: tuple[str, ...]
    vectors: AnyArray


def show(described: Sequence[str], vectors: Array, rows: Rows, row_vectors: Array) -> list[Shown]:
    """Return each label's description and `EXAMPLES` of its rows at most."""
    found = []
    for label, text in enumerate(described):
        own = np.flatnonzero(rows.targets == label)[:EXAMPLES]
        texts = (text, *(rows.texts[i] for i in own))
        found.append(Shown(texts, np.concatenate([vectors[label : label + 1], row_vectors[own]])))
    return found


def play(parts: Parts, shown: Sequence[Shown], rows: Rows, vectors: Array, seed: int) -> tuple[Play, Play]:
    """Look at rows that the parts have not seen, with newcomers of a description alone, and with examples beside it."""
    inside = np.flatnonzero(rows.inside)
    dice = np.random.default_rng(seed)
    inside = dice.permutation(inside)[:ROWS_MAX]
    labels = len(shown)
    group, asked = np.arange(labels) % GROUPS, dice.integers(GROUPS, size=len(inside))
    newcomer = group[None, :] == asked[:, None]
    hidden = np.concatenate([newcomer, ~newcomer], axis=1)
    targets = rows.targets[inside]
    targets = np.where(newcomer[np.arange(len(inside)), targets], labels + targets, targets)
    texts = [rows.texts[i] for i in inside]
    few, more = (
        Play(
            parts.extend([(own.texts[:n], own.vectors[:n]) for own in shown]).look(texts, vectors[inside], hidden),
            targets,
        )
        for n in (1, 1 + EXAMPLES)
    )
    return few, more


def fit_lift(plays: Sequence[tuple[Play, Play]], weights: Array, stage: int) -> Array:
    """Return (a, b): a label that is added by n texts is lifted by a + b / n."""
    few, more = (_lift([pair[which] for pair in plays], weights, stage) for which in (0, 1))
    slope = (few - more) / (1 - 1 / (1 + EXAMPLES))
    return np.array([few - slope, slope], dtype=np.float32)


def _lift(plays: Sequence[Play], weights: Array, stage: int) -> float:
    """Return what newcomers' logits lack for them to be given as many rows as are theirs."""
    odds, theirs = [], []
    for one in plays:
        logits = one.seen[stage].evidence @ weights
        labels = logits.shape[1] // 2
        odds.append(_energy(logits[:, labels:]) - _energy(logits[:, :labels]))
        theirs.append(one.targets >= labels)
    found, wanted = np.concatenate(odds), np.concatenate(theirs)
    if wanted.sum() < ROWS_MIN:
        return 0.0
    low, high = 0.0, LIFT_MAX
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(found + middle).mean() < wanted.mean() else (low, middle)
    return low


def _energy(logits: Array) -> Array:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
