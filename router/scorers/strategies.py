"""Plugin point: strategies of scoring, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from graph.spec import NodeSpec
from router.scorers.embedding import EmbeddingScorer
from router.scorers.keyword import KeywordScorer
from router.types import Encoder, Scorer

ScorerFactory: TypeAlias = Callable[[Sequence[NodeSpec], Encoder], Scorer]

_FACTORIES: dict[str, ScorerFactory] = {
    "embedding": EmbeddingScorer.fit,
    "keyword": lambda specs, encoder: KeywordScorer.fit(specs),
}


def register_strategy(name: str, factory: ScorerFactory) -> None:
    """Add a strategy under a name that settings can choose."""
    _FACTORIES[name] = factory


def strategies() -> Mapping[str, ScorerFactory]:
    """Return the known strategies."""
    return MappingProxyType(_FACTORIES)


def make_scorer(strategy: str, specs: Sequence[NodeSpec], encoder: Encoder) -> Scorer:
    """Fit a strategy's scorer to nodes. Raises `ValueError` for an unknown strategy."""
    try:
        factory = _FACTORIES[strategy]
    except KeyError:
        known = ", ".join(sorted(_FACTORIES))
        raise ValueError(f"no routing strategy is called {strategy!r}; there is {known}") from None
    return factory(specs, encoder)
