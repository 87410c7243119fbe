"""What a gateway sees of newer versions: how their calls ended, and what people think of the answers."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.access.principal import OPERATOR_ID
from deployments.feedback import LOG as FEEDBACK
from deployments.feedback import score_of
from deployments.invoke.canary import Verdict
from deployments.log_reader import LogReader, keep_up
from deployments.rollouts import Rollouts, Tally
from deployments.snapshot import Canary
from graph import telemetry as otel
from graph.stores.base import StateStore
from graph.types import Call, NodeName

log = logging.getLogger("modelyard.rollout")

FOLLOW_S = 1.0
REMEMBERED = 20_000
"""Requests to nodes in a rollout that feedback may still come for."""
GOOD = 0.5
"""Score from which an answer counts as acceptable."""


@dataclass(slots=True)
class _Asked:
    """A request to a node in a rollout."""

    node: NodeName
    version: int
    """The newer version at that time."""
    new: bool
    """Whether it answered."""
    text: int
    """Hash of the request's text."""
    request_id: str
    trace_id: str
    caller: str
    """Who asked."""
    rated: bool = False


class Watch:
    """Counts in memory, and writes to the store once a second. Used from one event loop."""

    def __init__(
        self, rollouts: Rollouts, store: StateStore, on_verdict: Callable[[NodeName, Verdict], None] = lambda *_: None
    ) -> None:
        self.rollouts = rollouts
        self._on_verdict = on_verdict
        self._asked: OrderedDict[str, _Asked | None] = OrderedDict()
        """By request id and by trace id; None where a plan asked several nodes, so that nobody knows who is meant.
        An id that several callers chose is the first one's."""
        self._old: dict[tuple[NodeName, int], bool] = {}
        """Whether the older version's answer to a text was good, as people said."""
        self._unwritten: dict[tuple[NodeName, int, str], tuple[Tally, list[dict[str, Any]]]] = {}
        self._feedback = LogReader(store, FEEDBACK, from_now=True)

    def asked(self, canary: Canary, call: Call, new: bool) -> None:
        """Note which version a call went to."""
        context = call.context
        trace_id = otel.trace_id(otel.span_from(context.trace))
        caller = context.caller.id if context.caller else OPERATOR_ID
        asked = _Asked(canary.spec.name, canary.version, new, hash(call.text), context.request_id, trace_id, caller)
        for id in filter(None, (context.request_id, trace_id)):
            before = self._asked.get(id, asked)
            if before is not None and before.caller != caller:
                continue
            self._asked[id] = asked if before is not None and before.node == asked.node else None
            if len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)

    def judged(self, canary: Canary, call: Call, verdict: Verdict, failed: str) -> None:
        """Note how the newer version did."""
        self._on_verdict(canary.spec.name, verdict)
        flip = {
            "request_id": call.context.request_id,
            "trace_id": otel.trace_id(otel.span_from(call.context.trace)),
            "by": failed,
            "at": time.time(),
        }
        seen = Tally(answers=1, flips=int(verdict == "flip"))
        self._add(canary.spec.name, canary.version, seen, flip if verdict == "flip" else None)

    async def follow(self) -> None:
        """Write what was seen, and heed feedback, until cancelled."""
        await keep_up(self.catch_up, FOLLOW_S, log, "rollouts could not be followed")

    async def catch_up(self) -> None:
        """Heed new feedback on this gateway's requests, and write what was seen."""
        async for opinion in self._feedback.new():
            self._rated(opinion)
        for (node, version, by), (tally, flips) in list(self._unwritten.items()):
            del self._unwritten[node, version, by]
            try:
                await self.rollouts.add(node, version, tally, flips, by=by)
            except BaseException:  # raised again: what could not be written goes with the next attempt
                for flip in (None, *flips):
                    self._add(node, version, Tally() if flip else tally, flip, by)
                raise

    def _rated(self, opinion: Mapping[str, Any]) -> None:
        """Count a rating by whoever asked, or by an admin: request ids are easily told and chosen."""
        asked = self._asked.get(opinion["request_id"])
        if asked is None or asked.rated or (score := score_of(opinion, asked.node)) is None:
            return
        by = "" if opinion.get("admin") else str(opinion["from"])
        if by not in ("", asked.caller):
            return
        asked.rated = True
        good = score >= GOOD
        if not asked.new:
            self._old[asked.node, asked.text] = good
            self._add(asked.node, asked.version, Tally(old_rated=1, old_bad=int(not good)), None, by)
            return
        before = self._old.get((asked.node, asked.text))
        flip = bool(before) and not good
        alone = before is None
        seen = Tally(rated=1, rated_flips=int(flip), unpaired=int(alone), unpaired_bad=int(alone and not good))
        ids = {"request_id": asked.request_id, "trace_id": asked.trace_id, "by": "feedback", "at": time.time()}
        self._add(asked.node, asked.version, seen, None if good or before is False else ids, by)

    def _add(self, node: NodeName, version: int, seen: Tally, flip: dict[str, Any] | None, by: str = "") -> None:
        tally, flips = self._unwritten.get((node, version, by), (Tally(), []))
        self._unwritten[node, version, by] = (tally + seen, [*flips, flip] if flip else flips)
