"""A newer version takes a share of a node's calls, and the older one answers where it does worse."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import DONE, FakeInvoke, Step, answer, chat, spec
from invoke_parts import deltas_of, text_of

from deployments.invoke.canary import on_trial
from deployments.snapshot import Canary
from graph.context import CallContext
from graph.errors import InvalidRequest, ModelyardError, NodeNotFound, NodeUnavailable, StreamBroken
from graph.types import Call, Delta

CHECK = {"must_not_match": "sorry"}


def down() -> NodeUnavailable:
    return NodeUnavailable("down")


class Trial:
    """A node `a` whose version 2 takes a share of the calls."""

    def __init__(self, new: list[Step], old: list[Step], *, share: float = 0.999999, **rollout: Any) -> None:
        declared = spec("a", rollout={"share": share} | rollout)
        self.canary = Canary(declared, 2, share)
        self.place = FakeInvoke({"a@v2": [new], "a": [old], "b": [answer("from b")]})
        self.verdicts: list[tuple[str, str]] = []
        self.went: list[bool] = []
        self.invoke = on_trial(self.place, lambda: {"a": self.canary}, self, max_attempts=6)

    def asked(self, canary: Canary, call: Call, new: bool) -> None:
        self.went.append(new)

    def judged(self, canary: Canary, call: Call, verdict: str, failed: str) -> None:
        self.verdicts.append((verdict, failed))

    async def text(self, call: Call | None = None) -> str:
        return text_of(await deltas_of(self.invoke, call or chat()))


@pytest.mark.parametrize("rollout", [{}, {"check": CHECK}], ids=["unchecked", "checked"])
async def test_a_good_answer_of_the_newer_version_is_given(rollout: dict[str, Any]) -> None:
    trial = Trial(answer("new one"), answer("old one"), **rollout)
    assert await trial.text() == "new one"
    assert (trial.place.asked(), trial.verdicts) == (["a@v2"], [("ok", "")])


async def test_an_answer_that_fails_the_check_is_the_old_versions_and_a_negative_flip() -> None:
    trial = Trial(answer("sorry no"), answer("old one"), check=CHECK)
    deltas = await deltas_of(trial.invoke, chat())
    assert (text_of(deltas), deltas[-1].attempt) == ("old one", 2)
    assert trial.verdicts == [("flip", "must_not_match")]


async def test_where_the_old_version_does_no_better_it_is_no_flip() -> None:
    trial = Trial(answer("sorry no"), answer("sorry too"), check=CHECK)
    assert await trial.text() == "sorry too"
    failing = Trial(answer("sorry no"), [down()], check=CHECK)
    assert await failing.text() == "sorry no"
    assert trial.verdicts == failing.verdicts == [("bad", "must_not_match")]


@pytest.mark.parametrize("resets", [True, False])
async def test_a_newer_version_that_fails_costs_no_answer_unless_it_has_begun(resets: bool) -> None:
    trial = Trial([down()], answer("old one"))
    assert await trial.text(chat(resets=resets)) == "old one"
    assert trial.verdicts == [("flip", "node_unavailable")]
    cut = Trial(["half ", StreamBroken("cut")], answer("old one"))
    if resets:
        assert await cut.text(chat(resets=True)) == "old one"
        assert cut.verdicts == [("flip", "stream_broken")]
    else:
        with pytest.raises(StreamBroken):
            await cut.text()
        assert cut.verdicts == [("bad", "stream_broken")]


async def test_when_both_fail_the_error_is_told_with_all_attempts() -> None:
    trial = Trial([down()], [NodeUnavailable("down, too")])
    with pytest.raises(NodeUnavailable, match="too") as caught:
        await trial.text()
    assert (caught.value.attempts, trial.verdicts) == (2, [("bad", "node_unavailable")])


async def test_a_wrong_request_is_nobodys_fault_and_is_not_asked_twice() -> None:
    trial = Trial([InvalidRequest("no")], answer("old one"))
    with pytest.raises(InvalidRequest):
        await trial.text()
    assert (trial.place.asked(), trial.verdicts) == (["a@v2"], [])


async def test_a_rollout_that_has_just_ended_is_no_failure() -> None:
    trial = Trial([NodeNotFound("gone")], answer("old one"))
    assert (await trial.text(), trial.verdicts) == ("old one", [])


async def test_no_more_attempts_are_made_than_may_be() -> None:
    trial = Trial([down()], answer("old one"))
    with pytest.raises(ModelyardError):
        await trial.text(chat().with_context(attempts=1))
    checked = Trial(answer("sorry no"), answer("old one"), check=CHECK)
    assert await checked.text(chat().with_context(attempts=1)) == "sorry no"
    assert trial.place.asked() == checked.place.asked() == ["a@v2"]


async def test_log_probabilities_that_only_the_check_reads_are_not_passed_on() -> None:
    token = {"token": "x", "logprob": -0.1, "top_logprobs": [{"token": "x", "logprob": -0.1}]}
    trial = Trial([Delta("x", logprobs={"content": [token]}), DONE], answer("old"), check={"min_logprob": -0.5})
    deltas = await deltas_of(trial.invoke, chat())
    assert trial.place.calls[0][1].params["logprobs"] is True
    assert all(delta.logprobs is None for delta in deltas)


async def test_the_share_is_kept_and_a_request_goes_the_same_way_everywhere() -> None:
    trial = Trial(answer("new"), answer("old"), share=0.2)
    calls = [chat(context=CallContext(f"request-{number}")) for number in range(500)]
    for call in calls:
        await trial.text(call)
    assert 60 < sum(trial.went) < 140
    other = Canary(trial.canary.spec, 2, 0.2)
    assert [other.takes(call.context.request_id) for call in calls] == trial.went


async def test_other_nodes_are_not_touched() -> None:
    trial = Trial(answer("new"), answer("old"))
    assert text_of(await deltas_of(trial.invoke, chat(), "b")) == "from b"
    assert trial.went == []
