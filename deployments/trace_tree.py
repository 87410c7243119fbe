"""A trace as a tree: what ran below what, when, for how long, and which part of it the answer waited for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from deployments.span_store import trace_log
from graph.stores.base import StateStore
from graph.telemetry import CALLER

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class SpanNode:
    """One span and those below it."""

    span_id: str
    parent_id: str | None
    name: str
    kind: str
    offset_ms: float
    """Milliseconds from the start of the trace."""
    duration_ms: float
    status: str
    """`OK`, `ERROR` or `UNSET`, which is fine."""
    message: str | None
    attributes: Mapping[str, Any]
    service: str | None
    instance: str | None
    critical: bool
    """Whether the end of the trace waited for this span."""
    children: tuple[SpanNode, ...]
    """By their start."""

    def walk(self) -> Iterator[SpanNode]:
        """Yield this span and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        return {
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "kind": self.kind,
            "offset_ms": round(self.offset_ms, 3),
            "duration_ms": round(self.duration_ms, 3),
            "status": self.status,
            "message": self.message,
            "attributes": dict(self.attributes),
            "service": self.service,
            "instance": self.instance,
            "critical": self.critical,
            "children": [child.to_json() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class TraceTree:
    """All spans of a trace that were written so far."""

    trace_id: str
    started_at: float
    """Seconds since the epoch."""
    duration_ms: float
    roots: tuple[SpanNode, ...]
    """One, unless the parent of a span is not written yet, or lives with the caller."""

    def walk(self) -> Iterator[SpanNode]:
        """Yield every span, parents first."""
        for root in self.roots:
            yield from root.walk()

    @property
    def callers(self) -> frozenset[str]:
        """Marks of those whose requests the trace is of."""
        return frozenset(str(span.attributes[CALLER]) for span in self.walk() if CALLER in span.attributes)

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        spans = list(self.walk())
        return {
            "trace_id": self.trace_id,
            "started_at": self.started_at,
            "duration_ms": round(self.duration_ms, 3),
            "spans": len(spans),
            "errors": sum(span.status == "ERROR" for span in spans),
            "roots": [root.to_json() for root in self.roots],
        }


async def load_trace(store: StateStore, trace_id: str) -> TraceTree | None:
    """Read a trace from the store; None if nothing is known of it (not sampled, not written yet, or forgotten)."""
    records: list[Mapping[str, Any]] = []
    after = 0
    while page := await store.read(trace_log(trace_id), after=after, limit=_PAGE):
        records += (orjson.loads(item) for _, item in page)
        after = page[-1][0]
    return build_tree(trace_id, records)


def build_tree(trace_id: str, records: Iterable[Mapping[str, Any]]) -> TraceTree | None:
    """Join the records of `deployments.span_store` into a tree; None if there are none."""
    spans = {record["span_id"]: record for record in records}
    if not spans:
        return None
    children: dict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for record in sorted(spans.values(), key=lambda record: record["start_ns"]):
        parent = record["parent_id"]
        children[parent if parent in spans else None].append(record)
    start = min(record["start_ns"] for record in spans.values())
    end = max(record["end_ns"] for record in spans.values())
    critical = _critical_path(children, end)
    roots = tuple(_node(record, children, critical, start) for record in children[None])
    return TraceTree(trace_id, start / 1e9, (end - start) / 1e6, roots)


def _node(
    record: Mapping[str, Any],
    children: Mapping[str | None, Sequence[Mapping[str, Any]]],
    critical: frozenset[str],
    start: int,
) -> SpanNode:
    return SpanNode(
        record["span_id"],
        record["parent_id"],
        record["name"],
        record["kind"],
        (record["start_ns"] - start) / 1e6,
        (record["end_ns"] - record["start_ns"]) / 1e6,
        record["status"],
        record["message"],
        record["attributes"],
        record["service"],
        record["instance"],
        record["span_id"] in critical,
        tuple(_node(child, children, critical, start) for child in children.get(record["span_id"], ())),
    )


def _critical_path(children: Mapping[str | None, Sequence[Mapping[str, Any]]], end: int) -> frozenset[str]:
    """Walk back from the end of the trace: at each moment the span that ended last is what was waited for."""
    found: set[str] = set()
    ends = _ends(children)
    waiting: list[tuple[str | None, int]] = [(None, end)]
    while waiting:
        parent, until = waiting.pop()
        over = until
        for record in sorted(children.get(parent, ()), key=lambda record: ends[record["span_id"]], reverse=True):
            # Clocks of two machines differ, and a stream's parts end in any order: a child may outlive its parent.
            ended = min(ends[record["span_id"]], over)
            if record["start_ns"] < until and ended <= until:
                found.add(record["span_id"])
                waiting.append((record["span_id"], ended))
                until = record["start_ns"]
    return frozenset(found)


def _ends(children: Mapping[str | None, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """Return when each span and all below it had ended: an accepted run goes on after its request was answered."""
    ends: dict[str, int] = {}
    order: list[Mapping[str, Any]] = list(children.get(None, ()))
    for record in order:  # grows while it is read: parents stand before their children
        order.extend(children.get(record["span_id"], ()))
    for record in reversed(order):
        below = [ends[child["span_id"]] for child in children.get(record["span_id"], ())]
        ends[record["span_id"]] = max([record["end_ns"], *below])
    return ends
