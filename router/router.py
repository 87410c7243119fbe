"""`Router`: keeps a fitted scorer, and decides about calls without ever blocking the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Generic, TypeVar

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, NodeName
from router.batching import Batcher
from router.choice.correctness import Correctness
from router.choice.quality import QualityModel, fit_quality
from router.choice.scorer import QualityScorer
from router.decide import decide
from router.policy import Policy
from router.scorers.indexed import IndexedScorer
from router.scorers.strategies import chosen_strategy, make_scorer
from router.scores import empty_scores, join_rows
from router.types import Decision, Encoder, Rewriter, Scorer, Scores, TrainedAhead

Value = TypeVar("Value")
FOLLOW_UP_WORDS = 5
"""A last message this short ("and in Spain?") is routed together with the message before it."""
REMEMBERED_CHARACTERS = 8000
"""Longest text whose scores and decision are remembered: requests can be megabytes long."""
MANY_EXCLUDED = 64
"""Exclusions up to which two calls with equal ones share a decision."""
_NONE: Mapping[NodeName, str] = MappingProxyType({})
_UNKNOWN: Mapping[NodeName, float] = MappingProxyType({})


class _Recent(Generic[Value]):
    """The latest values by key; used from the event loop only."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable) -> Value | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: Value) -> None:
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A scorer with everything that was said by it: swapped as one, so nothing old survives a refit."""

    scorer: Scorer
    scores: _Recent[Scores]
    decisions: _Recent[tuple[ModelGraph, Mapping[NodeName, str], Decision]]
    """With what they were made for; held, so that its identity is nobody else's."""


class Router:
    """Chooses a node for a call. One per gateway process; make it, `fit` it, and use it from one event loop."""

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy | None = None,
        *,
        strategy: str = "embedding",
        cache_size: int = 10_000,
        latency: Callable[[Call], Mapping[NodeName, float]] = lambda call: _UNKNOWN,
        rewrite: bool = False,
    ) -> None:
        """`latency` gives the milliseconds that nodes take lately, for policies that heed it.

        `rewrite` asks a strategy that can for the text that suits the chosen node, which takes it a while.
        """
        self.policy = policy or Policy()
        self.strategy = strategy
        self._encoder = encoder
        self._cache_size = cache_size
        self._quality: QualityModel | None = None
        self._trained: TrainedAhead | None = None
        self._latency = latency
        self._rewrite = rewrite
        self._batcher = Batcher()
        self._fitting = asyncio.Lock()
        self._fitted: _Fitted | None = None

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The nodes that the router has learned."""
        return self._fitted.scorer.labels if self._fitted else ()

    @property
    def encoder(self) -> Encoder:
        """What turns texts into vectors here."""
        return self._encoder

    def scorer_for(self, specs: Sequence[NodeSpec]) -> Scorer:
        """Return a scorer that knows these nodes, as `fit` would take it, without using it. Blocks."""
        if self._trained is not None:
            return self._trained.for_nodes(specs)
        return make_scorer(self.strategy, tuple(specs), self._encoder)

    def adopt(self, trained: TrainedAhead, name: str) -> None:
        """Score by a trained router from the next `fit` on; `name` is then the strategy's."""
        self._trained, self.strategy = trained, name

    async def fit(self, specs: Sequence[NodeSpec]) -> None:
        """Learn these nodes, in a thread; decisions go on with the old fit until the new one takes its place."""
        async with self._fitting:
            self._use(await asyncio.to_thread(self._learned, tuple(specs)))

    def _learned(self, specs: Sequence[NodeSpec]) -> Scorer:
        """Return a scorer of these nodes; of very many, the one in use learns what has changed."""
        known = self._fitted.scorer if self._fitted else None
        if isinstance(known, QualityScorer):
            known = known.inner
        indexed = self._trained is None and chosen_strategy(self.strategy, specs)
        if isinstance(known, IndexedScorer) and indexed == known.strategy:
            return known.refit(specs)
        return self.scorer_for(specs)

    async def learn(self, correctness: Correctness) -> None:
        """Estimate from now on, by these data, how good nodes' answers are; in a thread, and in place of any before.

        The models of the data are nodes' names; what the data say of others is no matter.
        """
        quality = await asyncio.to_thread(fit_quality, correctness, self._encoder)
        async with self._fitting:
            self._quality = quality
            if self._fitted is not None:
                scorer = self._fitted.scorer
                self._use(scorer.inner if isinstance(scorer, QualityScorer) else scorer)

    def _use(self, scorer: Scorer) -> None:
        if self._quality is not None:
            scorer = QualityScorer(scorer, self._quality)
        self._fitted = _Fitted(scorer, _Recent(self._cache_size), _Recent(self._cache_size))

    def policy_of(self, call: Call) -> Policy:
        """Return what is preferred for a call: the operator's policy, the caller's weights, what nodes take now."""
        policy = self.policy.preferring(call.context.prefer)
        return replace(policy, latency_ms=self._latency(call)) if policy.latency_weight else policy

    async def decide(self, call: Call, graph: ModelGraph, *, excluded: Mapping[NodeName, str] = _NONE) -> Decision:
        """Choose a node of `graph` for a call. `excluded` maps nodes that must not be chosen to the reason."""
        began = time.perf_counter()
        fitted = self._fitted
        text = routing_text(call)
        policy = self.policy_of(call)
        # Thousands of exclusions are one object for many calls, and are told apart by it, not by their contents.
        ruled_out: Hashable = tuple(excluded.items()) if len(excluded) <= MANY_EXCLUDED else id(excluded)
        key = (text, call.text, call.modalities, ruled_out, call.context.prefer, call.context.nodes)
        # Latencies change from call to call: a decision that heeds them is not remembered.
        lasting = fitted is not None and not policy.latency_ms
        known = fitted.decisions.get(key) if fitted and lasting else None
        if known is not None and known[0] is graph:
            return replace(known[2], elapsed_ms=(time.perf_counter() - began) * 1000)
        scores = await self._score_one(fitted, text) if fitted else empty_scores((), 1)
        strategy = fitted.scorer.strategy if fitted else self.strategy
        decision = decide(scores, 0, graph, policy, call, excluded=excluded, strategy=strategy)
        decision = await self._rewritten(fitted, decision)
        if fitted and lasting and len(text) <= REMEMBERED_CHARACTERS:
            fitted.decisions.put(key, (graph, excluded, decision))
        return replace(decision, elapsed_ms=(time.perf_counter() - began) * 1000)

    async def _rewritten(self, fitted: _Fitted | None, decision: Decision) -> Decision:
        scorer = fitted.scorer if fitted else None
        inner: object = scorer.inner if isinstance(scorer, QualityScorer) else scorer
        wanted = self._rewrite and not decision.out_of_scope and decision.query.strip()
        if decision.node is None or not wanted or not isinstance(inner, Rewriter):
            return decision
        return replace(decision, query=await asyncio.to_thread(inner.rewrite, decision.query, decision.node))

    async def score(self, texts: Sequence[str]) -> Scores:
        """Score texts, for planners: cached ones at once, the others in one batch. Labels are those of `labels`."""
        fitted = self._fitted
        if fitted is None or not texts:
            return empty_scores(self.labels, len(texts))
        return join_rows(await asyncio.gather(*(self._score_one(fitted, text) for text in texts)))

    async def aclose(self) -> None:
        """Stop the thread that scores."""
        await self._batcher.aclose()

    async def _score_one(self, fitted: _Fitted, text: str) -> Scores:
        known = fitted.scores.get(text)
        if known is None:
            known = await self._batcher.score(fitted.scorer, text)
            if len(text) <= REMEMBERED_CHARACTERS:
                fitted.scores.put(text, known)
        return known


def routing_text(call: Call) -> str:
    """Return the text that is scored: the last user message, after the one before it if it is a short follow-up."""
    text = call.text
    if len(call.messages) < 2 or len(text.split(None, FOLLOW_UP_WORDS)) > FOLLOW_UP_WORDS:
        return text
    earlier = [message.text for message in call.messages if message.role == "user"][:-1]
    return f"{earlier[-1]}\n{text}" if earlier else text
