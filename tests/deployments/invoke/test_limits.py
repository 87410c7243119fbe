"""Time limits on one attempt."""

from __future__ import annotations

import time

import pytest
from fakes import DONE, HANG, FakeInvoke, answer, chat
from invoke_parts import deltas_of, lookup_of, text_of

from deployments.invoke.limits import limited
from graph.errors import DeadlineExceeded, StreamBroken


@pytest.mark.parametrize(
    ("steps", "limits", "named", "seconds"),
    [
        ([HANG], {"first_token_s": 0.02}, "first_token", 0.02),
        (["half", HANG], {"idle_s": 0.02}, "idle", 0.02),
        (["half", HANG], {"total_s": 0.03}, "total", 0.03),
        ([HANG], {"total_s": 0.03}, "total", 0.03),
    ],
)
async def test_a_silent_node_is_left_and_the_error_names_the_limit(
    steps: list[object], limits: dict[str, float], named: str, seconds: float
) -> None:
    place = FakeInvoke({"a": [steps]})  # type: ignore[list-item]
    with pytest.raises(DeadlineExceeded) as caught:
        await deltas_of(limited(place, lookup_of(**limits)), chat())
    assert caught.value.limit == named
    assert caught.value.message == f"{named} limit of {seconds:g} s passed at node 'a'"
    assert place.closed == ["a"]


async def test_a_deadline_of_the_caller_ends_the_wait() -> None:
    place = FakeInvoke({"a": [["half", HANG]]})
    call = chat().with_context(deadline=time.time() + 0.03)
    with pytest.raises(DeadlineExceeded) as caught:
        await deltas_of(limited(place, lookup_of()), call)
    assert caught.value.limit == "deadline"
    assert place.closed == ["a"]


async def test_a_deadline_already_past_never_reaches_the_node() -> None:
    place = FakeInvoke({"a": [answer("too late")]})
    with pytest.raises(DeadlineExceeded) as caught:
        await deltas_of(limited(place, lookup_of()), chat().with_context(deadline=time.time() - 1))
    assert (caught.value.limit, place.calls) == ("deadline", [])


async def test_a_stream_without_a_finish_is_broken() -> None:
    with pytest.raises(StreamBroken, match="before it was finished"):
        await deltas_of(limited(FakeInvoke({"a": [["half"]]}), lookup_of()), chat())


async def test_a_node_within_its_limits_is_passed_on_as_it_is() -> None:
    place = FakeInvoke({"a": [["one", 0.01, " two", DONE]]})
    deltas = await deltas_of(limited(place, lookup_of(first_token_s=5, idle_s=5)), chat())
    assert (text_of(deltas), deltas[-1]) == ("one two", DONE)
