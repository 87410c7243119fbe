"""What the journal knows of a run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from graph.errors import RunNotFound
from graph.plan import Plan
from graph.run import Outcome, RunStatus
from graph.run_options import RunOptions
from graph.types import Call, Json


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the journal knows of one run."""

    id: str
    status: RunStatus
    plan: Plan | None
    """None until it is planned, and for a call that goes to one node."""
    outcomes: tuple[Outcome, ...]
    """Of the tasks that have ended, in the order in which they did."""
    parts: tuple[Outcome, ...]
    """Of items and iterations, also of tasks that have not ended."""
    output: str | None
    error: Mapping[str, Json] | None
    trace_id: str | None
    options: RunOptions
    deadline: float | None
    """When nobody waits for it any more, whoever works on it."""
    created_at: float
    ended_at: float | None
    """Seconds since the epoch."""
    caller: str | None = None
    """Who started it; None is the operator."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """An unfinished run that was taken over, with the call that it answers, which may hold megabytes."""

    record: RunRecord
    call: Call


def new_run_id() -> str:
    """Return an id that no other run has."""
    return f"run_{uuid.uuid4().hex}"


def run_not_found(id: str) -> RunNotFound:
    """Return the error that tells that there is no such run."""
    return RunNotFound(f"no run has the id {id!r}", param="id")
