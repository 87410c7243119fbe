"""What a run is: events while it happens, an outcome for each task, and the result of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from graph.types import Json, NodeName, Reply

TaskStatus: TypeAlias = Literal["ok", "failed", "skipped"]
RunStatus: TypeAlias = Literal["running", "ok", "partial", "failed"]
EventType: TypeAlias = Literal[
    "planned", "task.started", "task.delta", "task.finished", "task.skipped", "output.delta", "run.finished"
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one task ended."""

    task: str
    node: NodeName
    """The node that answered, which is another than planned after a fallback."""
    status: TaskStatus
    reply: Reply | None = None
    error: Mapping[str, Json] | None = None
    """`{"message", "code", "param"}` of the failure, or why the task was skipped."""
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    """Seconds since the epoch."""

    def to_json(self) -> dict[str, Json]:
        """Return the native surface's form."""
        return {
            "task": self.task,
            "node": self.node,
            "model": self.reply.model if self.reply else None,
            "status": self.status,
            "output": output_value(self.reply) if self.reply else None,
            "usage": self.reply.usage.to_json() if self.reply and self.reply.usage else None,
            "error": dict(self.error) if self.error else None,
            "attempts": self.attempts,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }

    def to_record(self) -> dict[str, Json]:
        """Return a JSON form that `from_record` reads back whole."""
        return self.to_json() | {"reply": self.reply.to_json() if self.reply else None}

    @classmethod
    def from_record(cls, data: Mapping[str, Json]) -> Outcome:
        """Read what `to_record` wrote."""
        reply = Reply.from_json(data["reply"]) if data["reply"] else None
        return cls(
            data["task"],
            data["node"],
            data["status"],
            reply,
            data["error"],
            data["attempts"],
            data["started_at"],
            data["ended_at"],
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a plan ended."""

    status: RunStatus
    outcomes: tuple[Outcome, ...]
    """In the order of the plan's tasks."""
    output: str
    """The composed answer; says what is missing when the status is partial."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened in a run."""

    type: EventType
    data: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None
    """The whole outcome, with `task.finished` and `task.skipped`; not part of the event as clients see it."""


def output_value(reply: Reply) -> Json:
    """Return a reply as a JSON value: its text, or its structured payload."""
    return reply.payload.value if isinstance(reply.payload.value, (dict, list)) else reply.payload.text
