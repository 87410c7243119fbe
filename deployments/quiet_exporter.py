"""An exporter that fails quietly: telemetry's troubles are said once, and cost the service nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

PAUSE_S: Final = 5.0

_log = logging.getLogger(__name__)


class QuietExporter(SpanExporter):
    """Drops spans while their target is down, tries again every `PAUSE_S`, and logs only when that changes.

    Without the pause each batch would wait for the target's timeout, and the queue behind it would overflow.
    """

    def __init__(self, inner: SpanExporter, target: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._target = target
        self._clock = clock
        self._retry_at: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Pass a batch on, unless the target failed a moment ago."""
        if self._retry_at is not None and self._clock() < self._retry_at:
            return SpanExportResult.FAILURE
        try:
            result, reason = self._inner.export(spans), "no success"
        except Exception as error:  # a boundary: whatever ails the target, it must not reach the service
            result, reason = SpanExportResult.FAILURE, str(error) or type(error).__name__
        if result is not SpanExportResult.SUCCESS:
            if self._retry_at is None:
                _log.warning("spans cannot be written to %s (%s); they are dropped for now", self._target, reason)
            self._retry_at = self._clock() + PAUSE_S
        elif self._retry_at is not None:
            _log.warning("spans are written to %s again", self._target)
            self._retry_at = None
        return result

    def shutdown(self) -> None:
        """Stop."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Ask the inner exporter to write what it holds."""
        return self._inner.force_flush(timeout_millis)
