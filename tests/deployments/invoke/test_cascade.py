"""The way along `escalates` edges."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import DONE, FakeInvoke, Step, answer, chat, spec
from invoke_parts import deltas_of, text_of

from deployments.invoke.cascade import escalating, unsure
from graph.errors import NodeUnavailable, StreamBroken
from graph.model_graph import ModelGraph
from graph.node import Invoke
from graph.spec import Checks
from graph.types import Call, Delta, Reply, text_payload


def node(name: str, *escalates: str, **cascade: Any) -> Any:
    return spec(name, edges={"escalates": escalates}, cascade=cascade if escalates else None)


def tokens(*pairs: tuple[str, float, float]) -> list[Step]:
    """An answer whose tokens have a log-probability, and the second likeliest one's."""
    found: list[Step] = []
    for text, first, second in pairs:
        top = [{"token": text, "logprob": first}, {"token": "?", "logprob": second}]
        found.append(Delta(text, logprobs={"content": [{"token": text, "logprob": first, "top_logprobs": top}]}))
    return [*found, DONE]


class Service:
    """A graph, scripts, and what was noted."""

    def __init__(self, *specs: Any, unusable: tuple[str, ...] = (), most: int = 6, **scripts: list[Step]) -> None:
        self.place = FakeInvoke({name: [steps] for name, steps in scripts.items()})
        self.judged: list[tuple[str, str]] = []
        graph = ModelGraph(specs)
        self.invoke: Invoke = escalating(
            self.place,
            lambda: graph,
            lambda name, call: name not in unusable,
            max_attempts=most,
            on_judged=lambda node, failed: self.judged.append((node, failed)),
        )

    async def text(self, call: Call | None = None) -> str:
        return text_of(await deltas_of(self.invoke, call or chat()))


SURE = tokens(("Paris", -0.01, -5.0), (".", -0.02, -6.0))
UNSURE = tokens(("Per", -1.2, -1.3), ("haps", -1.1, -1.4))


@pytest.mark.parametrize("check", [{"min_logprob": -0.5}, {"min_margin": 1.0}])
async def test_an_unsure_answer_is_dropped_and_a_sure_one_kept(check: dict[str, float]) -> None:
    ((name, _),) = check.items()
    for script, expected, failed in ((SURE, "Paris.", ""), (UNSURE, "from b", name)):
        service = Service(node("a", "b", **check), node("b"), a=script, b=answer("from b"))
        deltas = await deltas_of(service.invoke, chat())
        assert text_of(deltas) == expected
        assert service.judged == [("a", failed)]
        assert deltas[0].escalated == (("a",) if failed else ())
        assert all(delta.logprobs is None for delta in deltas)  # nobody asked for them
        _, call = service.place.calls[0]
        assert call.params == {"logprobs": True, "top_logprobs": 2}
        assert all(call.params == {} for name, call in service.place.calls if name == "b")


async def test_the_caller_gets_the_logprobs_that_he_asked_for() -> None:
    service = Service(node("a", "b", min_margin=1), node("b"), a=SURE, b=answer("b"))
    for top, kept in ((0, 0), (1, 1)):
        deltas = await deltas_of(service.invoke, chat(params={"logprobs": True, "top_logprobs": top}))
        found = [token for delta in deltas if delta.logprobs for token in delta.logprobs["content"]]
        assert [len(token["top_logprobs"]) for token in found] == [kept, kept]


@pytest.mark.parametrize(
    ("check", "text", "failed"),
    [
        ({"must_match": r"\d"}, "it is 7", ""),
        ({"must_match": r"\d"}, "it is seven", "must_match"),
        ({"must_not_match": r"(?i)i cannot"}, "I cannot say", "must_not_match"),
        ({"valid_json": True}, '{"a": 1}', ""),
        ({"valid_json": True}, '{"a": 1', "valid_json"),
        ({}, "anything", ""),
        ({"min_margin": 9}, "no logprobs came", ""),
    ],
)
async def test_declared_checks(check: dict[str, Any], text: str, failed: str) -> None:
    service = Service(node("a", "b", **check), node("b"), a=answer(text), b=answer("from b"))
    assert await service.text() == ("from b" if failed else text)
    assert service.judged == [("a", failed)]


@pytest.mark.parametrize(
    ("steps", "failed"),
    [
        ([Delta(refusal="no"), DONE], "refusal"),
        ([Delta(finish_reason="content_filter")], "refusal"),
        ([DONE], "empty"),
        ([Delta(tool_calls=({"index": 0, "id": "1"},)), Delta(finish_reason="tool_calls")], ""),
    ],
)
async def test_refusals_and_empty_answers_are_not_good_enough_but_calls_of_tools_are(
    steps: list[Step], failed: str
) -> None:
    service = Service(node("a", "b", must_match="x"), node("b"), a=steps, b=answer("from b"))
    await service.text()
    assert service.judged == [("a", failed)]
    assert service.place.asked() == (["a", "b"] if failed else ["a"])


@pytest.mark.parametrize("check", ["must_match", "must_not_match"])
def test_an_expression_that_takes_too_long_fails_its_check(check: str) -> None:
    reply = Reply(text_payload("a" * 60 + "b"), None, "stop", "a", "m")
    assert unsure(reply, Checks.model_validate({check: "^(a|aa)+$"})) == check


async def test_the_way_goes_on_and_ends_in_a_cycle() -> None:
    service = Service(
        node("a", "b", must_match="x"), node("b", "a", "c", must_match="x"), node("c", "a", must_match="x"),
        a=answer("a"), b=answer("b"), c=answer("c"),
    )  # fmt: skip
    deltas = await deltas_of(service.invoke, chat())
    assert text_of(deltas) == "c" and deltas[0].escalated == ("a", "b")
    assert service.judged == [("a", "must_match"), ("b", "must_match")]  # of the last one nothing is asked


async def test_a_target_that_cannot_take_the_call_is_passed_over() -> None:
    service = Service(
        node("a", "b", "c", must_match="x"), node("b"), node("c"), unusable=("b",), a=answer("a"), c=answer("c")
    )
    assert await service.text() == "c"
    alone = Service(node("a", "b", must_match="x"), node("b"), unusable=("b",), a=answer("a"))
    assert await alone.text() == "a" and alone.judged == []


async def test_the_dropped_answer_is_given_when_the_next_node_fails() -> None:
    service = Service(
        node("a", "b", must_match="x"), node("b"), a=answer("the first"), b=[NodeUnavailable("b is down")]
    )
    deltas = await deltas_of(service.invoke, chat())
    assert text_of(deltas) == "the first" and deltas[0].escalated == ()


async def test_a_failure_midway_is_an_error() -> None:
    service = Service(node("a", "b", must_match="x"), node("b"), a=answer("a"), b=["half ", StreamBroken("cut")])
    with pytest.raises(StreamBroken, match="cut"):
        await service.text()


async def test_a_failure_of_the_first_node_is_its_own() -> None:
    service = Service(node("a", "b", must_match="x"), node("b"), a=["ha", NodeUnavailable("a is down")], b=answer("b"))
    with pytest.raises(NodeUnavailable, match="a is down"):
        await service.text()


async def test_attempts_are_counted_over_all_nodes() -> None:
    thrice = [*answer("a")[:-1], Delta(finish_reason="stop", attempt=3)]
    service = Service(node("a", "b", must_match="x"), node("b"), most=4, a=thrice, b=answer("b"))
    assert await service.text() == "b"
    assert [call.context.attempts for _, call in service.place.calls] == [4, 1]
    spent = Service(node("a", "b", must_match="x"), node("b"), most=3, a=thrice, b=answer("b"))
    assert await spent.text() == "a" and spent.place.asked() == ["a"]


async def test_without_a_cascade_and_for_other_operations_nothing_is_held_back() -> None:
    service = Service(spec("a", edges={"escalates": ["b"]}), node("b"), a=answer("a"), b=answer("b"))
    assert await service.text() == "a" and service.judged == []
    other = Service(node("a", "b", must_match="x"), node("b"), a=answer("a"), b=answer("b"))
    assert await other.text(chat(operation="embeddings")) == "a" and other.judged == []


async def test_a_reset_takes_back_what_was_held() -> None:
    steps: list[Step] = ["bad x", Delta(reset=True), "good", DONE]
    service = Service(node("a", "b", must_match="x"), node("b"), a=steps, b=answer("b"))
    assert await service.text() == "b"
    kept = Service(node("a", "b", must_match="good"), node("b"), a=steps, b=answer("b"))
    assert await kept.text() == "good"


async def test_leaving_closes_the_stream_of_the_node() -> None:
    service = Service(node("a", "b", must_match="x"), node("b"), a=answer("a"), b=answer("one two three"))
    stream = service.invoke("a", chat(stream=True))
    assert (await anext(stream)).text == "one"
    await stream.aclose()  # type: ignore[attr-defined]
    assert service.place.closed == ["a", "b"]
