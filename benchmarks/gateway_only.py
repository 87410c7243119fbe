"""A gateway process without Ray: nodes of remote kinds run in the gateway's own process, whoever starts it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from deployments.api.app import create_app
from deployments.gateway import Gateway
from deployments.settings import Settings
from deployments.snapshot import NodeStatus, Snapshot
from graph.loader import load_text
from graph.node import installed_kinds
from graph.spec import NodeSpec


class _Remote:
    """A method as a Serve handle offers it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Controller:
    """Says once what nodes there are: all of them, ready."""

    def __init__(self, specs: list[NodeSpec]) -> None:
        nodes = {spec.name: NodeStatus(spec.name, 1, spec, "ready", spec, 1) for spec in specs}
        self._snapshot = Snapshot(1, nodes)
        self.watch = _Remote(self._watch)
        self.look = _Remote(self._look)

    async def _watch(self, after: int) -> Snapshot:
        if after:
            await asyncio.Event().wait()
        return self._snapshot

    async def _look(self) -> None:
        return


def main(nodes: str, port: str, store: str) -> None:
    """Serve the nodes of a file on the loopback interface."""
    settings = Settings(port=int(port), store=store, allow_private=True, strategy="keyword")
    loaded = load_text(Path(nodes).read_text(), installed_kinds())
    uvicorn.run(
        create_app(Gateway(settings, Controller(list(loaded.specs)))),
        host="127.0.0.1",
        port=settings.port,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
