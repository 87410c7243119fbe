"""Rollouts: which version of a node serves while a newer one takes a share, and what was seen of the newer one.

All of it is in the store: gateways add what they saw, the node controller judges, and both go on after a restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from graph.audit import AuditLog
from graph.errors import InvalidRequest
from graph.registry import NodeVersion
from graph.spec import NodeSpec, Rollout
from graph.stores.base import StateStore
from graph.types import NodeName

AUTHOR = "modelyard rollout"
"""Who brings an old version back by itself, in a node's history and in the audit record."""
SHOWN = 20
"""Negative flips that are shown, the newest."""
KEPT = 100_000
_TABLE = "rollouts"
_PAGE = 1000
_UNHEARD = ("description", "examples", "default", "cost", "edges", "rollout", "scale", "limits")
"""Keys that do not change what a node answers."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a node's last rollout stands."""

    version: int
    """The newer version."""
    stable: int
    """The version that serves meanwhile."""
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """What was seen of a newer version, and of the older one's ratings meanwhile."""

    answers: int = 0
    """Calls that the newer version answered, or failed to."""
    flips: int = 0
    """Of these, those that the older version, asked the same, answered acceptably, and the newer one did not."""
    rated: int = 0
    """Answers of the newer version that people rated."""
    rated_flips: int = 0
    """Of these, bad ones to a text that the older version was rated well for."""
    unpaired: int = 0
    """Of these, ones to a text that the older version was not rated for."""
    unpaired_bad: int = 0
    old_rated: int = 0
    """Answers of the older version that people rated in the same time."""
    old_bad: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def flip_share(self) -> float:
        """Negative flips in a call to the newer version."""
        return self.flips / self.answers if self.answers else 0.0

    @property
    def rated_flip_share(self) -> float:
        """Negative flips in a rated answer. Where nobody rated the older one's answer to the same text, as many bad
        ratings as it gets otherwise are no flips.
        """
        expected = self.unpaired * (self.old_bad / self.old_rated) if self.old_rated else 0.0
        flips = self.rated_flips + max(0.0, self.unpaired_bad - expected)
        return flips / self.rated if self.rated else 0.0

    def too_many(self, rollout: Rollout) -> str | None:
        """Return why the newer version is to be rolled back, or None."""
        limit = rollout.max_flips
        if self.answers >= rollout.min_answers and self.flip_share > limit:
            return f"{self.flips} of {self.answers} answers are negative flips, {self.flip_share:.1%} > {limit:.1%}"
        if self.rated >= rollout.min_answers and self.rated_flip_share > limit:
            return f"{self.rated_flip_share:.1%} of {self.rated} ratings are negative flips, more than {limit:.1%}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        shares = {"flip_share": round(self.flip_share, 4), "rated_flip_share": round(self.rated_flip_share, 4)}
        return asdict(self) | shares


class Rollouts:
    """Rollouts in a store."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._audit = AuditLog(store, clock=clock)
        self._read: dict[str, tuple[int, dict[str, Tally], list[dict[str, Any]]]] = {}

    async def progress(self, name: NodeName) -> Progress | None:
        """Return where a node's last rollout stands; None if it had none."""
        raw = await self._store.get(_TABLE, name)
        return Progress(**orjson.loads(raw)) if raw else None

    async def of(self, wanted: NodeVersion, serving: NodeVersion | None) -> Progress | None:
        """Return the rollout that a node's newest version is in, beginning it if it is to be; None if it is in none.

        `serving` is what serves now. What is rolled back, or answers as the serving version does, takes over at once.
        """
        spec = wanted.spec
        if spec is None or spec.rollout is None or wanted.source == "rollback":
            return None
        found = await self.progress(wanted.name)
        if found is not None and found.version == wanted.version:
            return None if found.promoted else found
        if serving is None or serving.spec is None or _answers(serving.spec) == _answers(spec):
            return None
        begun = Progress(wanted.version, serving.version)
        await self._store.put(_TABLE, wanted.name, orjson.dumps(asdict(begun)))
        return begun

    async def promote(self, name: NodeName, version: int, *, by: str) -> None:
        """Let a version that is in its rollout take over. Raises `InvalidRequest` if it is in none."""
        found = await self.progress(name)
        if found is None or found.version != version or found.promoted:
            raise InvalidRequest(f"version {version} of node {name!r} is in no rollout", param="name", node=name)
        await self._store.put(_TABLE, name, orjson.dumps(asdict(found) | {"promoted": True}))
        await self._audit.write("node.promote", by, {"node": name, "version": version, "before": found.stable})

    async def add(
        self, name: NodeName, version: int, seen: Tally, flips: Sequence[Mapping[str, Any]], *, by: str = ""
    ) -> None:
        """Add what a gateway saw of a version; `flips` say of each: `request_id`, `trace_id`, `by` and when, `at`.

        `by` is the caller whose ratings these are; empty for what the gateway saw itself, and for an admin's.
        """
        record = {"tally": asdict(seen), "flips": list(flips), "from": by}
        await self._store.append(_log(name, version), [orjson.dumps(record)], keep=KEPT)

    async def seen(self, name: NodeName, version: int) -> tuple[Tally, list[dict[str, Any]]]:
        """Return what all gateways saw of a version so far, and its last negative flips."""
        parts, flips = await self._parts(name, version)
        return sum(parts.values(), Tally()), flips

    async def too_many(self, name: NodeName, version: int, rollout: Rollout) -> str | None:
        """Return why a version is to be rolled back, or None.

        It must be so without the ratings of any one caller, too: who may only ask nodes does not change them.
        """
        parts, _ = await self._parts(name, version)
        whole = sum(parts.values(), Tally())
        for caller in filter(None, parts):
            if sum((part for by, part in parts.items() if by != caller), Tally()).too_many(rollout) is None:
                return None
        return whole.too_many(rollout)

    async def _parts(self, name: NodeName, version: int) -> tuple[dict[str, Tally], list[dict[str, Any]]]:
        log = _log(name, version)
        after, parts, flips = self._read.get(log, (0, {}, []))
        parts = dict(parts)  # another task may be reading on, too
        while page := await self._store.read(log, after=after, limit=_PAGE):
            for number, raw in page:
                record = orjson.loads(raw)
                after, by = number, record.get("from", "")
                parts[by] = parts.get(by, Tally()) + Tally(**record["tally"])
                flips = [*flips, *record["flips"]][-SHOWN:]
        self._read[log] = (after, parts, flips)
        return parts, flips

    async def forget(self, name: NodeName) -> None:
        """Forget the rollout of a node that was removed."""
        await self._store.delete(_TABLE, name)
        self._read = {log: read for log, read in self._read.items() if not log.startswith(_log(name, ""))}


def _log(name: NodeName, version: int | str) -> str:
    return f"rollout:{name}:{version}"


def _answers(spec: NodeSpec) -> dict[str, Any]:
    """Return what a spec says that changes its answers."""
    return {key: value for key, value in spec.to_yaml_dict().items() if key not in _UNHEARD}
