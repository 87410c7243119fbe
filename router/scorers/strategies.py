"""Plugin point: strategies of scoring, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from graph.spec import NodeSpec
from router.scorers.embedding import EmbeddingScorer
from router.scorers.indexed import IndexedScorer
from router.scorers.keyword import KeywordScorer
from router.types import Encoder, Scorer

ScorerFactory: TypeAlias = Callable[[Sequence[NodeSpec], Encoder], Scorer]

MANY_NODES = 2000
"""Nodes above which `embedding` means `indexed`."""

_FACTORIES: dict[str, ScorerFactory] = {
    "embedding": EmbeddingScorer.fit,
    "indexed": IndexedScorer.fit,
    "keyword": lambda specs, encoder: KeywordScorer.fit(specs),
}


def register_strategy(name: str, factory: ScorerFactory) -> None:
    """Add a strategy under a name that settings can choose."""
    _FACTORIES[name] = factory


def strategies() -> Mapping[str, ScorerFactory]:
    """Return the known strategies."""
    return MappingProxyType(_FACTORIES)


def chosen_strategy(strategy: str, specs: Sequence[NodeSpec]) -> str:
    """Return the strategy for these nodes: of very many, `embedding` compares a text with a shortlist only."""
    return "indexed" if strategy == "embedding" and len(specs) > MANY_NODES else strategy


def make_scorer(strategy: str, specs: Sequence[NodeSpec], encoder: Encoder) -> Scorer:
    """Fit a strategy's scorer to nodes. Raises `ValueError` for an unknown strategy."""
    try:
        factory = _FACTORIES[chosen_strategy(strategy, specs)]
    except KeyError:
        known = ", ".join(sorted(_FACTORIES))
        raise ValueError(f"no routing strategy is called {strategy!r}; there is {known}") from None
    return factory(specs, encoder)
