"""The events of a run as they come, whichever process works on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from deployments.run_work import RunWork
from graph.journal import RunJournal
from graph.run import RunEvent

Numbered = AsyncGenerator[tuple[int, RunEvent], None]


async def feed(
    journal: RunJournal, id: str, after: int, work_of: Callable[[str], RunWork | None], poll_s: float
) -> Numbered:
    """Yield a run's events with ids above `after`, and then as they come, until `run.finished`.

    `work_of` gives the run's work if it is this process's; else the journal is looked at every `poll_s` seconds.
    """
    while True:
        # Both are taken before the events are read: whatever is written later wakes this loop again.
        work = work_of(id)
        news = work.writer.next if work else None
        ended = await journal.status(id) != "running"
        found = await journal.events(id, after)
        for number, event in found:
            after = number
            yield number, event
            if event.type == "run.finished":
                return
        if not found:
            if ended and news is None:
                async for number, event in _last(journal, id, after):
                    yield number, event
                return
            await (news.wait() if news else asyncio.sleep(poll_s))


async def _last(journal: RunJournal, id: str, after: int) -> Numbered:
    """Yield the end of a run whose process died before it wrote that event; nothing if `after` is the event."""
    before = await journal.events(id, max(after - 1, 0))
    if not before or before[-1][1].type != "run.finished":
        record = await journal.get(id)
        data = {"status": record.status, "output": record.output, "error": record.error}
        yield after + 1, RunEvent("run.finished", data)
