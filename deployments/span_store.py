"""Keeps spans in the state store, so that a trace can be read without another service."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from graph.stores.base import StateStore
from graph.telemetry import KEPT

TRACE_TTL_S: Final = 86_400.0
MAX_SPANS_PER_TRACE: Final = 10_000
KEPT_LOG: Final = "kept-traces"
"""Ids of traces that a gateway kept for their end: nodes write theirs of them."""
KEPT_MOST: Final = 10_000
T = TypeVar("T")
_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 16

_log = logging.getLogger(__name__)


def trace_log(trace_id: str) -> str:
    """Return the name of the log that holds the spans of a trace."""
    return f"trace:{trace_id}"


def span_record(span: ReadableSpan) -> tuple[str, dict[str, Any]]:
    """Return a span's trace id and its JSON form, as `deployments.trace_tree` reads it."""
    context, resource = span.get_span_context(), span.resource.attributes
    if context is None:
        raise ValueError(f"span {span.name!r} has no context")
    return f"{context.trace_id:032x}", {
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "start_ns": span.start_time or 0,
        "end_ns": span.end_time or span.start_time or 0,
        "status": span.status.status_code.name,
        "message": span.status.description,
        "attributes": dict(span.attributes or {}),
        "service": resource.get("service.name"),
        "instance": resource.get("service.instance.id"),
    }


class StoreSpanExporter(SpanExporter):
    """Appends spans to the log of their trace.

    Has a thread, an event loop and a store object of its own: it works the same in the gateway and in a node's process,
    and a slow store delays no request. The store is opened at the first export.
    """

    def __init__(self, make: Callable[[], StateStore], *, timeout_s: float = _TIMEOUT_S) -> None:
        self._make = make
        self._timeout_s = timeout_s
        self._store: StateStore | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="span-store", daemon=True)
        self._thread.start()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch; raise what the store raises. Called by the batch processor, one call at a time."""
        batches: dict[str, list[bytes]] = defaultdict(list)
        kept = []
        for span in spans:
            trace_id, record = span_record(span)
            batches[trace_id].append(orjson.dumps(record, default=str))
            if KEPT in record["attributes"]:
                kept.append(trace_id.encode())
        self._wait(self._write(batches, kept))
        return SpanExportResult.SUCCESS

    def kept_after(self, after: int) -> list[tuple[int, str]]:
        """Return the traces that gateways kept since an entry of that log: entry and trace id."""
        return [(number, raw.decode()) for number, raw in self._wait(self._kept_after(after))]

    async def _kept_after(self, after: int) -> list[tuple[int, bytes]]:
        return await (await self._opened()).read(KEPT_LOG, after=after)

    async def _opened(self) -> StateStore:
        if self._store is None:
            store = self._make()
            await store.open()
            self._store = store
        return self._store

    async def _write(self, batches: Mapping[str, Sequence[bytes]], kept: Sequence[bytes]) -> None:
        store = await self._opened()
        if kept:
            await store.append(KEPT_LOG, kept, keep=KEPT_MOST, ttl_s=TRACE_TTL_S)
        logs = list(batches.items())
        # Some at a time: SQLite commits them together, and Redis needs no more connections than that.
        for first in range(0, len(logs), _AT_ONCE):
            await asyncio.gather(*(self._append(store, *log) for log in logs[first : first + _AT_ONCE]))

    async def _append(self, store: StateStore, trace_id: str, items: Sequence[bytes]) -> None:
        await store.append(trace_log(trace_id), items, keep=MAX_SPANS_PER_TRACE, ttl_s=TRACE_TTL_S)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._timeout_s)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"no answer in {self._timeout_s:g} s") from None

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: an export returns when it is written."""
        return True

    def shutdown(self) -> None:
        """Close the store and end the thread."""
        if self._loop.is_closed():
            return
        try:
            if self._store is not None:
                self._wait(self._store.aclose())
        except Exception as error:  # a boundary: the process is ending and nobody can act on it
            _log.debug("closing the trace store failed: %s", error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(self._timeout_s)
        if not self._thread.is_alive():
            self._loop.close()
        self._store = None
