from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload
from router.decide import TOOL_REASON, decide
from router.policy import Policy
from router.types import Scores

AUDIO = Payload(Modality.AUDIO, b"wav")
IMAGE = Payload(Modality.IMAGE, b"png")


def node(name: str, **more: object) -> NodeSpec:
    return NodeSpec.model_validate({"name": name, "kind": "k", "description": name, **more})


def call(text: str = "hello", *attachments: Payload) -> Call:
    return Call((Message("user", text),) if text else (), {str(i): part for i, part in enumerate(attachments)})


def scores(in_scope: float = 0.9, **probabilities: float) -> Scores:
    row = np.array([list(probabilities.values())], dtype=np.float32)
    return Scores(tuple(probabilities), row, np.array([in_scope], dtype=np.float32))


GRAPH = ModelGraph(
    [
        node("legal"),
        node("code", cost={"input_per_million": 10}),
        node("general", default=True),
        node("speech", accepts=["audio"], edges={"feeds": ["legal", "code", "general"]}),
        node("weather", arguments={"city": {}}),
    ]
)


def test_the_likeliest_node_takes_the_call() -> None:
    decision = decide(scores(legal=0.8, code=0.1, general=0.1), 0, GRAPH, Policy(), call(), strategy="s")
    assert (decision.node, decision.out_of_scope, decision.query, decision.strategy) == ("legal", False, "hello", "s")
    assert decision.probability == pytest.approx(0.72)
    assert [c.node for c in decision.candidates] == ["legal", "general", "code"]
    assert {e.node: e.reason for e in decision.excluded} == {
        "speech": "does not accept text; it accepts audio",
        "weather": TOOL_REASON,
    }


def test_out_of_scope_goes_to_the_default() -> None:
    decision = decide(scores(0.2, legal=0.8, code=0.1, general=0.1), 0, GRAPH, Policy(), call())
    assert decision.node == "general" and decision.out_of_scope


def test_out_of_scope_without_default_gets_no_node() -> None:
    for graph in (ModelGraph([node("legal"), node("code")]), ModelGraph()):
        decision = decide(scores(0.2, legal=0.8, code=0.2), 0, graph, Policy(), call())
        assert decision.node is None and decision.out_of_scope


def test_excluded_default_takes_nothing() -> None:
    decision = decide(scores(0.1, legal=1.0), 0, GRAPH, Policy(), call(), excluded={"general": "is loading"})
    assert decision.node is None
    assert ("general", "is loading") in {(e.node, e.reason) for e in decision.excluded}


def test_a_node_that_is_down_makes_nobody_else_likelier() -> None:
    graph = ModelGraph([node("legal"), node("code")])
    decision = decide(scores(0.99, legal=0.98, code=0.02), 0, graph, Policy(), call(), excluded={"legal": "is loading"})
    assert decision.out_of_scope and decision.node is None
    assert decision.probability == pytest.approx(0.0198, abs=1e-4)


def test_what_a_tool_was_meant_for_is_shared_with_nothing_fits() -> None:
    graph = ModelGraph([node("legal"), node("weather", arguments={"city": {}})])
    decision = decide(scores(0.9, legal=0.1, weather=0.9), 0, graph, Policy(), call())
    assert decision.probability == pytest.approx(0.09 / (1 - 0.81), abs=1e-4) and decision.out_of_scope


def test_recording_reaches_a_text_expert_through_speech() -> None:
    decision = decide(scores(legal=0.9, speech=0.05, general=0.05), 0, GRAPH, Policy(), call("explain", AUDIO))
    assert (decision.node, decision.via) == ("legal", ("speech",))


def test_transcription_goes_to_speech_itself() -> None:
    decision = decide(scores(legal=0.05, speech=0.9, general=0.05), 0, GRAPH, Policy(), call("transcribe", AUDIO))
    assert (decision.node, decision.via) == ("speech", ())


def test_recording_without_text_goes_to_who_accepts_it() -> None:
    decision = decide(scores(legal=1.0), 0, GRAPH, Policy(), call("", AUDIO))
    assert (decision.node, decision.probability, decision.out_of_scope) == ("speech", 1.0, False)


def test_attachment_that_nobody_accepts_is_explained_for_every_node() -> None:
    for text in ("what is this", ""):
        decision = decide(scores(legal=1.0), 0, GRAPH, Policy(), call(text, IMAGE))
        assert decision.node is None and decision.candidates == ()
        reasons = {e.node: e.reason for e in decision.excluded}
        assert set(reasons) == set(GRAPH.names) and "image" in reasons["legal"]


def test_recording_stays_out_when_speech_is_down() -> None:
    decision = decide(scores(legal=1.0), 0, GRAPH, Policy(), call("explain", AUDIO), excluded={"speech": "failed"})
    assert decision.node is None
    assert "no ready node" in {e.node: e.reason for e in decision.excluded}["legal"]


def test_cost_and_latency_outweigh_a_small_lead() -> None:
    graph = GRAPH.without("general")
    row = scores(1.0, legal=0.45, code=0.55)
    assert decide(row, 0, graph, Policy(), call()).node == "code"
    assert decide(row, 0, graph, Policy(cost_weight=0.2), call()).node == "legal"
    assert decide(row, 0, graph, Policy(latency_weight=0.2, latency_ms={"code": 900}), call()).node == "legal"


@pytest.mark.parametrize("wrong", [{"min_probability": 1.5}, {"cost_weight": -1}, {"latency_weight": -0.1}])
def test_policy_refuses_nonsense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]


MODALITIES = st.frozensets(st.sampled_from(["text", "audio", "image"]), min_size=1)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[NodeSpec], Scores, dict[str, str], Call, Policy]:
    names = draw(st.lists(st.sampled_from("abcdefg"), unique=True, min_size=1))
    specs = [
        node(
            name,
            accepts=sorted(draw(MODALITIES)),
            produces=sorted(draw(MODALITIES)),
            default=index == 0 and draw(st.booleans()),
            arguments={"x": {}} if draw(st.integers(0, 5)) == 0 else {},
            cost={"input_per_million": draw(st.integers(0, 9))},
        )
        for index, name in enumerate(names)
    ]
    raw = np.array([draw(st.lists(st.floats(0.001, 1), min_size=len(names), max_size=len(names)))], dtype=np.float32)
    found = Scores(tuple(names), raw / raw.sum(), np.array([draw(st.floats(0, 1))], dtype=np.float32))
    excluded = dict.fromkeys(draw(st.sets(st.sampled_from(names))), "no")
    attachments = draw(st.lists(st.sampled_from([AUDIO, IMAGE]), max_size=2))
    policy = Policy(draw(st.floats(0, 1)), draw(st.sampled_from([0.0, 0.3])))
    return specs, found, excluded, call(draw(st.sampled_from(["", "hello"])), *attachments), policy


@given(situations())
def test_what_always_holds(situation: tuple[list[NodeSpec], Scores, dict[str, str], Call, Policy]) -> None:
    specs, found, excluded, request, policy = situation
    graph = ModelGraph(specs)
    decision = decide(found, 0, graph, policy, request, excluded=excluded)
    named = [c.node for c in decision.candidates]
    assert set(named).isdisjoint(excluded) and set(decision.via).isdisjoint(excluded)
    assert sorted([*named, *(e.node for e in decision.excluded)]) == sorted(graph.names)
    assert sum(c.probability for c in decision.candidates) <= 1 + 1e-5
    assert all(c.probability >= 0 for c in decision.candidates)
    if not policy.cost_weight:
        assert [c.probability for c in decision.candidates] == sorted(c.probability for c in decision.candidates)[::-1]
    if decision.node is not None:
        chosen = graph[decision.node]
        attached = request.modalities - {Modality.TEXT}
        assert decision.node in named and not chosen.is_tool
        if decision.via:
            assert Modality.TEXT in chosen.accepts
            assert all(attached & graph[name].accepts or index for index, name in enumerate(decision.via))
        else:
            assert attached <= chosen.accepts
        assert attached or Modality.TEXT in chosen.accepts


@given(situations(), st.randoms())
def test_the_order_of_nodes_is_no_matter(situation, random) -> None:  # type: ignore[no-untyped-def]
    specs, found, excluded, request, policy = situation
    order = list(range(len(specs)))
    random.shuffle(order)
    other = Scores(tuple(found.labels[i] for i in order), found.probabilities[:, order], found.in_scope)
    first = decide(found, 0, ModelGraph(specs), policy, request, excluded=excluded)
    second = decide(other, 0, ModelGraph([specs[i] for i in order]), policy, request, excluded=excluded)
    assert first.excluded == second.excluded
    assert {c.node: c.probability for c in first.candidates} == pytest.approx(
        {c.node: c.probability for c in second.candidates}, abs=1e-5
    )
