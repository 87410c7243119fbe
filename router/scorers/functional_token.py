"""Strategy `functional_token`: a small causal language model that has a token for each node."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graph.spec import NodeSpec
from graph.types import NodeName
from router.causal_model import CausalModel, load_causal_model
from router.functional_card import read_card, read_head
from router.scorers.functional_head import FunctionalHead
from router.scorers.head import node_text
from router.scores import empty_scores
from router.training.rewrites import keeps_content
from router.types import Scores
from router.vectors import AnyArray

REWRITE_GROWTH = 16
"""Tokens that a rewrite may be longer than what it rewrites."""


@dataclass(frozen=True, slots=True, eq=False)
class FunctionalTokenScorer:
    """Reads the distribution over functional tokens in one forward pass, and decodes a rewrite where it is wanted."""

    head: FunctionalHead
    model: LazyCausalModel
    tokens: Mapping[NodeName, int]
    """Functional tokens of the nodes that the model itself knows."""
    free_rewrites: bool
    """Whether a rewrite may change more than courtesies."""
    strategy: str = "functional_token"

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> FunctionalTokenScorer:
        """Open an artefact's folder. The model itself is loaded by the first text.

        Raises `ValueError` that names the file if the folder is no such artefact.
        """
        card = read_card(folder)
        return cls(read_head(folder, card), LazyCausalModel(folder, threads), card.tokens, card.free_rewrites)

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The nodes that can be chosen."""
        return self.head.active

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch."""
        if not self.labels or not texts:
            return empty_scores(self.labels, len(texts))
        model = self.model.loaded
        probabilities, in_scope = self.head.score(model.hidden([model.prompt(text) for text in texts]))
        return Scores(self.labels, probabilities, in_scope)

    def explain(self, texts: Sequence[str]) -> tuple[Scores, AnyArray]:
        """Return the scores, and which texts a second stage was asked about: none, there is one stage."""
        return self.score(texts), np.zeros(len(texts), dtype=bool)

    def rewrite(self, text: str, node: NodeName) -> str:
        """Return the text as the node is best asked, greedily decoded after its functional token.

        The text itself comes back where the model cannot be trusted with it: a node that it was not taught, a text
        longer than its prompt, a rewrite without an end or without words, or one that leaves out more than courtesies
        where it was not taught to.
        """
        token, model = self.tokens.get(node), self.model.loaded
        if token is None or not model.holds(text):
            return text
        limit = len(model.encode(text)) + REWRITE_GROWTH
        found = model.continue_greedily([*model.prompt(text), token], limit)
        written = model.decode(found).strip() if found else ""
        return written if written and (self.free_rewrites or keeps_content(text, written)) else text

    def for_nodes(self, specs: Sequence[NodeSpec]) -> FunctionalTokenScorer:
        """Return the scorer for exactly these nodes.

        One that the model was not taught gets a row started from the mean of its description's token embeddings and
        trained on its description and examples alone, in a moment. What the model was taught of others stays.
        """
        names = {spec.name for spec in specs}
        fresh = sorted((spec for spec in specs if spec.name not in self.head.labels), key=lambda spec: spec.name)
        head = self.head.keeping([name for name in self.head.labels if name in names])
        if not fresh:
            return replace(self, head=head)
        model = self.model.loaded
        starts = model.mean_rows([node_text(spec) for spec in fresh])
        lessons = {spec.name: [node_text(spec), *spec.examples] for spec in fresh}
        hidden = {name: model.hidden([model.prompt(text) for text in texts]) for name, texts in lessons.items()}
        return replace(self, head=head.with_nodes(dict(zip(hidden, starts, strict=True)), hidden))


class LazyCausalModel:
    """The model of an artefact, loaded when first asked for."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._lock = threading.Lock()
        self._model: CausalModel | None = None

    @property
    def loaded(self) -> CausalModel:
        """Return the model; the first call takes seconds."""
        with self._lock:
            if self._model is None:
                self._model = load_causal_model(self._folder, threads=self._threads)
            return self._model
