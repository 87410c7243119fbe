from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, NodeName, Payload
from router.batching import Batcher
from router.decide import decide
from router.planners.learned import LearnedPlanner
from router.policy import Policy
from router.router import Router
from router.scorers.catalogue import SHORTLIST, Catalogue
from router.scorers.embedding import EmbeddingScorer
from router.scorers.indexed import IndexedScorer
from router.scorers.strategies import MANY_NODES, chosen_strategy
from router.scores import join_rows, split_rows
from router.types import Array, Scores
from router.vectors import unit

MANY = 20_000
COLOURS = [f"colour{i}" for i in range(20)]
THINGS = [f"thing{i}" for i in range(100)]
PLACES = [f"place{i}" for i in range(10)]


class Words:
    """The sum of a vector for each word; counts what it encodes."""

    name = "words"

    def __init__(self, dimensions: int = 48) -> None:
        self.texts = 0
        self._random = np.random.default_rng(7)
        self._dimensions = dimensions
        self._vectors: dict[str, Array] = {}

    def encode(self, texts: Sequence[str]) -> Array:
        self.texts += len(texts)
        return unit(np.array([sum(map(self._vector, re.findall(r"\w+", text)), self._vector("")) for text in texts]))

    def _vector(self, word: str) -> Array:
        if word not in self._vectors:
            self._vectors[word] = self._random.normal(size=self._dimensions).astype(np.float32)
        return self._vectors[word]


def said(number: int) -> str:
    rest, colour = divmod(number, len(COLOURS))
    place, thing = divmod(rest, len(THINGS))
    return f"{COLOURS[colour]} {THINGS[thing]} {PLACES[place]}"


def node(name: str, description: str, **more: object) -> NodeSpec:
    return NodeSpec.model_validate({"name": name, "kind": "k", "description": description, **more})


def ask(text: str, *attachments: Payload) -> Call:
    return Call((Message("user", text),) if text else (), {str(i): part for i, part in enumerate(attachments)})


def best(scorer: IndexedScorer, text: str) -> NodeName:
    scores = scorer.score([text])
    return scores.labels[int(scores.probabilities[0].argmax())]


@pytest.fixture(scope="module")
def many() -> list[NodeSpec]:
    return [node(f"n{i}", said(i)) for i in range(MANY)]


@pytest.fixture(scope="module")
def scorer(many: list[NodeSpec]) -> IndexedScorer:
    return IndexedScorer.fit(many, Words())


class CountingGraph(ModelGraph):
    """Counts the nodes that are looked at."""

    looked_at = 0

    def __getitem__(self, name: NodeName) -> NodeSpec:
        self.looked_at += 1
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[NodeSpec]:
        for spec in super().__iter__():
            self.looked_at += 1
            yield spec


def test_a_decision_among_very_many_nodes_looks_at_a_shortlist(many: list[NodeSpec], scorer: IndexedScorer) -> None:
    graph = CountingGraph([*many, node("rest", "anything", default=True), node("speech", "hears", accepts=["audio"])])
    assert graph.default == "rest"
    graph.looked_at = 0
    excluded = {f"n{i}": "is loading" for i in range(0, MANY, 2)}
    for number in (123, 4567, 19_999):
        scores = scorer.score([said(number)])
        assert len(scores.labels) <= SHORTLIST and scores.shortlisted
        decision = decide(scores, 0, graph, Policy(min_probability=0.0), ask(said(number)), excluded=excluded)
        assert decision.candidates[0].node == f"n{number}"
        assert len(decision.candidates) + len(decision.excluded) <= SHORTLIST + 1
        assert {item.reason for item in decision.excluded} == {"is loading"}
    assert graph.looked_at < 3 * 10 * SHORTLIST


async def test_a_plan_among_very_many_nodes_looks_at_shortlists(many: list[NodeSpec], scorer: IndexedScorer) -> None:
    graph = CountingGraph([*many, node("rest", "anything", default=True)])
    assert graph.default == "rest"
    graph.looked_at = 0

    async def score(texts: Sequence[str]) -> Scores:
        return scorer.score(texts)

    asked = ask(f"{said(12)} {said(12)}. {said(3456)} {said(3456)}.")
    plan = await LearnedPlanner(score, min_in_scope=0.0).plan(asked, graph)
    assert [task.node for task in plan.tasks] == ["n12", "n3456"]
    assert graph.looked_at < 10 * SHORTLIST


def test_recordings_find_their_way_among_very_many_nodes(many: list[NodeSpec], scorer: IndexedScorer) -> None:
    speech = [node(name, "hears", accepts=["audio"]) for name in ("speech-a", "speech-b")]
    graph = CountingGraph([*many, *speech, node("tool", "counts", arguments={"x": {}})])
    recording = Payload(Modality.AUDIO, b"wav")
    excluded = {"speech-a": "is loading"}
    policy = Policy(min_probability=0.0)
    decision = decide(scorer.score([said(5)]), 0, graph, policy, ask(said(5), recording), excluded=excluded)
    assert (decision.node, decision.via) == ("n5", ("speech-b",))
    graph.looked_at = 0
    alone = decide(scorer.score([""]), 0, graph, Policy(), ask("", recording), excluded=excluded)
    assert (alone.node, alone.probability) == ("speech-b", 1.0)
    again = decide(scorer.score([said(8)]), 0, graph, policy, ask(said(8), recording), excluded=excluded)
    assert again.node == "n8" and "network" not in graph.__dict__
    assert graph.looked_at < 20 * SHORTLIST


def test_changing_one_node_of_very_many_encodes_one(many: list[NodeSpec]) -> None:
    encoder = Words()
    first = IndexedScorer.fit(many[:3000], encoder)
    encoder.texts = 0
    added = first.refit([*many[:3000], node("new", "utterly novel words")])
    assert encoder.texts == 1 and best(added, "utterly novel words") == "new"
    changed = added.refit([*many[:3000], node("new", "something else instead")])
    assert best(changed, "something else instead") == "new" and best(changed, said(17)) == "n17"
    gone = changed.refit([spec for spec in many[:3000] if spec.name != "n17"])
    for text in (said(17), "something else instead"):
        assert not {"n17", "new"} & set(gone.score([text]).labels)
    assert len(gone.labels) == 2999 and gone.calibration is not None
    encoder.texts = 0
    gone.refit([spec for spec in many[:3000] if spec.name != "n17"])
    assert encoder.texts == 0


def test_an_encoder_that_fails_changes_nothing(many: list[NodeSpec]) -> None:
    encoder = Words()
    scorer = IndexedScorer.fit(many[:200], encoder)
    encoder.encode = lambda texts: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        scorer.refit([*many[:199], node("new", "novel")])
    del encoder.encode
    assert len(scorer.labels) == 200 and best(scorer, said(199)) == "n199"


def test_tools_do_not_crowd_models_out_of_the_shortlist(many: list[NodeSpec]) -> None:
    tools = [node(spec.name, spec.description, arguments={"x": {}}) for spec in many[:2500]]
    scorer = IndexedScorer.fit(
        [*tools, node("chat", "talks of everything"), node("ears", "x", accepts=["audio"])], Words()
    )
    labels = scorer.score([said(3)]).labels
    assert {"n3", "chat", "ears"} <= set(labels) and len(labels) == SHORTLIST + 2


def test_few_nodes_are_scored_like_by_the_embedding_strategy() -> None:
    specs = [
        node(f"n{i}", said(i * 7), examples=[f"{said(i * 7)} please {k}" for k in range(6)], default=i == 0)
        for i in range(12)
    ]
    texts = [f"please give me {said(i * 7)}" for i in range(12)]
    encoder = Words()
    indexed, embedding = (
        IndexedScorer.fit(specs, encoder).score(texts),
        EmbeddingScorer.fit(specs, encoder).score(texts),
    )
    assert indexed.labels == embedding.labels
    right = [indexed.labels.index(f"n{i}") for i in range(12)]
    assert indexed.probabilities.argmax(axis=1).tolist() == embedding.probabilities.argmax(axis=1).tolist() == right
    assert (indexed.in_scope > IndexedScorer.fit(specs, encoder).score(["nothing like any of these"]).in_scope).all()


def test_a_saved_catalogue_needs_no_encoding(tmp_path: Path) -> None:
    specs = [node(f"n{i}", said(i), examples=[f"{said(i)} please"] if i % 3 else []) for i in range(60)]
    specs += [node("tool", "counts", arguments={"x": {}}), node("ears", "hears", accepts=["audio"])]
    encoder = Words()
    scorer = IndexedScorer.fit(specs, encoder)
    scorer.catalogue.save(tmp_path)
    encoder.texts = 0
    again = IndexedScorer.load(tmp_path, [*specs[1:], node("new", "novel")], encoder)
    assert encoder.texts < 1 + 40 + 30  # the new node, and what calibration looks at
    assert best(again, "novel") == "new" and "n0" not in again.labels and best(again, said(7)) == "n7"
    same = IndexedScorer.load(tmp_path, specs, encoder)
    for before, after in zip(split_rows(scorer.score([said(4)])), split_rows(same.score([said(4)])), strict=True):
        assert before.labels == after.labels and np.array_equal(before.probabilities, after.probabilities)


def test_a_damaged_catalogue_is_refused_by_name(tmp_path: Path) -> None:
    encoder = Words()
    IndexedScorer.fit([node("a", "one"), node("b", "two", examples=["x"])], encoder).catalogue.save(tmp_path)
    other = Words()
    other.name = "others"
    with pytest.raises(ValueError, match="was made with encoder 'words'; the encoder here is 'others'"):
        Catalogue.load(tmp_path, other)
    for name in ("nodes.jsonl", "totals.npy", "0.index"):
        whole = (tmp_path / name).read_bytes()
        for broken in (whole[: len(whole) // 2], b"[1, 2]\n"):
            (tmp_path / name).write_bytes(broken)
            with pytest.raises(ValueError, match=f"{tmp_path.name} is no catalogue of nodes, or damaged"):
                Catalogue.load(tmp_path, encoder)
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=name):
            Catalogue.load(tmp_path, encoder)
        (tmp_path / name).write_bytes(whole)
    assert len(Catalogue.load(tmp_path, encoder)) == 2


def test_many_examples_of_one_node_leave_room_for_others() -> None:
    loud = node("loud", "colour1", examples=[f"colour1 thing1 number {i}" for i in range(300)])
    scorer = IndexedScorer.fit([loud, *(node(f"n{i}", f"colour1 {said(i)}") for i in range(100))], Words())
    assert len(scorer.score(["colour1 thing1"]).labels) == SHORTLIST


def test_shortlists_are_joined_and_taken_apart_again(scorer: IndexedScorer) -> None:
    texts = [said(3), said(4444)]
    apart = split_rows(scorer.score(texts))
    assert [len(row.labels) for row in apart] == [SHORTLIST, SHORTLIST]
    together = join_rows(apart)
    assert together.shortlisted and set(together.labels) == {label for row in apart for label in row.labels}
    for text, row, again in zip(texts, apart, split_rows(together), strict=True):
        single = scorer.score([text])
        assert again.labels == row.labels == single.labels
        assert np.allclose(again.probabilities, single.probabilities, atol=1e-5)


def test_embedding_means_indexed_from_some_thousands_of_nodes(many: list[NodeSpec]) -> None:
    assert chosen_strategy("embedding", many[:MANY_NODES]) == "embedding"
    assert chosen_strategy("embedding", many[: MANY_NODES + 1]) == "indexed"
    assert chosen_strategy("keyword", many) == "keyword"


async def test_a_router_of_very_many_nodes_learns_one_more_while_it_decides(many: list[NodeSpec]) -> None:
    encoder = Words()
    router = Router(encoder, Policy(min_probability=0.0))
    await router.fit(many[:2500])
    graph = ModelGraph(many[:2500])
    assert (await router.decide(ask(said(9)), graph)).strategy == "indexed"
    encoder.texts = 0
    extra = node("extra", "brand new")
    fitting = asyncio.create_task(router.fit([*many[1:2500], extra]))
    asked = [await router.decide(ask(said(i)), graph) for i in range(1, 5)]
    assert [decision.node for decision in asked] == ["n1", "n2", "n3", "n4"]
    await fitting
    assert encoder.texts == 1 + 4
    graph = graph.without("n0").with_nodes(extra)
    assert (await router.decide(ask("brand new"), graph)).node == "extra"
    assert "n0" not in {c.node for c in (await router.decide(ask(said(0)), graph)).candidates}
    excluded = {f"n{i}": "is loading" for i in range(2400)}
    first = await router.decide(ask(said(2450)), graph, excluded=excluded)
    encoder.texts = 0
    assert (await router.decide(ask(said(2450)), graph, excluded=excluded)).node == first.node == "n2450"
    assert (await router.decide(ask(said(2450)), graph, excluded=dict(excluded, n2450="is gone"))).node != "n2450"
    assert encoder.texts == 0
    await router.aclose()


class _Short:
    strategy = "short"
    labels = ("a", "b")

    def __init__(self, probabilities: int, in_scope: int) -> None:
        self._rows = probabilities, in_scope

    def score(self, texts: Sequence[str]) -> Scores:
        first, second = self._rows
        return Scores(self.labels, np.full((first, 2), 0.5, np.float32), np.ones(second, np.float32))


@pytest.mark.parametrize("rows", [(1, 1), (3, 2), (2, 3), (0, 0)])
async def test_a_strategy_that_returns_too_few_rows_fails_every_caller(rows: tuple[int, int]) -> None:
    batcher, scorer = Batcher(), _Short(*rows)
    asked = await asyncio.gather(*(batcher.score(scorer, text) for text in "xy"), return_exceptions=True)
    wrong = next(count for count in rows if count != 2)
    for error in asked:
        assert str(error) == f"strategy 'short' returned {wrong} rows of scores for 2 texts"
    good = await batcher.score(_Short(1, 1), "z")
    assert good.labels == ("a", "b")
    await batcher.aclose()
