"""The registry: every version of every node's spec, and which one counts now.

One small document, the head, says for each node which version counts; changing it is one atomic swap, and that swap is
the commit. A version's record is immutable, written before the head names it, and names the version before it, so that
history is a chain. A writer that dies half-way leaves a record that no head names: nobody sees it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from graph.audit import AuditLog
from graph.errors import InvalidRequest, InvalidSpec, NodeNotFound, Problem
from graph.spec import NodeSpec
from graph.stores.base import StateStore
from graph.types import NodeName

Source: TypeAlias = Literal["file", "api", "rollback"]
_LOG = logging.getLogger(__name__)
_HEADS, _HEAD = "registry", "head"
_VERSIONS = "node-versions/"
KNOWN = 4096
"""Records that are kept in memory; one more pushes out the oldest."""


@dataclass(frozen=True, slots=True)
class NodeVersion:
    """One state of one node's declaration."""

    name: NodeName
    version: int
    """Rises by 1 with every change of this node, from 1."""
    spec: NodeSpec | None
    """None: the node was removed."""
    source: Source
    author: str
    created_at: float
    """Seconds since the epoch."""
    sha256: str
    """Of the spec's canonical JSON; two versions with the same hash declare the same."""

    def to_json(self) -> dict[str, Any]:
        """Return what may be shown: secrets are still the references that the user wrote."""
        return {
            "name": self.name,
            "version": self.version,
            "spec": self.spec.to_yaml_dict() if self.spec else None,
            "source": self.source,
            "author": self.author,
            "created_at": self.created_at,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class _Head:
    revision: int
    nodes: dict[NodeName, str]
    """Name to the id of the record that counts, for removed nodes too."""
    raw: bytes | None
    """As it lies in the store: what a swap must find there."""

    def with_node(self, name: NodeName, id: str) -> bytes:
        return json.dumps({"revision": self.revision + 1, "nodes": self.nodes | {name: id}}).encode()


@dataclass(frozen=True, slots=True)
class _Record:
    version: NodeVersion
    previous: str | None

    def to_bytes(self) -> bytes:
        return json.dumps(self.version.to_json() | {"previous": self.previous}).encode()


Change: TypeAlias = Callable[[list[NodeVersion]], tuple[NodeSpec | None, Source] | None]
"""From a node's history, newest first, to its next spec; None: it stays as it is."""


class Registry:
    """Reads and changes the registry in a store. Any number of processes may do so at once."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._audit = AuditLog(store, clock=clock)
        self._records: dict[str, _Record] = {}
        self._lock = asyncio.Lock()

    async def put(self, spec: NodeSpec, *, source: Source, author: str) -> NodeVersion:
        """Declare a node. What is identical to the current version adds none; that version is returned."""
        return await self._change(spec.name, author, lambda history: _unless_same(history, spec, source))

    async def remove(self, name: NodeName, *, author: str, source: Source = "api") -> NodeVersion:
        """Remove a node; its history stays. Raises `NodeNotFound`."""

        def change(history: list[NodeVersion]) -> tuple[None, Source]:
            if not history or history[0].spec is None:
                raise NodeNotFound(f"no node is called {name!r}", param="name", node=name)
            return None, source

        return await self._change(name, author, change)

    async def rollback(self, name: NodeName, *, to: int | None = None, author: str) -> NodeVersion:
        """Declare an earlier version again, as a new version: `to`, or the newest that differs from the current one.

        A removed node comes back to life. Raises `NodeNotFound` for a node that never was and `InvalidRequest` for a
        version that cannot be gone back to.
        """

        def change(history: list[NodeVersion]) -> tuple[NodeSpec, Source] | None:
            return _unless_same(history, _earlier(name, history, to), "rollback")

        return await self._change(name, author, change)

    async def history(self, name: NodeName) -> list[NodeVersion]:
        """Return every version of a node, newest first. Raises `NodeNotFound` for a node that never was."""
        found = await self._history((await self._head()).nodes.get(name), name)
        if not found:
            raise NodeNotFound(f"no node was ever called {name!r}", param="name", node=name)
        return found

    async def current(self) -> dict[NodeName, NodeVersion]:
        """Return the version that counts of every node that is not removed."""
        head = await self._head()
        records = await asyncio.gather(*(self._record(name, id) for name, id in head.nodes.items()))
        return {record.version.name: record.version for record in records if record.version.spec is not None}

    async def revision(self) -> int:
        """Return a number that rises with every change of any node: 0 at first. One read."""
        return (await self._head()).revision

    async def sync_files(self, specs: Iterable[NodeSpec], *, author: str = "files") -> list[NodeVersion]:
        """Bring the registry in line with a set of files; return what that changed.

        A file's spec counts only when it differs from what last came from a file, so that an update or removal over
        the API stands until someone edits the file. A node whose current version came from a file is removed when the
        file no longer declares it.
        """
        wanted = {spec.name: spec for spec in specs}
        before = (await self._head()).nodes
        after = {name: await self._change(name, author, _from_file(spec)) for name, spec in wanted.items()}
        for name in before.keys() - wanted.keys():
            after[name] = await self._change(name, author, _without_file)
        ids = (await self._head()).nodes
        return [version for name, version in after.items() if ids.get(name) != before.get(name)]

    async def _change(self, name: NodeName, author: str, change: Change) -> NodeVersion:
        async with self._lock:  # spares this process's own callers the lost races; other processes meet at the swap
            while True:
                head = await self._head()
                history = await self._history(head.nodes.get(name), name)
                wanted = change(history)
                if wanted is None:
                    return history[0]
                spec, source = wanted
                number = history[0].version + 1 if history else 1
                version = NodeVersion(name, number, spec, source, author, self._clock(), _digest(spec))
                if await self._commit(head, version):
                    await self._note(version, history[0].version if history else None)
                    return version

    async def _commit(self, head: _Head, version: NodeVersion) -> bool:
        id = f"{version.version}-{uuid.uuid4().hex}"
        record = _Record(version, head.nodes.get(version.name))
        await self._store.put(_VERSIONS + version.name, id, record.to_bytes())
        if await self._store.swap(_HEADS, _HEAD, head.raw, head.with_node(version.name, id)):
            self._know(id, record)
            return True
        await self._store.delete(_VERSIONS + version.name, id)
        return False

    async def _note(self, version: NodeVersion, before: int | None) -> None:
        act = "node.remove" if version.spec is None else "node.put"
        what = {"node": version.name, "version": version.version, "before": before, "source": version.source}
        await self._audit.write(act, version.author, what | {"sha256": version.sha256})

    async def _head(self) -> _Head:
        raw = await self._store.get(_HEADS, _HEAD)
        data: dict[str, Any] = json.loads(raw) if raw else {"revision": 0, "nodes": {}}
        return _Head(data["revision"], data["nodes"], raw)

    async def _history(self, id: str | None, name: NodeName) -> list[NodeVersion]:
        found = []
        while id is not None:
            record = await self._record(name, id)
            found.append(record.version)
            id = record.previous
        return found

    async def _record(self, name: NodeName, id: str) -> _Record:
        # Records never change, so each is read once, as long as it is not pushed out.
        record = self._records.get(id)
        if record is None:
            raw = await self._store.get(_VERSIONS + name, id)
            if raw is None:
                raise InvalidSpec([Problem("store", name, f"version {id} is missing from the store")])
            record = _parse(json.loads(raw))
            self._know(id, record)
        return record

    def _know(self, id: str, record: _Record) -> None:
        self._records[id] = record
        if len(self._records) > KNOWN:
            del self._records[next(iter(self._records))]


def _parse(data: dict[str, Any]) -> _Record:
    try:
        spec = NodeSpec.model_validate(data["spec"]) if data["spec"] is not None else None
    except ValidationError as error:
        # Written by a release with other rules. One such node must not keep all others from being served.
        keys = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors()}))
        _LOG.warning("node %r: stored version %s is not valid any more (%s)", data["name"], data["version"], keys)
        spec = None
    version = NodeVersion(
        data["name"], data["version"], spec, data["source"], data["author"], data["created_at"], data["sha256"]
    )
    return _Record(version, data["previous"])


def _digest(spec: NodeSpec | None) -> str:
    canonical = json.dumps(spec.to_yaml_dict() if spec else None, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _unless_same(history: list[NodeVersion], spec: NodeSpec, source: Source) -> tuple[NodeSpec, Source] | None:
    same = history and history[0].spec is not None and history[0].sha256 == _digest(spec)
    return None if same else (spec, source)


def _earlier(name: NodeName, history: list[NodeVersion], to: int | None) -> NodeSpec:
    if not history:
        raise NodeNotFound(f"no node was ever called {name!r}", param="name", node=name)
    alive = {version.version: version.spec for version in history if version.spec is not None}
    if to is None:
        for spec in alive.values():
            if history[0].spec is None or _digest(spec) != history[0].sha256:
                return spec
        raise InvalidRequest(f"node {name!r} has no earlier version that differs", param="to", node=name)
    if to not in alive:
        reason = "is a removal" if any(version.version == to for version in history) else "does not exist"
        known = ", ".join(str(number) for number in sorted(alive))
        raise InvalidRequest(f"version {to} of node {name!r} {reason}; there is {known}", param="to", node=name)
    return alive[to]


def _from_file(spec: NodeSpec) -> Change:
    def change(history: list[NodeVersion]) -> tuple[NodeSpec, Source] | None:
        last = next((version for version in history if version.source == "file"), None)
        # A version is added even where the API declared the same before: it marks what the file says from now on.
        same = last is not None and last.spec is not None and last.sha256 == _digest(spec)
        return None if same else (spec, "file")

    return change


def _without_file(history: list[NodeVersion]) -> tuple[None, Source] | None:
    return (None, "file") if history[0].source == "file" and history[0].spec is not None else None
