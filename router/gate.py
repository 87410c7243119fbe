"""The registration gate: what a change of one node does to everyone else, before it goes live.

Two routers are compared, the live one and a candidate that knows the changed node, on held-out examples (`cross_fit`)
and on recent requests. Regressions are counted as negative flips (Yan et al. 2021, "Positive-congruent training"):
requests that the live router sends to the right node and the candidate does not.

Whether two nodes collide is told in two ways (`router.confusion`): by the requests of each that are nearest to the
other, and by whether their requests can be told apart at all. No threshold of scope takes part, so the default node is
judged like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, NodeName
from router.confusion import Confusion, Shares, Table
from router.decide import decide
from router.evaluation.routing import Prediction, Row, evaluate
from router.gate_rules import Thresholds, Verdict, judge
from router.policy import Policy
from router.scores import split_rows
from router.types import Decision, Scorer, Scores

SHOWN = 10
"""Negative flips that a report shows."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A router to compare: its scorer, the nodes that it may choose from, and its policy."""

    scorer: Scorer
    graph: ModelGraph
    policy: Policy

    def seen(self, texts: Sequence[str]) -> _Seen:
        """Return what this router makes of some texts."""
        if not texts:
            return _Seen((), ())
        rows = split_rows(self.scorer.score(texts))
        calls = [Call((Message("user", text),)) for text in texts]
        decisions = [decide(row, 0, self.graph, self.policy, call) for row, call in zip(rows, calls, strict=True)]
        return _Seen(tuple(decisions), tuple(_shares(row, self.graph) for row in rows))


@dataclass(frozen=True, slots=True)
class _Seen:
    decisions: tuple[Decision, ...]
    shares: tuple[Shares, ...]
    """How likely each node that takes a text is right, given that some node fits."""


@dataclass(frozen=True, slots=True)
class Figures:
    """How one router does on requests whose node is known; None where there are none."""

    accuracy: float | None
    calibration_error: float | None
    """Expected calibration error of the probability, 10 bins."""
    out_of_scope: float | None
    """Share that it calls out of scope."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A held-out request that was sent to the right node and no longer is."""

    text: str
    node: NodeName
    now: NodeName | None


@dataclass(frozen=True, slots=True)
class Recent:
    """What would become of recent requests; shares of all of them."""

    texts: int
    taken: float
    """Go to the changed node and did not before."""
    moved: float
    """Go elsewhere than before, but not to the changed node."""
    live_out_of_scope: float
    candidate_out_of_scope: float


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a change of one node does."""

    node: NodeName
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it is not simply applied, in words and figures."""
    rows: int
    """Held-out requests of the nodes that the live router knows."""
    own_rows: int
    """Held-out requests of the changed node."""
    own_accuracy: float | None
    """Share of its own requests that the changed node gets."""
    live: Figures
    """The live router on the requests of nodes that it knows."""
    candidate: Figures
    """The candidate on the same."""
    flips: int
    """Negative flips among them. What the default node hands to the changed one is no flip: that is what it is for."""
    confusion: tuple[Confusion, ...]
    """Most confused first."""
    examples: tuple[Flip, ...]
    """Some of the flips."""
    recent: Recent | None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form, figures rounded."""
        data: dict[str, Any] = _rounded(asdict(self))
        for item, confusion in zip(data["confusion"], self.confusion, strict=True):
            item |= {name: round(getattr(confusion, name), 4) for name in ("overlap", "certain", "mixed_certain")}
        return data


def compare(
    live: Contender,
    candidate: Contender,
    rows: Sequence[Row],
    recent: Sequence[str],
    *,
    changed: NodeName,
    thresholds: Thresholds | None = None,
) -> GateReport:
    """Compare two routers that differ in one node.

    `rows` are requests with their node, which neither scorer may have learned from; `recent` are requests whose node
    nobody knows. Work is one pass of each scorer and one decision a request.
    """
    texts = [row.text for row in rows]
    before, after = live.seen(texts), candidate.seen(texts)
    known = [i for i, row in enumerate(rows) if row.node in live.graph]
    own = [i for i, row in enumerate(rows) if row.node == changed]
    flips = [i for i in known if _flipped(rows[i], before, after, i, changed, candidate.graph.default)]
    draft = GateReport(
        node=changed,
        verdict="apply",
        reasons=(),
        rows=len(known),
        own_rows=len(own),
        own_accuracy=_figures([rows[i] for i in own], after, own).accuracy,
        live=_figures([rows[i] for i in known], before, known),
        candidate=_figures([rows[i] for i in known], after, known),
        flips=len(flips),
        confusion=_confusion(rows, after, flips, changed),
        examples=tuple(Flip(rows[i].text, rows[i].node or "", after.decisions[i].node) for i in flips[:SHOWN]),
        recent=_recent(live.seen(recent), candidate.seen(recent), changed) if recent else None,
    )
    verdict, reasons = judge(draft, thresholds or Thresholds())
    return replace(draft, verdict=verdict, reasons=reasons)


def _shares(scores: Scores, graph: ModelGraph) -> Shares:
    pairs = zip(scores.labels, scores.probabilities[0].tolist(), strict=True)
    return {name: share for name, share in pairs if name in graph and takes_text(graph[name])}


def takes_text(spec: NodeSpec) -> bool:
    """Whether a request of text alone can be routed to a node."""
    return not spec.is_tool and Modality.TEXT in spec.accepts


def _flipped(row: Row, before: _Seen, after: _Seen, i: int, changed: NodeName, default: NodeName | None) -> bool:
    was, now = before.decisions[i].node, after.decisions[i].node
    if was != row.node or now == row.node:
        return False
    return not (row.node == default and now == changed)


def _figures(rows: Sequence[Row], seen: _Seen, indices: Sequence[int]) -> Figures:
    decisions = [seen.decisions[i] for i in indices]
    if not decisions:
        return Figures(None, None, None)
    found = evaluate(rows, [Prediction(decision.node, decision.probability) for decision in decisions])
    outside = _share([decision.out_of_scope for decision in decisions])
    return Figures(found.accuracy, found.calibration_error, outside)


def confused(contender: Contender, rows: Sequence[Row], *, above: float) -> list[tuple[NodeName, Confusion]]:
    """Return the pairs of nodes of one router whose overlap is surely above a limit, the worst first."""
    table = Table.of(rows, contender.seen([row.text for row in rows]).shares)
    found = [(second, table.pair(first, second)) for first, second in table.mistaken]
    return sorted((item for item in found if item[1].certain > above), key=lambda item: -item[1].certain)


def _confusion(rows: Sequence[Row], after: _Seen, flips: Sequence[int], changed: NodeName) -> tuple[Confusion, ...]:
    table = Table.of(rows, after.shares)
    lost = Counter(rows[i].node for i in flips)
    own = {_plain(row.text) for row in rows if row.node == changed}
    shared = Counter(row.node for row in rows if row.node != changed and _plain(row.text) in own)
    found = [
        replace(table.pair(node, changed), flips=lost[node], shared=shared[node])
        for node in table.nodes
        if node != changed
    ]
    return tuple(sorted(found, key=lambda item: (-item.overlap, item.node)))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def _recent(before: _Seen, after: _Seen, changed: NodeName) -> Recent:
    pairs = [(was.node, now.node) for was, now in zip(before.decisions, after.decisions, strict=True)]
    return Recent(
        len(pairs),
        _share([now == changed != was for was, now in pairs]),
        _share([now != was and now != changed for was, now in pairs]),
        _share([decision.out_of_scope for decision in before.decisions]),
        _share([decision.out_of_scope for decision in after.decisions]),
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value
