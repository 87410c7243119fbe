"""The YAML files that declare nodes, followed while the service runs: an edited file is a registration."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graph.errors import InvalidSpec
from graph.loader import load_paths
from graph.model_graph import ModelGraph
from graph.node import KindRegistry
from graph.registry import Registry
from graph.spec import NodeSpec

log = logging.getLogger("modelyard.files")


class NodeFiles:
    """Files and folders that are looked at from time to time.

    A file that is wrong changes nothing: what was registered before goes on, and the problems are in the log, once for
    each state of the files. An empty folder declares no node; one that cannot be read says nothing about any.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        kinds: KindRegistry,
        every_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`every_s` is the least time between two looks; 0 never looks."""
        self._paths = tuple(paths)
        self._kinds = kinds
        self._every_s = every_s
        self._clock = clock
        self._next = 0.0 if self._paths and every_s else float("inf")
        self._seen: str | None = None

    async def sync(self, registry: Registry) -> None:
        """Bring the registry in line with the files, if it is time to look and they have changed.

        Raises what the store raises; the files are looked at again then.
        """
        if self._clock() < self._next:
            return
        self._next = self._clock() + self._every_s
        try:
            state = await asyncio.to_thread(self._state)
        except OSError as error:
            log.error("nodes are left as they are: %s cannot be read: %s", error.filename, error.strerror)
            return
        if state == self._seen:
            return
        try:
            specs = await asyncio.to_thread(self._load)
        except InvalidSpec as error:
            log.error("nodes are left as they are: %s", error.message)
        else:
            for version in await registry.sync_files(specs):
                log.info(
                    "node %s version %d: %s", version.name, version.version, "declared" if version.spec else "gone"
                )
        self._seen = state

    def _state(self) -> str:
        """Return a hash of the files' names and contents. Raises `OSError`."""
        digest = hashlib.sha256()
        for file in self._files():
            data = file.read_bytes()
            digest.update(f"{file}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()

    def _files(self) -> Iterator[Path]:
        for path in self._paths:
            if path.is_dir():
                yield from sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
            else:
                yield path

    def _load(self) -> tuple[NodeSpec, ...]:
        specs = load_paths(self._files(), self._kinds).require()
        if problems := ModelGraph(specs).problems():
            raise InvalidSpec(problems)
        return specs
