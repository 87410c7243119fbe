"""Labelled rows as token sequences: prompt, functional token, rewritten query, end token."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graph.types import NodeName
from router.causal_model import CausalModel
from router.scorers.functional_head import OUT
from router.training.rewrites import unwrap, wrap

NOTHING = "none"
"""Stands where a node's name could in the token that says that no node fits; no node may be called so."""
NOTHING_TEXT = "none of these, nothing fits, out of scope"
WRAPPED = 0.25
"""Share of requests that are taught with courtesies around them, so that rewriting has something to take away."""
REWRITE_TOKENS = 48
"""Longest rewrite that is taught: copying a long request costs much and teaches nothing new."""
HELD_OUT_MIN = 4
"""A node with fewer rows gives none away for calibration."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request, the node that should take it, and how the node should be asked."""

    text: str
    node: NodeName | None
    """None where no node fits."""
    rewrite: str | None = None
    """None where the data say nothing of it; rules then make one."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A lesson in tokens."""

    ids: tuple[int, ...]
    end_of_prompt: int
    """Index of the token after which the functional token is read."""
    owner: int
    """Index of the node; `OUT` where none fits."""


def token_of(node: NodeName | None) -> str:
    """Return a node's functional token."""
    return f"<node:{NOTHING if node is None else node}>"


def teach(
    model: CausalModel, lessons: Sequence[Lesson], tokens: Mapping[NodeName | None, int], seed: int
) -> list[Taught]:
    """Return lessons in tokens, some with courtesies around them. Deterministic for a seed."""
    owners = owners_of(tokens)
    dice = random.Random(seed)  # noqa: S311  # shuffles lessons, guards nothing
    return [_taught(model, lesson, tokens[lesson.node], owners[lesson.node], dice) for lesson in lessons]


def owners_of(tokens: Mapping[NodeName | None, int]) -> dict[NodeName | None, int]:
    """Return the index of each node, `OUT` for none."""
    nodes = [name for name in tokens if name is not None]
    return {None: OUT, **{name: index for index, name in enumerate(nodes)}}


def _taught(model: CausalModel, lesson: Lesson, token: int, owner: int, dice: random.Random) -> Taught:
    text, rewrite = lesson.text, lesson.rewrite
    if rewrite is None:
        rewrite = unwrap(text)
        if dice.random() < WRAPPED:
            text = wrap(rewrite, dice)
    prompt = model.prompt(text)
    answer = model.encode(rewrite)
    if len(answer) > REWRITE_TOKENS or lesson.node is None:
        return Taught((*prompt, token), len(prompt) - 1, owner)
    return Taught((*prompt, token, *answer, model.end), len(prompt) - 1, owner)


def hold_out(lessons: Sequence[Lesson], share: float, seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """Return lessons to learn from and lessons to choose and calibrate by: a share of each node's, at random."""
    groups: dict[NodeName | None, list[Lesson]] = {}
    for lesson in lessons:
        groups.setdefault(lesson.node, []).append(lesson)
    dice = random.Random(seed)  # noqa: S311  # shuffles lessons, guards nothing
    learn: list[Lesson] = []
    held: list[Lesson] = []
    for group in groups.values():
        shuffled = sorted(group, key=lambda lesson: lesson.text)
        dice.shuffle(shuffled)
        away = max(1, round(share * len(group))) if len(group) >= HELD_OUT_MIN else 0
        held += shuffled[:away]
        learn += shuffled[away:]
    return learn, held


def batches(lengths: Sequence[int], size: int, dice: random.Random) -> Iterator[list[int]]:
    """Yield indices in batches of like length, the batches in random order: little is spent on padding."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row] + 4 * dice.random())
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    dice.shuffle(groups)
    yield from groups
