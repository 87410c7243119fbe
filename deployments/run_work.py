"""A run that a process works on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import InitVar, dataclass, field

from opentelemetry.trace import Span

from deployments.run_events import EventWriter
from graph.journal import RunJournal
from graph.plan import Plan
from graph.run import Outcome
from graph.run_options import RunOptions
from graph.types import Call

STORE_AWAY_S = 60.0
"""How long after the deadline of a run its end may wait for the store."""


@dataclass(slots=True)
class RunWork:
    """A run that this process works on."""

    id: str
    call: Call
    plan: Plan | None
    options: RunOptions
    span: Span
    """Of the whole run; begun before the request that started it is answered, so that their trace is one."""
    done: tuple[Outcome, ...] | None
    """Outcomes that another process left behind; None for a new run."""
    journal: InitVar[RunJournal]
    until: float = field(init=False)
    """Until when a store that is away is waited for: the run's deadline, and the time to write its end down."""
    writer: EventWriter = field(init=False)
    task: asyncio.Task[None] | None = field(default=None, compare=False)

    def __post_init__(self, journal: RunJournal) -> None:
        self.until = (self.call.context.deadline or time.time()) + STORE_AWAY_S
        self.writer = EventWriter(journal, self.id, self.until)
