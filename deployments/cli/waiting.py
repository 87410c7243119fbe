"""Waiting until nodes are ready, and showing it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deployments.cli.console import clean, console

if TYPE_CHECKING:
    from deployments.client import Client

POLL_S = 0.25
FINAL = ("ready", "failed")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A node that was registered, the version that it got, and the service's answer."""

    name: str
    version: int | None
    result: dict[str, Any] = field(default_factory=dict)


def wait_ready(
    client: Client, nodes: Sequence[Waiting], timeout_s: float, *, show: bool = True
) -> list[dict[str, Any]]:
    """Wait until each node is ready or has failed; return what the service last said of each.

    A node that is still loading after `timeout_s` is returned as failed, and says so.
    """
    until = time.monotonic() + timeout_s
    done = {node.name: node.result for node in nodes if node.result.get("state") == "failed"}
    pending = [node for node in nodes if node.name not in done]
    with _Display(show, pending) as display:
        while pending:
            listed = {str(item.get("name")): item for item in client.nodes()}
            for node in list(pending):
                current = listed.get(node.name, {})
                state = state_of(current, node.version)
                if state in FINAL:
                    done[node.name] = node.result | current | {"state": state}
                    pending.remove(node)
                display.update(node.name, state, final=state in FINAL)
            if pending and time.monotonic() >= until:
                done |= {node.name: _late(node, timeout_s) for node in pending}
                break
            if pending:
                time.sleep(POLL_S)
    return [done[node.name] for node in nodes]


def state_of(current: Mapping[str, Any], version: int | None) -> str:
    """Return the state of one version, given what the service says of the node.

    A node is `ready` also while an older version serves, so the state alone does not tell about the newest.
    """
    state = str(current.get("state", "loading"))
    if version is None or state not in FINAL:
        return state
    if (current.get("version") or 0) < version:
        return "loading"
    on_trial = (current.get("rollout") or {}).get("version") or 0
    if state == "failed" or max(current.get("serving_version") or 0, on_trial) >= version:
        return state
    return "failed" if current.get("error") else "loading"


def _late(node: Waiting, timeout_s: float) -> dict[str, Any]:
    message = f"still loading after {timeout_s:g} s; it goes on loading in the service"
    return node.result | {"state": "failed", "error": {"message": message, "code": "timeout"}}


class _Display:
    """A spinner per node on a terminal's standard error; silent elsewhere."""

    def __init__(self, show: bool, nodes: Sequence[Waiting]) -> None:
        columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TimeElapsedColumn())
        target = console(stderr=True)
        self._progress = Progress(*columns, console=target, disable=not (show and target.is_terminal), transient=True)
        self._tasks = {node.name: self._progress.add_task(f"{node.name} loading", total=1) for node in nodes}

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, name: str, state: str, *, final: bool) -> None:
        """Show a node's state."""
        self._progress.update(self._tasks[name], description=f"{name} {clean(state)}", completed=int(final))
