from __future__ import annotations

import pytest

from graph.model_graph import ModelGraph
from graph.preferences import Preferences
from graph.spec import NodeSpec
from graph.types import Call, CallContext, Message
from router.choice.correctness import ChoiceRow, Correctness
from router.policy import Policy
from router.router import Router


def node(name: str, price: float, *examples: str) -> NodeSpec:
    cost = {"output_per_million": price}
    return NodeSpec(name=name, kind="k", description=name, examples=examples, cost=cost)  # type: ignore[arg-type]


SPECS = [
    node("poems", 10, "write a poem", "a poem about spring", "rhyme a poem"),
    node("letters", 1, "write a letter", "a letter about money", "sign a letter"),
]
GRAPH = ModelGraph(SPECS)
POEM = Call((Message("user", "a poem please"),))


def ask(**prefer: float) -> Call:
    context = CallContext(prefer=Preferences.weighed(**prefer)) if prefer else CallContext()
    return Call(POEM.messages, context=context)


async def test_preferences_and_latency_change_the_choice_and_are_kept_apart(hash_encoder) -> None:
    seen = {"poems": 900.0}
    router = Router(hash_encoder, Policy(0.0), latency=lambda call: seen)
    await router.fit(SPECS)

    async def chosen(**prefer: float) -> str | None:
        return (await router.decide(ask(**prefer), GRAPH)).node

    assert await chosen() == "poems"
    assert await chosen(cost=1) == "letters"
    assert await chosen(latency=1) == "letters"
    assert await chosen() == "poems"
    seen["letters"] = 9000.0  # a decision that heeds latency is not remembered
    assert await chosen(latency=1) == "poems"
    await router.aclose()


async def test_utilities_add_up_and_rank(hash_encoder) -> None:
    router = Router(hash_encoder, Policy(0.0), latency=lambda call: {"poems": 900.0, "letters": 90.0})
    await router.fit(SPECS)
    decision = await router.decide(ask(quality=0.5, cost=0.3, latency=0.2), GRAPH)
    assert [c.utility.total for c in decision.candidates] == sorted(c.utility.total for c in decision.candidates)[::-1]
    found = {c.node: c for c in decision.candidates}
    assert (found["poems"].utility.cost, found["letters"].utility.cost) == pytest.approx((0.3, 0.03))
    assert (found["poems"].utility.latency, found["letters"].utility.latency) == pytest.approx((0.2, 0.02))
    assert found["poems"].utility.quality == pytest.approx(found["poems"].probability / 2)
    await router.aclose()


async def test_correctness_data_decide_where_there_are_any(hash_encoder) -> None:
    router = Router(hash_encoder, Policy(0.0))
    await router.fit(SPECS)
    assert (await router.decide(POEM, GRAPH)).node == "poems"
    rows = [ChoiceRow(f"a poem number {n}", {"letters": 1.0, "poems": 0.0, "gone": 1.0}) for n in range(20)]
    await router.learn(Correctness.of(rows))
    decision = await router.decide(POEM, GRAPH)
    assert decision.node == "letters"
    assert {c.node: round(c.quality or 0) for c in decision.candidates} == {"letters": 1, "poems": 0}
    await router.fit(SPECS)  # a new fit of the nodes keeps what is known of their quality
    assert (await router.decide(POEM, GRAPH)).node == "letters"
    await router.aclose()


@pytest.mark.parametrize("wrong", [{"quality": -1.0}, {"cost": float("nan")}, {"budget": float("inf")}])
def test_weights_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Preferences.weighed(**wrong)
