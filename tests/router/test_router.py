from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from graph.model_graph import ModelGraph
from graph.types import Call, Message, Modality, Payload
from router.evaluation.routing import Prediction, Row, evaluate, read_rows
from router.router import REMEMBERED_CHARACTERS, Router, routing_text

REQUESTS = Path(__file__).parent / "requests.jsonl"


def ask(text: str, *attachments: Payload) -> Call:
    return Call((Message("user", text),), {str(i): part for i, part in enumerate(attachments)})


@pytest.fixture
async def router(hash_encoder):
    router = Router(hash_encoder)
    yield router
    await router.aclose()


async def test_before_the_first_fit_everything_is_out_of_scope(router, toy_specs) -> None:
    decision = await router.decide(ask("an apple"), ModelGraph(toy_specs))
    assert decision.node == "rest" and decision.out_of_scope and router.labels == ()
    assert (await router.score(["x"])).in_scope.tolist() == [0.0]


async def test_decides_and_remembers(router, hash_encoder, toy_specs) -> None:
    graph = ModelGraph(toy_specs)
    await router.fit(toy_specs)
    first = await router.decide(ask("a sour apple pear"), graph)
    asked = len(hash_encoder.batches)
    second = await router.decide(ask("a sour apple pear"), graph)
    assert first.node == second.node == "fruit" and len(hash_encoder.batches) == asked
    third = await router.decide(ask("a sour apple pear"), graph, excluded={"fruit": "is loading"})
    assert third.node == "rest" and len(hash_encoder.batches) == asked  # scored once, decided anew


async def test_a_text_past_any_usual_length_is_not_kept_in_memory(router, hash_encoder, toy_specs) -> None:
    graph = ModelGraph(toy_specs)
    await router.fit(toy_specs)
    asked = len(hash_encoder.batches)
    for _ in range(2):
        decision = await router.decide(ask("sour apple " * REMEMBERED_CHARACTERS), graph)
        assert decision.node == "fruit"
    assert len(hash_encoder.batches) == asked + 2


async def test_a_changed_graph_is_never_answered_from_memory(router, toy_specs) -> None:
    await router.fit(toy_specs)
    assert (await router.decide(ask("sour apple"), ModelGraph(toy_specs))).node == "fruit"
    assert (await router.decide(ask("sour apple"), ModelGraph(toy_specs[1:]))).node == "rest"


async def test_a_refit_forgets_old_scores(router, toy_specs) -> None:
    await router.fit(toy_specs[:1] + toy_specs[2:])
    graph = ModelGraph(toy_specs)
    assert (await router.decide(ask("boat in the harbour"), graph)).node != "ships"
    await router.fit(toy_specs)
    assert (await router.decide(ask("boat in the harbour"), graph)).node == "ships"


async def test_texts_that_arrive_together_are_encoded_together(router, hash_encoder, toy_specs) -> None:
    await router.fit(toy_specs)
    hash_encoder.batches.clear()
    graph = ModelGraph(toy_specs)
    await asyncio.gather(*(router.decide(ask(f"boat {i % 10}"), graph) for i in range(30)))
    assert sorted(text for batch in hash_encoder.batches for text in batch) == [f"boat {i}" for i in range(10)]
    assert len(hash_encoder.batches) == 1


async def test_score_keeps_the_order_of_texts(router, toy_specs) -> None:
    await router.fit(toy_specs)
    scores = await router.score(["boat harbour", "apple pear", "boat harbour"])
    assert [scores.labels[i] for i in scores.probabilities.argmax(axis=1)] == ["ships", "fruit", "ships"]


async def test_a_refit_does_not_hold_up_decisions(hash_encoder, toy_specs) -> None:
    router = Router(hash_encoder)
    graph = ModelGraph(toy_specs)
    await router.fit(toy_specs)
    go, started, plain = threading.Event(), threading.Event(), hash_encoder.encode

    def slow(texts):
        if len(texts) > 3:
            started.set()
            go.wait(30)
        return plain(texts)

    hash_encoder.encode = slow
    refit = asyncio.create_task(router.fit(toy_specs[:2]))
    await asyncio.to_thread(started.wait, 30)
    try:
        assert (await router.decide(ask("new boat harbour"), graph)).node == "ships" and not refit.done()
    finally:
        go.set()
    await refit
    assert router.labels == ("fruit", "ships")
    await router.aclose()


async def test_an_encoder_that_fails_fails_the_decision_and_nothing_else(router, hash_encoder, toy_specs) -> None:
    await router.fit(toy_specs)
    plain, hash_encoder.encode = hash_encoder.encode, lambda texts: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await router.decide(ask("boat"), ModelGraph(toy_specs))
    hash_encoder.encode = plain
    assert (await router.decide(ask("boat harbour"), ModelGraph(toy_specs))).node == "ships"


async def test_one_caller_who_gives_up_leaves_the_others_their_answer(router, toy_specs) -> None:
    await router.fit(toy_specs)
    graph = ModelGraph(toy_specs)
    calls = [asyncio.create_task(router.decide(ask("boat harbour"), graph)) for _ in range(2)]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert (await calls[1]).node == "ships"


def test_a_short_follow_up_is_routed_with_what_it_follows() -> None:
    turns = (Message("user", "Is this clause valid?"), Message("assistant", "Yes."), Message("user", "And in Spain?"))
    assert routing_text(Call(turns)) == "Is this clause valid?\nAnd in Spain?"
    longer = (*turns[:2], Message("user", "Now write a Python function that sorts a list"))
    assert routing_text(Call(longer)) == longer[-1].text
    assert routing_text(ask("hi")) == "hi" and routing_text(Call()) == ""


async def test_unseen_requests_reach_the_example_experts(minilm, example_specs) -> None:
    rows = read_rows(REQUESTS)
    seen = {example for spec in example_specs for example in spec.examples}
    assert seen.isdisjoint(row.text for row in rows)
    router = Router(minilm)
    routable = [spec for spec in example_specs if spec.kind != "embedding"]
    await router.fit(routable)
    graph = ModelGraph(example_specs)
    decisions = [await router.decide(ask(row.text), graph, excluded={"embed": "answers no chat"}) for row in rows]
    metrics = evaluate(rows, [Prediction(d.node, d.probability) for d in decisions])
    assert metrics.accuracy is not None and metrics.accuracy >= 0.88, json.dumps(
        [(row.text, d.node) for row, d in zip(rows, decisions, strict=True) if row.node != d.node]
    )
    recording = Payload(Modality.AUDIO, b"wav")
    spoken = await router.decide(ask("Explain the legal risk in this recording", recording), graph)
    assert (spoken.node, spoken.via) == ("legal", ("speech",))
    assert (await router.decide(ask("Please write down what they say", recording), graph)).node == "speech"
    await router.aclose()


def test_metrics_count_what_they_say() -> None:
    rows = [Row("a", "x"), Row("b", "y"), Row("c", None), Row("d", None)]
    metrics = evaluate(rows, [Prediction(n, p) for n, p in (("x", 1.0), (None, 0.2), (None, 0.1), ("y", 0.6))])
    assert (metrics.accuracy, metrics.oos_recall, metrics.oos_precision) == (0.5, 0.5, 0.5)
    assert metrics.calibration_error == pytest.approx(0.3)
    assert evaluate([], []).accuracy is None
