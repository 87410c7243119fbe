"""A node that is not idempotent is asked once, whatever the policies would do."""

from __future__ import annotations

import pytest
from fakes import FakeInvoke, answer, chat, spec
from invoke_parts import deltas_of

from deployments.invoke.stack import Policies, compose
from graph.errors import ModelyardError, NodeUnreachable
from graph.model_graph import ModelGraph


@pytest.mark.parametrize(("idempotent", "asked"), [(True, ["a", "a", "a", "b"]), (False, ["a"])])
async def test_no_retry_and_no_fallback(idempotent: bool, asked: list[str]) -> None:
    place = FakeInvoke({"a": [[NodeUnreachable("reset")]], "b": [answer("from b")]})
    graph = ModelGraph([spec("a", idempotent=idempotent, edges={"fallback": ["b"]}), spec("b")])
    policies = Policies(lambda: graph, lambda name, call: True, lambda start, end: None, max_attempts=6)
    try:
        await deltas_of(compose(place, policies).invoke, chat())
    except ModelyardError as error:
        assert isinstance(error, NodeUnreachable) and not idempotent
    assert place.asked() == asked


async def test_a_fallback_that_is_not_idempotent_is_asked_once_too() -> None:
    place = FakeInvoke({"a": [[NodeUnreachable("reset")]], "b": [[NodeUnreachable("reset")]]})
    limits = {"attempts": 1}
    graph = ModelGraph([spec("a", limits=limits, edges={"fallback": ["b"]}), spec("b", idempotent=False)])
    policies = Policies(lambda: graph, lambda name, call: True, lambda start, end: None, max_attempts=6)
    with pytest.raises(NodeUnreachable):
        await deltas_of(compose(place, policies).invoke, chat())
    assert place.asked() == ["a", "b"]
