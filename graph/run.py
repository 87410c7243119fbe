"""What a run is: events while it happens, an outcome for each task, and the result of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from graph.budget import COST_DIGITS
from graph.types import Json, NodeName, Reply

UNNEEDED = ("condition_false", "dependency_skipped")
"""Codes of tasks that were skipped as the plan wants it."""

TaskStatus: TypeAlias = Literal["ok", "failed", "skipped", "unknown"]
"""`unknown`: it must not be repeated, and whether it was done cannot be told."""
RunStatus: TypeAlias = Literal["running", "ok", "partial", "failed"]
EventType: TypeAlias = Literal[
    "planned",
    "task.started",
    "task.delta",
    "task.item",
    "task.finished",
    "task.skipped",
    "output.delta",
    "run.finished",
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
    """`{"message", "code", "param"}` of the failure, why the task was skipped, or what of an `ok` output is missing."""
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    """Seconds since the epoch."""
    cached: bool = False
    """Nothing was asked: the node had answered the same call before."""
    cost: float = 0.0
    """Cost units, by the nodes' prices."""
    index: int | None = None
    """Which item of a `map` or iteration of a `repeat` this is; None for a whole task."""
    parts: tuple[Outcome, ...] = ()
    """The outcomes of the items or iterations; their outputs are in the task's own."""

    @property
    def unneeded(self) -> bool:
        """Whether the task was skipped because a condition said so, which is no failure."""
        return self.status == "skipped" and (self.error or {}).get("code") in UNNEEDED

    @property
    def under_way(self) -> bool:
        """Whether this only says that a task which must not be repeated has begun."""
        return self.status == "unknown" and self.ended_at is None

    @property
    def whole(self) -> bool:
        """Whether the task succeeded and nothing of its output is missing."""
        return self.status == "ok" and self.error is None

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
            "cached": self.cached,
            "cost": round(self.cost, COST_DIGITS),
            **({"index": self.index} if self.index is not None else {}),
            **({"parts": [part.to_part() for part in self.parts]} if self.parts else {}),
        }

    def to_part(self) -> dict[str, Json]:
        """Return the form that an outcome has within its task's: without the output, which stands there."""
        return {key: value for key, value in self.to_json().items() if key not in ("task", "output", "model")}

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
            data.get("cached", False),
            data.get("cost", 0.0),
            data.get("index"),
            tuple(cls.from_record({"task": data["task"], "reply": None} | part) for part in data.get("parts", ())),
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
    """The whole outcome, with `task.item`, `task.finished` and `task.skipped`; not seen by clients."""


def output_value(reply: Reply) -> Json:
    """Return a reply as a JSON value: its text, or its structured payload."""
    return reply.payload.value if isinstance(reply.payload.value, (dict, list)) else reply.payload.text
