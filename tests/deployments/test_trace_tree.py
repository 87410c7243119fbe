from __future__ import annotations

from typing import Any

import orjson

from deployments.span_store import trace_log
from deployments.trace_tree import TraceTree, build_tree, load_trace
from graph.stores.memory import MemoryStore

MS = 1_000_000


def record(span: str, parent: str | None, start: float, end: float, **changes: Any) -> dict[str, Any]:
    return {
        "span_id": span,
        "parent_id": parent,
        "name": span,
        "kind": "INTERNAL",
        "start_ns": int(1_000_000_000_000 + start * MS),
        "end_ns": int(1_000_000_000_000 + end * MS),
        "status": "UNSET",
        "message": None,
        "attributes": {},
        "service": "modelyard",
        "instance": "1",
    } | changes


def tree_of(*records: dict[str, Any]) -> TraceTree:
    tree = build_tree("t", records)
    assert tree is not None
    return tree


def critical(tree: TraceTree) -> set[str]:
    return {span.name for span in tree.walk() if span.critical}


def test_spans_hang_below_their_parents_by_start() -> None:
    tree = tree_of(record("b", "root", 5, 9), record("a", "root", 1, 4), record("root", None, 0, 10))
    (root,) = tree.roots
    assert [child.name for child in root.children] == ["a", "b"]
    assert (root.children[1].offset_ms, root.children[1].duration_ms) == (5.0, 4.0)
    assert (tree.started_at, tree.duration_ms) == (1000.0, 10.0)


def test_the_critical_path_is_what_the_end_waited_for() -> None:
    tree = tree_of(
        record("root", None, 0, 10),
        record("route", "root", 0, 1),
        record("quick", "root", 1, 3),
        record("slow", "root", 1, 6),
        record("last", "root", 6, 10),
        record("inside quick", "quick", 1, 3),
        record("inside slow", "slow", 2, 6),
    )
    assert critical(tree) == {"root", "route", "slow", "inside slow", "last"}


def test_a_child_that_outlives_its_parent_is_on_the_path_once() -> None:
    tree = tree_of(record("root", None, 0, 10), record("a", "root", 1, 12), record("b", "root", 2, 11))
    assert critical(tree) == {"root", "a"}


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    tree = tree_of(record("a", "elsewhere", 0, 5), record("b", "a", 1, 2))
    assert [root.name for root in tree.roots] == ["a"]
    assert tree.roots[0].parent_id == "elsewhere"


def test_json_counts_spans_and_errors() -> None:
    data = tree_of(
        record("root", None, 0, 10), record("a", "root", 1, 2, status="ERROR", attributes={"error.type": "x"})
    ).to_json()
    assert (data["spans"], data["errors"], data["duration_ms"]) == (2, 1, 10.0)
    assert data["roots"][0]["children"][0]["attributes"] == {"error.type": "x"}
    assert orjson.loads(orjson.dumps(data)) == data


async def test_a_trace_longer_than_a_page_is_read_whole() -> None:
    store = MemoryStore()
    await store.open()
    spans = [record("root", None, 0, 10)] + [record(f"s{i}", "root", 1, 2) for i in range(1500)]
    await store.append(trace_log("t"), [orjson.dumps(span) for span in spans])
    tree = await load_trace(store, "t")
    assert tree is not None
    assert len(tree.roots[0].children) == 1500
    assert await load_trace(store, "unknown") is None
    await store.aclose()
