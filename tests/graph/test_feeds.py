from __future__ import annotations

import networkx as nx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Modality

NAMES = ("a", "b", "c", "d", "e", "f")
SOME = st.frozensets(st.sampled_from(list(Modality)), min_size=1, max_size=2)


@st.composite
def graphs(draw: st.DrawFn) -> ModelGraph:
    return ModelGraph(
        NodeSpec(
            name=name,
            kind="k",
            description=name,
            accepts=draw(SOME),
            produces=draw(SOME),
            edges={"feeds": draw(st.lists(st.sampled_from(NAMES), max_size=2))},
            arguments={"x": {}} if draw(st.booleans()) else {},
        )
        for name in NAMES
    )


def weighed(graph: ModelGraph) -> nx.DiGraph:
    """The same edges, written down one by one."""
    feeds = nx.DiGraph()
    feeds.add_nodes_from(graph.names)
    for start, end, key, data in graph.network.edges(keys=True, data=True):
        if key == "feeds":
            feeds.add_edge(start, end, weight=1 if data["declared"] else 2)
    return feeds


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_way_is_as_light_as_the_lightest_over_all_edges(graph: ModelGraph, source: str, target: str) -> None:
    feeds = weighed(graph)
    way = graph.path(source, target)
    if way is None:
        assert not nx.has_path(feeds, source, target)
    else:
        assert way[0] == source and way[-1] == target
        lightest = nx.shortest_path_length(feeds, source, target, weight="weight")
        assert nx.path_weight(feeds, way, weight="weight") == lightest


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.sampled_from(NAMES), st.sampled_from(list(Modality)), st.frozensets(st.sampled_from(NAMES)))
def test_an_attachment_passes_models_that_may_be_used(
    graph: ModelGraph, target: str, modality: Modality, barred: frozenset[str]
) -> None:
    usable = graph.without(*(barred - {target}), *(s.name for s in graph if s.is_tool and s.name != target))
    feeds = weighed(usable)
    sources = [s.name for s in usable.accepting(modality) if s.name != target]
    possible = any(nx.has_path(feeds, source, target) for source in sources)
    way = graph.feeds.carry(modality, target, barred.__contains__)
    assert (way is not None) == possible
    if way is not None:
        assert way[0] in sources and target not in way and set(way) <= set(usable.names)
        assert nx.is_path(feeds, [*way, target])
        if any(feeds.has_edge(source, target) for source in sources):
            assert way == (min(source for source in sources if feeds.has_edge(source, target)),)


def test_a_search_among_many_alike_nodes_looks_at_a_few() -> None:
    looked_at: list[str] = []

    class Counted(dict[str, NodeSpec]):
        def __getitem__(self, name: str) -> NodeSpec:
            looked_at.append(name)
            return super().__getitem__(name)

    many = [NodeSpec(name=f"n{i}", kind="k", description="d") for i in range(2000)]
    speech = NodeSpec(name="speech", kind="k", description="d", accepts={"audio"})
    graph = ModelGraph([*many, speech])
    graph.feeds._specs = Counted(graph._specs)
    assert graph.path("speech", "n7") == ("speech", "n7") and graph.path("n7", "speech") is None
    assert graph.feeds.carry(Modality.AUDIO, "n9") == ("speech",)
    assert len(looked_at) < 30


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_edges_that_modalities_make_are_counted_without_being_written_down(graph: ModelGraph) -> None:
    written = [data["declared"] for *_, key, data in graph.network.edges(keys=True, data=True) if key == "feeds"]
    assert graph.feeds.implied == written.count(False)


def test_a_large_graph_writes_down_its_declared_edges_only() -> None:
    many = [NodeSpec(name=f"n{index}", kind="k", description="x") for index in range(1000)]
    declared = NodeSpec(name="first", kind="k", description="x", edges={"feeds": ["n7"], "fallback": ["n8"]})
    graph = ModelGraph([*many, declared])
    assert not graph.lists_implied and graph.feeds.implied == 1001 * 1000 - 1
    assert sorted(graph.network.edges(keys=True)) == [("first", "n7", "feeds"), ("first", "n8", "fallback")]
    assert graph.path("n1", "n999") == ("n1", "n999")
    small = graph.without(*(spec.name for spec in many[20:]))
    assert small.lists_implied and small.network.number_of_edges() == 21 * 20 + 1
