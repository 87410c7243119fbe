from __future__ import annotations

from collections.abc import Sequence

import pytest

from graph.model_graph import ModelGraph
from graph.types import Call, Message, Modality, Payload
from router.policy import Policy
from router.router import Router
from router.scorers.embedding import EmbeddingScorer
from router.types import Rewriter, Scores


class Rewriting:
    """A scorer that writes the node's name before a request."""

    strategy = "rewriting"

    def __init__(self, inner: EmbeddingScorer) -> None:
        self.inner, self.labels = inner, inner.labels
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> Scores:
        return self.inner.score(texts)

    def rewrite(self, text: str, node: str) -> str:
        self.asked.append(text)
        return f"{node}: {text}"


@pytest.fixture
async def parts(hash_encoder, toy_specs, monkeypatch):
    scorer = Rewriting(EmbeddingScorer.fit(toy_specs, hash_encoder))
    routers = {}
    for rewrite in (True, False):
        routers[rewrite] = Router(hash_encoder, rewrite=rewrite)
        monkeypatch.setattr(routers[rewrite], "scorer_for", lambda specs: scorer)
        await routers[rewrite].fit(toy_specs)
    yield scorer, routers, ModelGraph(toy_specs)
    for router in routers.values():
        await router.aclose()


def ask(text: str, *attachments: Payload) -> Call:
    return Call((Message("user", text),), {str(i): part for i, part in enumerate(attachments)})


async def test_the_chosen_node_gets_the_rewrite_once(parts) -> None:
    scorer, routers, graph = parts
    assert isinstance(scorer, Rewriter)
    for _ in range(2):
        decision = await routers[True].decide(ask("a sour apple pear"), graph)
        assert (decision.node, decision.query, decision.strategy) == (
            "fruit",
            "fruit: a sour apple pear",
            "rewriting",
        )
    assert scorer.asked == ["a sour apple pear"]


async def test_nothing_is_rewritten_unasked(parts) -> None:
    scorer, routers, graph = parts
    assert (await routers[False].decide(ask("a sour apple pear"), graph)).query == "a sour apple pear"
    routers[True].policy = Policy(min_probability=0.999)
    strange = await routers[True].decide(ask("xyzzy plugh frotz"), graph)
    assert strange.out_of_scope and strange.query == "xyzzy plugh frotz"
    assert scorer.asked == []


async def test_a_scorer_that_cannot_rewrite_leaves_the_text(hash_encoder, toy_specs) -> None:
    router = Router(hash_encoder, rewrite=True)
    await router.fit(toy_specs)
    assert (await router.decide(ask("a sour apple pear"), ModelGraph(toy_specs))).query == "a sour apple pear"
    recording = Payload(Modality.AUDIO, b"wav")
    assert (await router.decide(ask("", recording), ModelGraph(toy_specs))).query == ""
    await router.aclose()
