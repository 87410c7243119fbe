"""The bandit at work in a gateway: it changes decisions, and learns from the feedback of every gateway.

Feedback goes into the store's log, whoever takes it. The gateway that routed the request still knows its text: it turns
the feedback into a reward, a few numbers without any text, in a second log that all gateways read in the same order. So
each learns the same from everything, also after a restart, and no text leaves the process that routed it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from deployments.feedback import LOG as FEEDBACK
from deployments.feedback import score_of, teaches
from deployments.log_reader import LogReader, keep_up
from deployments.settings import Settings
from deployments.traffic import Routed, Traffic
from graph.stores.base import StateStore
from graph.types import Call, NodeName
from router.bandit import Bandit, Rails
from router.router import Router, routing_text
from router.types import Decision
from router.vectors import AnyArray

log = logging.getLogger("modelyard.bandit")

REWARDS = "bandit-rewards"
KEPT = 20_000
FOLLOW_S = 1.0
REWARDED = 10_000
"""Requests that are remembered to have been rewarded: the first opinion counts, and repeating it changes nothing."""


class Exploration:
    """Adjusts decisions by what was learned, and learns. Used from one event loop."""

    def __init__(
        self, bandit: Bandit, router: Router, traffic: Traffic, store: StateStore, *, teachers: Collection[str] = ()
    ) -> None:
        self._bandit = bandit
        self._router = router
        self._traffic = traffic
        self._store = store
        self._teachers = teachers
        self._feedback = LogReader(store, FEEDBACK, from_now=True)
        self._rewards = LogReader(store, REWARDS)
        self._rewarded: OrderedDict[str, None] = OrderedDict()

    async def adjust(self, call: Call, decision: Decision) -> Decision:
        """Return the decision, or the same with another node that has earned more or is worth a try."""
        if decision.out_of_scope or decision.via or call.attachments or not self._bandit.concerns(decision.candidates):
            return decision
        choice = self._bandit.choose(decision.candidates, await self._context(routing_text(call)))
        if choice.why is None:
            return decision
        chosen = decision.candidates[choice.index]
        return replace(
            decision,
            node=chosen.node,
            probability=chosen.probability,
            candidates=(chosen, *(item for item in decision.candidates if item is not chosen)),
            query=call.text,  # a rewrite was made for the other node
            strategy=f"{decision.strategy}+{choice.why}",
        )

    def describe(self) -> Mapping[str, Any]:
        """Return what the bandit may do, has done and has learned in this gateway."""
        rails = self._bandit.rails
        return {
            "share": rails.share,
            "floor": rails.floor,
            "confidence": rails.confidence,
        } | dict(self._bandit.describe())

    async def follow(self) -> None:
        """Learn until cancelled."""
        await keep_up(self.catch_up, FOLLOW_S, log, "feedback could not be followed")

    async def catch_up(self) -> None:
        """Turn new feedback on this gateway's requests into rewards, and learn every gateway's."""
        async for opinion in self._feedback.new():
            if teaches(opinion, self._teachers):
                await self._reward(opinion)
        async for record in self._rewards.new():
            self._learn(record)

    async def _reward(self, opinion: Mapping[str, Any]) -> None:
        entry = next((e for e in reversed(self._traffic.local()) if e.known_as(opinion["request_id"])), None)
        if entry is None or entry.node is None or entry.request_id in self._rewarded:
            return
        earned: dict[NodeName, float] = {}
        if (score := score_of(opinion, entry.node)) is not None:
            earned[entry.node] = score
        if right := opinion.get("right_node"):
            earned[right] = 1.0
        if earned:
            self._rewarded[entry.request_id] = None
            if len(self._rewarded) > REWARDED:
                self._rewarded.popitem(last=False)
            await self._store.append(REWARDS, await self._records(entry, earned), keep=KEPT)

    async def _records(self, entry: Routed, earned: Mapping[NodeName, float]) -> list[bytes]:
        context = [round(float(value), 5) for value in await self._context(entry.text)]
        scores = await self._router.score([entry.text])
        shares = (scores.in_scope[0] * scores.probabilities[0]).tolist()
        known = dict(zip(scores.labels, shares, strict=True))
        encoder = self._router.encoder.name
        return [
            orjson.dumps({"node": node, "context": context, "probability": known[node], "reward": reward,
                          "encoder": encoder})
            for node, reward in earned.items()
            if node in known
        ]  # fmt: skip

    def _learn(self, record: Mapping[str, Any]) -> None:
        if record["encoder"] == self._router.encoder.name:  # another encoder's numbers mean something else
            context = np.asarray(record["context"])
            self._bandit.reward(record["node"], context, record["probability"], record["reward"])

    async def _context(self, text: str) -> AnyArray:
        (vector,) = await asyncio.to_thread(self._router.encoder.encode, [text])
        return self._bandit.context(vector)


def make_exploration(settings: Settings, router: Router, traffic: Traffic, store: StateStore) -> Exploration | None:
    """Return the bandit at work, if the settings want one."""
    if not settings.bandit:
        return None
    rails = Rails(settings.bandit_share, settings.bandit_floor, settings.bandit_confidence)
    bandit = Bandit(rails, seed=settings.bandit_seed)
    return Exploration(bandit, router, traffic, store, teachers=settings.teachers)
