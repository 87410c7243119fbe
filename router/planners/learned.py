"""Plans with rules for the language of requests and learned scores for the choice of nodes. No large model needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Value
from graph.types import Call, Modality, NodeName
from router.planners.assembly import Assembly, prompt_of
from router.planners.choice import Chooser, Ranked, ranked
from router.planners.clauses import MAX_CLAUSES, Splitter
from router.planners.dependencies import Needs, needs, points_at_attachment, points_outward
from router.planners.media import attached, mentioned, transcribes
from router.policy import Policy
from router.types import Scores

AsyncScore: TypeAlias = Callable[[Sequence[str]], Awaitable[Scores]]
PolicyOf: TypeAlias = Callable[[Call], Policy]

SCORED_CHARACTERS = 2000
"""Of each clause; encoders read no further."""


def as_preferred(call: Call) -> Policy:
    """Return the policy that a call's own preferences make."""
    return Policy().preferring(call.context.prefer)


class LearnedPlanner:
    """Splits a request into clauses, gives each to a node, and joins them where one needs another."""

    name = "learned"

    def __init__(
        self,
        score: AsyncScore,
        *,
        min_in_scope: float = 0.5,
        limit: int = MAX_CLAUSES,
        policy_of: PolicyOf = as_preferred,
    ) -> None:
        """`policy_of` says what is preferred of the nodes for one call: `Router.policy_of`, where there is a router."""
        self._score = score
        self._policy_of = policy_of
        self._min_in_scope = min_in_scope
        self._splitter = Splitter(limit)

    async def plan(self, call: Call, graph: ModelGraph) -> Plan:
        """Return a plan that the graph accepts; raise `NoNodeFits` when no clause finds a node."""
        split = self._splitter.split(call.text)
        chooser = Chooser(graph, self._min_in_scope, self._policy_of(call))
        if not split.clauses:
            return _media_only(call, chooser)
        scores = await self._score([clause.text[:SCORED_CHARACTERS] for clause in split.clauses])
        drafting = _Drafting.of(call, chooser, ranked(split.clauses, scores), split.material)
        for index in range(len(drafting.items)):
            drafting.draft(index)
        if not drafting.assembly.tasks:
            raise NoNodeFits(" ".join(drafting.assembly.missing) or "no node fits any part of this request")
        return drafting.assembly.plan(self.name, [ref for refs in drafting.outputs for ref in refs])


def _media_only(call: Call, chooser: Chooser) -> Plan:
    """Plan for attachments that come without a word."""
    assembly = Assembly(chooser.graph)
    for modality, refs in attached(call).items():
        node = chooser.converter(None, modality)
        if node is None:
            assembly.ask(f"No node takes {modality}.")
        else:
            assembly.model(node, "", (), {modality: list(refs)})
    if not assembly.tasks:
        raise NoNodeFits(" ".join(assembly.missing) or "the request is empty")
    return assembly.plan(LearnedPlanner.name)


@dataclass(slots=True)
class _Drafting:
    """The state of one request on its way to a plan."""

    call: Call
    chooser: Chooser
    items: list[Ranked]
    material: str
    media: dict[Modality, tuple[Ref, ...]]
    spoken_of: list[tuple[Modality, ...]]
    named: frozenset[Modality]
    sources: list[bool]
    needs: list[Needs]
    assembly: Assembly
    outputs: list[list[Ref]]

    @classmethod
    def of(cls, call: Call, chooser: Chooser, items: list[Ranked], material: str) -> _Drafting:
        media = attached(call)
        texts = [item.clause.text[:SCORED_CHARACTERS] for item in items]
        spoken_of = [tuple(kind for kind in media if mentioned(text, kind)) for text in texts]
        named = frozenset(kind for kinds in spoken_of for kind in kinds)
        for kind in media:
            if kind not in named:
                meant = next((i for i, text in enumerate(texts) if points_at_attachment(text)), 0)
                spoken_of[meant] += (kind,)
        sources = [transcribes(text) for text in texts]
        found = needs([item.clause for item in items], [bool(kinds) for kinds in spoken_of], sources, bool(material))
        return cls(call, chooser, items, material, media, spoken_of, named, sources, found, Assembly(chooser.graph), [])

    def draft(self, index: int) -> None:
        """Add the tasks of one clause."""
        if self.sources[index]:
            made = self._transcribed(index)
        else:
            made = self._answered(index)
        self.outputs.append(made)

    def _transcribed(self, index: int) -> list[Ref]:
        refs = self.media.get(Modality.AUDIO, ())
        node = self.chooser.converter(self.items[index], Modality.AUDIO)
        if not refs or node is None:
            lacks = "no recording is attached" if not refs else "no node takes audio"
            self.assembly.ask(f"{self._quote(index)}: {lacks}.")
            return []
        return [self.assembly.carry(ref, Modality.AUDIO, (node,)) for ref in refs]

    def _answered(self, index: int) -> list[Ref]:
        item, need = self.items[index], self.needs[index]
        earlier = [ref for past in sorted(need.earlier) for ref in self.outputs[past]]
        kinds = self._kinds(index)
        before = self.assembly.node_of(earlier[0]) if earlier else None
        written = (
            "transcript" in item.clause.text[:SCORED_CHARACTERS].lower()
        )  # asks about text, so not for a hearing node
        node = self.chooser.choose(item, () if written else kinds, before)
        if node is None:
            self.assembly.ask(f"{self._quote(index)}: no node here is made for this.")
            return []
        brought = self._brought(index, node, kinds)
        if brought is None:
            return []
        direct, texts = brought
        as_media, as_text = self.assembly.outputs(node, earlier)
        if self.chooser.graph[node].is_tool:
            attachments = [ref for refs in direct.values() for ref in refs]
            return self.assembly.tool(node, item.clause.text, [*as_text, *texts], attachments)
        direct |= {kind: [ref] for kind, ref in as_media.items()}
        context: list[Value] = [*self._passages(index), *texts, *as_text]
        return self.assembly.model(node, self._prompt(index), context, direct)

    def _kinds(self, index: int) -> tuple[Modality, ...]:
        """Return the attachments that a clause needs: those it names, or those the clause before was about."""
        if self.spoken_of[index] or not self.needs[index].attachment:
            return self.spoken_of[index]
        past = next((self.spoken_of[i] for i in reversed(range(index)) if self.spoken_of[i]), tuple(self.media))
        return past

    def _brought(
        self, index: int, node: NodeName, kinds: Sequence[Modality]
    ) -> tuple[dict[Modality, list[Ref]], list[Ref]] | None:
        direct: dict[Modality, list[Ref]] = {}
        texts: list[Ref] = []
        for kind in kinds:
            way = self.assembly.media(node, kind, self.media[kind], self.items[index].order)
            if way is None:
                self.assembly.ask(f"{self._quote(index)}: no node turns {kind} into what {node} takes.")
                if kind in self.named:
                    return None
                continue
            direct |= {kind: way[0]} if way[0] else {}
            texts += way[1]
        return direct, texts

    def _passages(self, index: int) -> list[Value]:
        """Return what a clause refers to outside of the plan: the pasted passage, or the last answer of the chat."""
        if self.material and len(self.items) > 1 and self.needs[index].material:
            return [self.material]
        replies = [message.text for message in self.call.messages if message.role == "assistant" and message.text]
        if index == 0 and replies and not self.media and points_outward(self.items[0].clause.text[:SCORED_CHARACTERS]):
            return [replies[-1]]
        return []

    def _prompt(self, index: int) -> Value:
        if len(self.items) == 1:
            return prompt_of(self.call.text, self.call.text)
        return self.items[index].clause.text

    def _quote(self, index: int) -> str:
        text = " ".join(self.items[index].clause.text.split())
        return f"“{text if len(text) <= 80 else text[:77] + '…'}”"
