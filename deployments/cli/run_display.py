"""The tasks of a run while it happens: a live tree on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from deployments.cli.console import STATE_STYLES, clean, styled
from deployments.cli.routing import plan_tree

TAIL_LINES = 8
"""Lines of the answer shown while it streams; the whole is printed at the end."""
ICONS = {"waiting": "·", "running": "●", "ok": "✓", "failed": "✗", "skipped": "-"}


@dataclass(slots=True)
class _TaskState:
    status: str = "waiting"
    started: float | None = None
    seconds: float | None = None
    error: str = ""
    items: int = 0
    """Items and iterations that have ended."""
    cached: bool = False


class RunDisplay:
    """Takes the events of a run by `handle`; a context manager that holds the terminal meanwhile."""

    def __init__(self, target: Console, *, show: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = target
        self._show = show
        self._clock = clock
        self._plan: Mapping[str, Any] = {}
        self._tasks: dict[str, _TaskState] = {}
        self._output = ""
        self._live: Live | None = None

    def __enter__(self) -> RunDisplay:
        if self._show and self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self.renderable, refresh_per_second=8, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(self._tree())

    def handle(self, type: str, data: Mapping[str, Any]) -> None:
        """Take in one event."""
        id = str(data.get("task", ""))
        if type == "planned":
            self._plan = data.get("plan") or data
            known = self._tasks  # a plan for the rest keeps what is finished
            ids = [str(task.get("id")) for task in self._plan.get("tasks") or ()]
            self._tasks = {id: known.get(id, _TaskState()) for id in ids}
            again = f" anew, because {', '.join(data['because'])} failed" if data.get("because") else ""
            self._line(f"planned {len(self._tasks)} task{'s' * (len(self._tasks) != 1)}{again}")
        elif type == "task.started":
            self._tasks[id] = _TaskState("running", self._clock())
            self._line(f"{id} {data.get('node')} running")
        elif type == "task.item":
            self._tasks.setdefault(id, _TaskState("running")).items += 1
            self._line(f"{id}[{data.get('index')}] {data.get('node')} {data.get('status')}")
        elif type in ("task.finished", "task.skipped"):
            self._end(id, data)
        elif type == "output.delta":
            kept = "" if data.get("reset") else self._output
            self._output = kept + str(data.get("text", ""))

    def renderable(self) -> RenderableType:
        """Return what a terminal shows now."""
        tail = clean(self._output).splitlines()[-TAIL_LINES:]
        return Group(self._tree(), *([Text("")] if tail else []), *(Text(line) for line in tail))

    def _end(self, id: str, data: Mapping[str, Any]) -> None:
        state = self._tasks.setdefault(id, _TaskState())
        state.status = str(data.get("status", "ok"))
        state.seconds = _seconds(data)
        if state.seconds is None and state.started is not None:
            state.seconds = self._clock() - state.started
        state.cached = bool(data.get("cached"))
        error = data.get("error")
        state.error = str(error.get("message", "")) if isinstance(error, Mapping) else ""
        took = f" in {state.seconds:.1f} s" if state.seconds is not None else ""
        why = f": {state.error}" if state.error else ""
        self._line(f"{id} {data.get('node')} {state.status}{took}{', cached' * state.cached}{why}")

    def _tree(self) -> RenderableType:
        if not self._tasks:
            return styled("planning …", "dim")
        known = self._plan.get("tasks") or [{"id": id} for id in self._tasks]
        return plan_tree({**self._plan, "tasks": known}, {id: self._note(state) for id, state in self._tasks.items()})

    def _note(self, state: _TaskState) -> Text:
        seconds = state.seconds
        if seconds is None and state.started is not None:
            seconds = self._clock() - state.started
        took = f" {seconds:.1f} s" if seconds is not None else ""
        more = f", {state.items} items" * bool(state.items) + ", cached" * state.cached
        note = Text(
            f"{ICONS.get(state.status, '?')} {state.status}{took}{more}", style=STATE_STYLES.get(state.status, "")
        )
        return note.append(f"  {clean(state.error)}", style="red") if state.error else note

    def _line(self, text: str) -> None:
        if self._show and self._live is None:
            self._console.print(styled(text), soft_wrap=True)


def _seconds(data: Mapping[str, Any]) -> float | None:
    started, ended = data.get("started_at"), data.get("ended_at")
    return float(ended) - float(started) if started is not None and ended is not None else None
