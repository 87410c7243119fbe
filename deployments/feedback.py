"""What people think of answers, and what becomes of it: examples for the nodes that would have been right, and scores
of the nodes that answered.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from deployments.access.principal import Principal
from deployments.traffic import MAX_CHARACTERS, Traffic
from graph.spec import NodeSpec
from graph.stores.base import StateStore
from graph.types import NodeName

LOG = "feedback"
PAGE = 1000
KEPT = 100_000
"""Most opinions that the store holds, the newest: what was learned of older ones stays learned."""
EXAMPLES_MAX = 1000
"""Most labelled requests that one `learn` adds to a node, the newest."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Feedback as it was kept."""

    id: int
    node: NodeName | None
    """Who had been chosen, if the request is remembered."""
    text: str | None
    """The request's text, kept only where it can be learned from."""


@dataclass(frozen=True, slots=True)
class Label:
    """Whose a request is, as somebody said."""

    node: NodeName
    by: str
    """Id of the caller who said so."""


@dataclass(frozen=True, slots=True)
class Rating:
    """How good a node's answer to a request was, 0 to 1, as somebody said."""

    id: int
    text: str
    node: NodeName
    score: float


class FeedbackLog:
    """Feedback of every gateway, in the store that they share."""

    def __init__(
        self, store: StateStore, traffic: Traffic, *, rated: bool = False, teachers: Collection[str] = ()
    ) -> None:
        """`rated` keeps the texts of rated requests, too: the quality of nodes is learned from them.

        Otherwise only those are kept whose right node is named, which is asking to learn from it. `teachers` are those
        who are learned from; see `teaches`.
        """
        self._store = store
        self._traffic = traffic
        self._rated = rated
        self._teachers = teachers

    async def keep(self, opinion: Mapping[str, Any], *, by: Principal) -> Kept:
        """Keep an opinion: `request_id`, and of `rating`, `score`, `right_node`, `comment`, `input` what was said.

        Who gave it is kept with it, as `from`, and whether that is an admin.
        """
        entry = await self._traffic.find(opinion["request_id"])
        said = {key: value for key, value in opinion.items() if key != "input"}
        record = said | {"at": time.time(), "from": by.id, "admin": by.is_admin}
        if entry is not None:
            record["node"] = entry.node
        text = opinion.get("input") or (entry.text if entry else None)
        judged = self._rated and entry is not None and score_of(opinion, entry.node) is not None
        if text and (opinion.get("right_node") or judged):
            record["text"] = text[:MAX_CHARACTERS]
        number = await self._store.append(LOG, [orjson.dumps(record)], keep=KEPT)
        return Kept(number, entry.node if entry else None, record.get("text"))

    async def labels(self) -> dict[str, Label]:
        """Return every labelled text with its right node; the last word on a text counts."""
        found: dict[str, Label] = {}
        async for _, record in self._records():
            if record.get("text") and record.get("right_node"):
                found.pop(record["text"], None)
                found[record["text"]] = Label(record["right_node"], record.get("from", ""))
        return found

    async def ratings(self) -> list[Rating]:
        """Return every opinion that says how good the answer of a node to a known text was, oldest first."""
        found = []
        async for number, record in self._records():
            score = score_of(record, record.get("node"))
            if record.get("text") and record.get("node") and score is not None:
                found.append(Rating(number, record["text"], record["node"], score))
        return found

    async def _records(self) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        after = 0
        while page := await self._store.read(LOG, after=after, limit=PAGE):
            after = page[-1][0]
            for number, raw in page:
                record = orjson.loads(raw)
                if teaches(record, self._teachers):
                    yield number, record


def teaches(opinion: Mapping[str, Any], teachers: Collection[str]) -> bool:
    """Whether an opinion that was kept is learned from: an admin's always, others' where they are among the teachers.

    Everybody teaches where no teachers are named.
    """
    return not teachers or bool(opinion.get("admin")) or opinion.get("from") in teachers


def new_labels(spec: NodeSpec, labels: Mapping[str, Label]) -> dict[str, Label]:
    """Return the texts that people say are a node's own and are not among its examples."""
    known = set(spec.examples)
    new = [(text, label) for text, label in labels.items() if label.node == spec.name and text not in known]
    return dict(new[-EXAMPLES_MAX:])


def score_of(opinion: Mapping[str, Any], chosen: NodeName | None) -> float | None:
    """Return how good the answer was, 0 to 1, as far as an opinion says; None if it does not say."""
    if opinion.get("score") is not None:
        return float(opinion["score"])
    if opinion.get("rating") is not None:
        return 1.0 if opinion["rating"] == "good" else 0.0
    right = opinion.get("right_node")
    return None if right is None or chosen is None else float(right == chosen)
