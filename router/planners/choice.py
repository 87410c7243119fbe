"""Which node takes each clause: by the learned scores, and by what clause and node have to do with each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Modality, NodeName
from router.decide import over_budget, quality_of, rank
from router.planners.clauses import Clause, join
from router.planners.lexicon import BARE
from router.planners.media import converts, takes, transcribes
from router.policy import Policy
from router.types import Scores

CONFIDENT = 0.5
"""Probability from which the second half of a soft boundary is a request of its own."""
RIVAL = 0.1
"""Share of the likeliest node's probability from which another may be preferred to it for its price or speed."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A clause and what the scores say of it."""

    clause: Clause
    probabilities: dict[NodeName, float]
    in_scope: float
    shortlisted: bool = False
    """Whether these are the only nodes of very many that come into question."""
    quality: Mapping[NodeName, float] = field(default_factory=dict)
    """Estimated quality of nodes' answers to it, where correctness data say something."""

    @property
    def order(self) -> tuple[NodeName, ...]:
        """All scored nodes, best first."""
        return tuple(sorted(self.probabilities, key=lambda name: (-self.probabilities[name], name)))


def ranked(clauses: Sequence[Clause], scores: Scores) -> list[Ranked]:
    """Put each clause beside its scores, and join the halves of soft boundaries that go to one node.

    Two halves that ask one node for one thing ("to load a file and print it") are better answered in one call; parts
    that stand firmly apart stay apart even at one node, so that they run in parallel and each gets a whole answer.
    """
    found: list[Ranked] = []
    for index, (clause, row, scope) in enumerate(zip(clauses, scores.probabilities, scores.in_scope, strict=True)):
        probabilities = {label: float(value) for label, value in zip(scores.labels, row, strict=True)}
        item = Ranked(clause, probabilities, float(scope), scores.shortlisted, quality_of(scores, index))
        if found and BARE.match(clause.text) and not transcribes(found[-1].clause.text):
            item = replace(found[-1], clause=clause)
        if found and clause.soft and not _apart(found[-1], item):
            found[-1] = replace(found[-1], clause=join(found[-1].clause, clause))
        else:
            found.append(item)
    return found


def _apart(first: Ranked, second: Ranked) -> bool:
    if not first.order or not second.order or first.order[0] == second.order[0]:
        return False
    return second.probabilities[second.order[0]] * second.in_scope >= CONFIDENT * 0.5 and second.in_scope >= CONFIDENT


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses nodes on one graph, as `decide` ranks them: by what is preferred of quality, cost and latency."""

    graph: ModelGraph
    min_in_scope: float
    policy: Policy = field(default_factory=Policy)

    def choose(self, item: Ranked, media: Sequence[Modality], before: NodeName | None) -> NodeName | None:
        """Return the node for a clause, or None if it is out of scope and no node is the default.

        `media` are the attachments that it speaks of; `before` is the node of the clause whose output it takes.
        """
        usable = [spec for spec in self._considered(item, before) if self._usable(spec, media)]
        if item.in_scope >= self.min_in_scope:
            return self._best(item, usable)
        default = self.graph.default
        seeing = [
            spec for spec in usable if not spec.is_tool and Modality.IMAGE in media and takes(spec, Modality.IMAGE)
        ]
        names = {spec.name for spec in usable}
        if seeing:
            return self._best(item, seeing)
        if default in names:
            return default
        if before in names and not self.graph[before].is_tool:
            return before
        hearing = [spec for spec in usable if not spec.is_tool and any(takes(spec, kind) for kind in media)]
        return self._best(item, hearing)

    def converter(self, item: Ranked | None, modality: Modality) -> NodeName | None:
        """Return the node that turns an attachment into text: one made for it, before one that also takes text."""
        able = [spec for spec in self.graph if converts(spec, modality) and not over_budget(spec, self.policy)]
        texts = [spec for spec in able if Modality.TEXT in spec.produces] or able
        made_for_it = [spec for spec in texts if Modality.TEXT not in spec.accepts] or texts
        return self._first(item, [spec.name for spec in made_for_it])

    def _best(self, item: Ranked, specs: Iterable[NodeSpec]) -> NodeName | None:
        """Return the node of most utility among those about as likely as the likeliest; names break ties.

        A plan's graph is full of tools that cost nothing: one that a clause does not mean is no cheaper way to do it.
        """
        names = [spec.name for spec in specs]
        least = RIVAL * max((item.probabilities.get(name, 0.0) for name in names), default=0.0)
        return self._first(item, [name for name in names if item.probabilities.get(name, 0.0) >= least])

    def _first(self, item: Ranked | None, names: Iterable[NodeName]) -> NodeName | None:
        probabilities = {name: item.probabilities.get(name, 0.0) if item else 0.0 for name in names}
        ranked = rank(probabilities, item.quality if item else {}, self.graph, self.policy)
        return ranked[0].node if ranked else None

    def _considered(self, item: Ranked, before: NodeName | None) -> Iterable[NodeSpec]:
        if not item.shortlisted:
            return self.graph
        names = dict.fromkeys([*item.probabilities, self.graph.default, before])
        return [self.graph[name] for name in names if name is not None and name in self.graph]

    def _usable(self, spec: NodeSpec, media: Sequence[Modality]) -> bool:
        if over_budget(spec, self.policy):
            return False
        signature = spec.signature()
        return spec.is_tool or "prompt" in signature or any(kind.value in signature for kind in media)
