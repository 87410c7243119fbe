"""Writes the events of a run to the journal, and wakes those who follow it in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from deployments.patience import patiently
from graph.journal import RunJournal
from graph.run import RunEvent

log = logging.getLogger("modelyard.runs")

FLUSH_S = 0.02
"""How long such events may wait to be written together."""

PATIENT = frozenset({"task.started", "task.delta", "task.item", "output.delta"})
"""Events that nobody misses for a moment: the run does not wait until they are written."""

MAX_WAITING = 256
"""Such events that may wait; with one more the run waits, for a store is slower than what it is told."""


class EventWriter:
    """Journals the events of one run in order; tokens that come within a moment are written together."""

    def __init__(self, journal: RunJournal, id: str, until: float = 0.0) -> None:
        """`until` is how long a store that is away is waited for, in seconds since the epoch."""
        self._journal = journal
        self._id = id
        self._until = until
        self._waiting: list[RunEvent] = []
        self._lock = asyncio.Lock()
        self._flushed = 0.0
        self._later: asyncio.Task[None] | None = None
        self.next = asyncio.Event()
        """Set when there is something to read that was not there when this was taken."""

    async def write(self, event: RunEvent) -> None:
        """Add an event."""
        self._waiting.append(event)
        if event.type not in PATIENT or len(self._waiting) >= MAX_WAITING:
            await self.flush()
        elif self._later is None:
            left = self._flushed + FLUSH_S - time.monotonic()
            self._later = asyncio.create_task(self._flush_after(max(left, 0)))

    async def flush(self) -> None:
        """Write what waits."""
        async with self._lock:
            events, self._waiting = self._waiting, []
            try:
                if events:
                    await patiently(partial(self._journal.append_events, self._id, events), self._until)
            except Exception:  # raised again: what could not be written goes with the next attempt
                self._waiting = events + self._waiting
                raise
            self._flushed = time.monotonic()
        self._tell()

    def close(self) -> None:
        """Wake the followers for good; nothing is written any more."""
        if self._later is not None:
            self._later.cancel()
        self._tell()

    def _tell(self) -> None:
        told, self.next = self.next, asyncio.Event()
        told.set()

    async def _flush_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._later = None
        try:
            await self.flush()
        except Exception:  # a boundary: nobody awaits this task; the next event, or the end, tries again and raises
            log.warning("events of run %s could not be written; trying again", self._id)
