"""Runs the registration gate when a node is added or changed, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from deployments.lessons import lesson
from deployments.settings import Settings
from deployments.traffic import Routed
from graph.errors import NodeRefused
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import NodeName
from router.confusion import Confusion
from router.cross_fit import Fit, assign_folds, cross_fit
from router.evaluation.routing import Row
from router.gate import Contender, GateReport, compare, confused, takes_text
from router.gate_rules import Thresholds
from router.policy import Policy

log = logging.getLogger("modelyard.gate")

FOLDS = 5
MANY = 2000
"""Examples in all beyond which one fold is judged rather than each: fits take long then, and one holds enough."""
ROWS_MAX = 1000
"""Most held-out examples, evenly picked."""
RECENT_MAX = 300
"""Most recent requests, the newest."""
NODES_MAX = 5000
"""Nodes beyond which fits take minutes."""
DECISIONS_MAX = 200_000
"""Most requests times nodes: a decision takes time for every node."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """There was nothing to compare."""

    reasons: tuple[str, ...]
    verdict: Literal["skipped"] = "skipped"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that reads like a report's."""
        return {"verdict": self.verdict, "reasons": list(self.reasons)}


class RegistrationGate:
    """Says what a node would do to everyone else. One comparison at a time."""

    def __init__(self, fit: Fit, settings: Settings, recent: Callable[[], Awaitable[Sequence[Routed]]]) -> None:
        """`fit` makes a scorer of nodes as the live router does; `recent` gives recent requests."""
        self._fit = fit
        self._settings = settings
        self._recent = recent
        self._lock = asyncio.Lock()

    async def check(self, spec: NodeSpec, live: Sequence[NodeSpec]) -> GateReport | Skipped:
        """Compare the live nodes with the same nodes and `spec`."""
        if (why := self._pointless(spec, live)) is not None:
            return Skipped((why,))
        async with self._lock:
            began = time.perf_counter()
            recent = [entry.text for entry in await self._recent()]
            report = await asyncio.to_thread(self._compare, spec, live, recent)
        log.info("node %s: %s, %.1f s", spec.name, report.verdict, time.perf_counter() - began)
        if report.verdict == "refuse" and self._settings.gate == "warn":
            return replace(report, verdict="flag")
        return report

    async def log_flags(self, specs: Sequence[NodeSpec]) -> None:
        """Log which nodes of a graph that was loaded as it is are confused with each other."""
        taught = [spec for spec in specs if takes_text(spec) and spec.examples]
        if self._settings.gate == "off" or len(taught) < 2 or len(specs) > NODES_MAX:
            return
        async with self._lock:
            found = await asyncio.to_thread(self._confused, specs)
        for node, pair in found:
            log.warning(
                "nodes %s and %s are confused: %.0f%% of held-out requests of %s are nearest to %s, %.0f%% the other "
                "way round (overlap %.2f, flagged above %.2f)",
                pair.node, node, 100 * pair.taken, pair.node, node, 100 * pair.given, pair.overlap,
                self._settings.gate_flag_overlap,
            )  # fmt: skip

    def _confused(self, specs: Sequence[NodeSpec]) -> list[tuple[NodeName, Confusion]]:
        fold_of = assign_folds(specs, FOLDS)
        judged = _judged(fold_of)
        contender = Contender(cross_fit(specs, self._fit, fold_of, judged), ModelGraph(specs), Policy())
        rows = _evenly(_held_out(specs, lambda text: fold_of[text] in judged), ROWS_MAX)
        return confused(contender, rows, above=self._settings.gate_flag_overlap)

    def _pointless(self, spec: NodeSpec, live: Sequence[NodeSpec]) -> str | None:
        old = next((other for other in live if other.name == spec.name), None)
        if self._settings.gate == "off":
            return "the gate is off"
        if old is not None and lesson(old) == lesson(spec):
            return "what the router learns of the node is unchanged"
        if not takes_text(spec):
            return "requests are not routed to it: it is a tool or takes no text"
        if len(live) > NODES_MAX:
            return f"there are more than {NODES_MAX} nodes, too many to fit anew"
        if not spec.examples and not (old and old.examples):
            return "it has no examples to hold out"
        if not any(other.examples for other in live if other.name != spec.name and takes_text(other)):
            return "no other node has examples"
        return None

    def _compare(self, spec: NodeSpec, live: Sequence[NodeSpec], recent: Sequence[str]) -> GateReport:
        wanted = [*(other for other in live if other.name != spec.name), spec]
        fold_of = assign_folds([*live, spec], FOLDS)
        judged = _judged(fold_of)
        policy = Policy(min_probability=self._settings.min_probability)
        before = Contender(cross_fit(live, self._fit, fold_of, judged), ModelGraph(live), policy)
        after = Contender(cross_fit(wanted, self._fit, fold_of, judged), ModelGraph(wanted), policy)
        at_most = max(DECISIONS_MAX // len(wanted), 50)
        rows = _held_out([*live, spec], lambda text: fold_of[text] in judged)
        return compare(
            before,
            after,
            _evenly(rows, min(at_most, ROWS_MAX)),
            recent[-min(at_most, RECENT_MAX) :],
            changed=spec.name,
            thresholds=thresholds(self._settings),
        )


def refusal(report: GateReport) -> NodeRefused:
    """Return the error that tells why a node was refused."""
    message = (
        f"node {report.node!r} is refused: {'; '.join(report.reasons)}. Nothing was changed; force=true applies it"
    )
    return NodeRefused(message, report.to_json(), node=report.node)


def thresholds(settings: Settings) -> Thresholds:
    """Return the gate's thresholds as the settings have them."""
    return Thresholds(**{name: getattr(settings, f"gate_{name}") for name in Thresholds.__dataclass_fields__})


def _judged(fold_of: Mapping[str, int]) -> range:
    return range(FOLDS) if len(fold_of) <= MANY else range(1)


def _held_out(specs: Sequence[NodeSpec], judged: Callable[[str], bool]) -> list[Row]:
    """Return examples as labelled requests; those that a changed node had before count, too."""
    found = {(text, spec.name) for spec in specs if takes_text(spec) for text in spec.examples if judged(text)}
    return [Row(text, name) for text, name in sorted(found, key=lambda item: (item[1], item[0]))]


def _evenly(rows: Sequence[Row], at_most: int) -> list[Row]:
    step = max(1.0, len(rows) / at_most)
    return [rows[int(index * step)] for index in range(min(len(rows), at_most))]
