"""A run that a process works on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from deployments.run_events import EventWriter
from graph.plan import Plan
from graph.run import Outcome
from graph.run_options import RunOptions
from graph.types import Call


@dataclass(slots=True)
class RunWork:
    """A run that this process works on."""

    id: str
    call: Call
    plan: Plan | None
    options: RunOptions
    trace: dict[str, str]
    done: tuple[Outcome, ...] | None
    """Outcomes that another process left behind; None for a new run."""
    writer: EventWriter
    task: asyncio.Task[None] | None = field(default=None, compare=False)
