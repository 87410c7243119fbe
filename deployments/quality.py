"""Keeps the estimate of nodes' quality: correctness data from a file, and what people said of answers since."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from deployments.feedback import FeedbackLog, Rating
from deployments.log_reader import keep_up
from graph.stores.base import StateStore
from router.choice.correctness import read_correctness
from router.router import Router

log = logging.getLogger("modelyard.quality")

LEARNED = "quality-learned"
"""A log whose newest item is the id up to which feedback is learned from; every gateway follows it."""
FOLLOW_S = 5.0


class QualityLearning:
    """Teaches the router how good nodes' answers are. Used from one event loop.

    Ratings count beside the rows of the file, for the nodes that the file knows: a node is rated only on what it was
    given, so from ratings alone it would look as good on everything else.
    """

    def __init__(self, path: Path, router: Router, feedback: FeedbackLog, store: StateStore) -> None:
        self._path = path
        self._router = router
        self._feedback = feedback
        self._store = store
        self._learned: int | None = None

    async def follow(self) -> None:
        """Learn the file, and then ratings whenever some gateway was asked to, until cancelled."""
        await keep_up(self.catch_up, FOLLOW_S, log, f"the quality of nodes could not be learned from {self._path}")

    async def catch_up(self) -> None:
        """Learn what there is to learn, if anything changed."""
        latest = await self._store.latest(LEARNED, limit=1)
        upto = int(latest[-1][1]) if latest else 0
        if upto == self._learned:
            return
        data = await asyncio.to_thread(read_correctness, self._path)
        known = set(data.models)
        rated = [item for item in await self._feedback.ratings() if item.id <= upto and item.node in known]
        await self._router.learn(data.updated((item.text, item.node, item.score) for item in rated))
        self._learned = upto
        if rated:
            log.info("the quality of nodes is estimated from %d rows and %d ratings", len(data), len(rated))

    async def unlearned(self) -> list[Rating]:
        """Return the ratings that `learn` would add."""
        latest = await self._store.latest(LEARNED, limit=1)
        upto = int(latest[-1][1]) if latest else 0
        return [item for item in await self._feedback.ratings() if item.id > upto]

    async def learn(self) -> int:
        """Learn from all ratings until now; return how many are new."""
        new = await self.unlearned()
        if new:
            await self._store.append(LEARNED, [str(new[-1].id).encode()], keep=1)
            await self.catch_up()
        return len(new)
