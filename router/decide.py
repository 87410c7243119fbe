"""`decide`: from scores to a decision. Shared by every strategy, so an evaluation scores once and sweeps policies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Modality, NodeName
from router.modality import Reach, reach
from router.policy import Policy
from router.types import Candidate, Decision, Excluded, Scores, Utility

TOOL_REASON = "takes typed arguments; a plan can fill them"
MOST_TAKERS = 256
"""Of very many nodes, how many share an attachment that comes without text: the first by name."""
_NONE: Mapping[NodeName, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Field:
    """The nodes of a graph, sorted by whether they can take a call."""

    eligible: Mapping[NodeName, Reach]
    unable: Mapping[NodeName, str]
    """By nature: wrong modality, or a tool."""
    unavailable: Mapping[NodeName, str]
    """For now or for this caller, as the gateway says."""

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        reasons = {**self.unable, **self.unavailable}
        return tuple(Excluded(name, reasons[name]) for name in sorted(reasons))


def decide(
    scores: Scores,
    row: int,
    graph: ModelGraph,
    policy: Policy,
    call: Call,
    *,
    excluded: Mapping[NodeName, str] = _NONE,
    strategy: str = "",
) -> Decision:
    """Choose a node for a call, given row `row` of `scores`.

    `excluded` gives nodes that the caller of this function rules out, with the reason in words. Tools and nodes of the
    wrong modality are ruled out here, and those over the budget. The caller's preferences are in the call's context.

    Probabilities. The outcomes of a text are: node i is right, in_scope * p_i each; nothing fits, 1 - in_scope. A node
    that cannot take the call by its nature cannot have been meant, so the others, *and* "nothing fits", are conditioned
    on it not being right: each is divided by 1 - in_scope * (sum of p over such nodes). A node that is only
    unavailable may well have been meant: it keeps its share, so nobody else becomes likelier because it is down.
    The sum over nodes that can take the call is the probability that one of them fits; if it is below
    `policy.min_probability`, the call is out of scope. The default node is right wherever nothing else is, so what is
    missing from 1 is added to its own probability: it also takes a call that is in scope, but likelier to fit nothing
    than to fit the best expert. Without a default node, an out-of-scope call gets no node.

    An attachment without text is decided by modality alone: nodes that take all of it share the probability.

    Where the scores are a shortlist, only its nodes and the default are looked at, and only they can be in `excluded`.
    """
    policy = policy.preferring(call.context.prefer)
    found = _sort_out(_considered(scores, graph, call, excluded), graph, call, policy, excluded)
    if call.attachments and Modality.TEXT not in call.modalities:
        probabilities = {name: 1.0 / len(found.eligible) for name in found.eligible}
        in_scope = 1.0 if found.eligible else 0.0
    else:
        probabilities = _condition(scores, row, found)
        in_scope = sum(probabilities.values())
    default = graph.default if graph.default in found.eligible else None
    if default is not None:
        probabilities[default] += max(0.0, 1.0 - in_scope)
    ranked = rank(probabilities, quality_of(scores, row), graph, policy)
    out_of_scope = not ranked or in_scope < policy.min_probability
    node = default if out_of_scope else ranked[0].node
    return Decision(
        node=node,
        probability=ranked[0].probability if ranked else 0.0,
        out_of_scope=out_of_scope,
        candidates=ranked,
        excluded=found.excluded,
        query=call.text,
        strategy=strategy,
        via=found.eligible[node].via if node is not None else (),
    )


def _considered(scores: Scores, graph: ModelGraph, call: Call, excluded: Mapping[NodeName, str]) -> Iterable[NodeSpec]:
    """Return the nodes to look at: all, or of very many those that come into question."""
    if not scores.shortlisted:
        return graph
    names: Iterable[NodeName] = scores.labels
    if call.attachments and Modality.TEXT not in call.modalities:
        names = islice((name for name in graph.feeds.takers(call.modalities) if name not in excluded), MOST_TAKERS)
    wanted = dict.fromkeys([*names, graph.default])
    return [graph[name] for name in wanted if name is not None and name in graph]


def _sort_out(
    considered: Iterable[NodeSpec], graph: ModelGraph, call: Call, policy: Policy, excluded: Mapping[NodeName, str]
) -> _Field:
    eligible: dict[NodeName, Reach] = {}
    unable: dict[NodeName, str] = {}
    unavailable: dict[NodeName, str] = {}

    def lacking(name: NodeName) -> str | None:
        return excluded[name] if name in excluded else over_budget(graph[name], policy)

    alike: dict[frozenset[Modality], Reach | str] = {}  # without attachments, what a node accepts says all
    plain = not call.attachments
    for spec in considered:
        way = TOOL_REASON if spec.is_tool else alike.get(spec.accepts) if plain else None
        if way is None:
            way = reach(spec, call, graph, lambda name: lacking(name) is not None)
            alike[spec.accepts] = way
        if isinstance(way, str):
            unable[spec.name] = way
        elif (why := lacking(spec.name)) is not None:
            unavailable[spec.name] = why
        else:
            eligible[spec.name] = way
    return _Field(eligible, unable, unavailable)


def _condition(scores: Scores, row: int, found: _Field) -> dict[NodeName, float]:
    in_scope = float(scores.in_scope[row])
    share = dict(zip(scores.labels, (in_scope * scores.probabilities[row]).tolist(), strict=True))
    rest = 1.0 - sum(share.get(name, 0.0) for name in found.unable)
    if rest <= 1e-9:
        return dict.fromkeys(found.eligible, 0.0)
    joint = {name: min(1.0, share.get(name, 0.0) / rest) for name in found.eligible}
    total = sum(joint.values())
    return joint if total <= 1.0 else {name: value / total for name, value in joint.items()}


def over_budget(spec: NodeSpec, policy: Policy) -> str | None:
    """Return why a node costs too much for a policy, in words; None if it does not."""
    if policy.budget is None or _price(spec) <= policy.budget:
        return None
    return f"costs {_price(spec):g} per million tokens; the budget is {policy.budget:g}"


def quality_of(scores: Scores, row: int) -> dict[NodeName, float]:
    """Return the estimated quality of the nodes that correctness data say something of."""
    if scores.quality is None:
        return {}
    found = zip(scores.labels, scores.quality[row].tolist(), strict=True)
    return {name: value for name, value in found if not math.isnan(value)}


def rank(
    probabilities: Mapping[NodeName, float], quality: Mapping[NodeName, float], graph: ModelGraph, policy: Policy
) -> tuple[Candidate, ...]:
    """Return candidates by falling utility; ties by name, so that no order of nodes matters."""
    cost = _relative({name: _price(graph[name]) for name in probabilities}) if policy.cost_weight else {}
    slow = _relative({n: policy.latency_ms.get(n, 0.0) for n in probabilities}) if policy.latency_weight else {}

    def candidate(name: NodeName) -> Candidate:
        known = quality.get(name)
        utility = Utility(
            policy.quality_weight * (probabilities[name] if known is None else known),
            policy.cost_weight * cost.get(name, 0.0),
            policy.latency_weight * slow.get(name, 0.0),
        )
        return Candidate(name, probabilities[name], utility, known)

    return tuple(sorted(map(candidate, probabilities), key=lambda found: (-found.utility.total, found.node)))


def _price(spec: NodeSpec) -> float:
    return spec.cost.input_per_million + spec.cost.output_per_million


def _relative(values: Mapping[NodeName, float]) -> dict[NodeName, float]:
    most = max(values.values(), default=0.0)
    return {name: value / most for name, value in values.items()} if most > 0 else {}
