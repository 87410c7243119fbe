"""Plans by the artefact of a folder: loaded when first needed, again when its card changes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from deployments.settings import Settings
from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.plan import Plan
from graph.types import Call
from router.planner_artifact import CARD, load_planner
from router.planners.example_based import NAME, fits, plan_by_example
from router.planners.learned import LearnedPlanner
from router.planners.llm import LLMPlanner
from router.planners.tools_alone import ToolsPlanner
from router.planners.trained import TrainedPlanner
from router.router import Router
from router.types import Planner

log = logging.getLogger("modelyard.planner")


def make_planner(settings: Settings, router: Router, invoke: Invoke) -> Planner:
    """Return the planner that the settings ask for: a chat node, else a trained one, else rules and learned scores."""
    learned = LearnedPlanner(router.score, policy_of=router.policy_of)
    encoder = None if settings.strategy == "keyword" else router.encoder
    planner: Planner = ToolsPlanner(router.score, encoder, learned, policy_of=router.policy_of)
    if settings.planner_artifact is not None:
        planner = FollowedPlanner(settings.planner_artifact, planner)
    return LLMPlanner(invoke, settings.planner_node, planner) if settings.planner_node else planner


class FollowedPlanner:
    """Follows one folder. What its planner cannot plan (attachments, nodes that are gone), another one does."""

    name = NAME

    def __init__(self, folder: Path, other: Planner) -> None:
        self._folder = folder
        self._other = other
        self._trained: TrainedPlanner | None = None
        self._seen: tuple[int, int] | None = None
        self._loading = asyncio.Lock()

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan that the graph accepts; raise `NoNodeFits` when neither planner has one."""
        trained = await self._current()
        if trained is None or not fits(trained, call, graph):
            return await self._other.plan(call, graph)
        try:
            return await asyncio.to_thread(plan_by_example, trained, call, graph)
        except NoNodeFits:
            return await self._other.plan(call, graph)

    async def _current(self) -> TrainedPlanner | None:
        """Return the newest planner of the folder; what was in use stays if it cannot be read, which is logged."""
        if self._stamp() == self._seen:
            return self._trained
        async with self._loading:
            stamp = self._stamp()
            if stamp is None or stamp == self._seen:
                return self._trained
            self._seen = stamp
            try:
                self._trained = (await asyncio.to_thread(load_planner, self._folder)).planner
                log.info("trained planner of %d nodes taken from %s", len(self._trained.tools), self._folder)
            except Exception:  # a boundary: whatever a broken artefact raises, requests go on being planned as before
                log.exception("the trained planner in %s could not be loaded; what was in use stays", self._folder)
        return self._trained

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._folder / CARD).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
