"""The journal of runs: what was accepted is written down before it starts, and is never forgotten.

A run in progress has a lease, which its owner renews. When the owner dies the lease expires, and whoever claims the
run first resumes it or reports it as failed. A run is only ended by whoever holds its lease at that moment, so an owner
that was only slow cannot overwrite what its successor did. Leases compare wall clocks of different machines:
keep them within a few seconds of each other.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from graph.errors import RunNotFound
from graph.plan import Plan
from graph.run import Outcome, RunEvent, RunResult, RunStatus
from graph.run_options import RunOptions
from graph.run_record import Orphan as Orphan
from graph.run_record import RunRecord as RunRecord
from graph.run_record import run_not_found as run_not_found
from graph.run_space import RUNS, RunSpace, events_log, outcomes_log
from graph.stores.base import StateStore
from graph.types import Call, Json

DAY_S = 86400.0
INDEX_KEEP = 10_000
"""Newest runs that `newest` can reach."""
READ_AHEAD = 4
Numbered: TypeAlias = list[tuple[int, RunEvent]]  # events with their ids
_CALLS, _LEASES, _INDEX = "run-calls", "run-leases", "run-index"


class RunJournal:
    """Writes and reads runs in a store. One for each process, with a lease on each run in progress there."""

    def __init__(
        self,
        store: StateStore,
        owner: str,
        lease_s: float = 15.0,
        *,
        retention_s: float = 7 * DAY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._owner = owner
        self._lease_s = lease_s
        self._retention_s = retention_s
        self._clock = clock
        # Tells this journal's leases from those of another process that was given the same name.
        self._nonce = uuid.uuid4().hex
        self._held: dict[str, bytes] = {}
        self._space = RunSpace(store, retention_s)
        self._leasing = asyncio.Lock()  # else two renewals of one run would take each other for another owner

    @property
    def held(self) -> frozenset[str]:
        """Ids of the runs in progress whose lease this owner holds."""
        return frozenset(self._held)

    async def accept(
        self,
        id: str,
        call: Call,
        plan: Plan | None = None,
        trace_id: str | None = None,
        options: RunOptions | None = None,
    ) -> None:
        """Write a run down, before anything of it starts. `options` hold for the plan if it is made later."""
        lease = self._new_lease()
        # The head comes last: once it can be read, everything else of the run can be, too.
        await asyncio.gather(
            self._store.put(_LEASES, id, lease),
            self._store.put(_CALLS, id, json.dumps(call.to_json()).encode()),
        )
        head = {
            "status": "running",
            "plan": plan.to_json() if plan else None,
            "output": None,
            "error": None,
            "trace_id": trace_id,
            "options": (options or RunOptions()).to_json(),
            "deadline": call.context.deadline,
            "created_at": self._clock(),
            "ended_at": None,
            "caller": call.context.caller.id if call.context.caller else None,
        }
        await self._put_head(id, head)
        await self._store.append(_INDEX, [id.encode()], keep=INDEX_KEEP)
        if whose := head["caller"]:
            await self._store.append(f"{_INDEX}/{whose}", [id.encode()], keep=INDEX_KEEP, ttl_s=self._retention_s)
        # Held only now: the lease of a run that could not be written whole must expire, as nobody works on it.
        self._held[id] = lease

    async def planned(self, id: str, plan: Plan) -> bool:
        """Note the plan; False if the run is no longer this owner's."""
        if id not in self._held:
            return False
        await self._put_head(id, await self._head(id) | {"plan": plan.to_json()})
        return True

    async def finished_task(self, id: str, outcome: Outcome) -> bool:
        """Note how a task ended; False if the run is no longer this owner's."""
        if id not in self._held:
            return False
        await self._append(outcomes_log, id, [outcome.to_record()])
        return True

    async def begins(self, id: str, outcome: Outcome) -> bool:
        """Note what holds of a task if it is interrupted; False if the run is, surely, no longer this owner's."""
        return await self._renew(id) and await self.finished_task(id, outcome)

    async def finish(
        self,
        id: str,
        result: RunResult | RunStatus,
        output: str | None = None,
        error: Mapping[str, Json] | None = None,
    ) -> bool:
        """Note how the run ended and let go of its lease; False if the run is no longer this owner's.

        Outcomes of a `RunResult` that were not noted one by one are noted now.
        """
        if not await self._renew(id):
            return False
        status: RunStatus = result.status if isinstance(result, RunResult) else result
        if isinstance(result, RunResult):
            output = result.output if output is None else output
            known = {outcome.task for outcome in await self._outcomes(id) if outcome.index is None}
            await self._append(outcomes_log, id, [o.to_record() for o in result.outcomes if o.task not in known])
        ended = {"status": status, "output": output, "error": dict(error) if error else None}
        head = await self._head(id) | ended | {"ended_at": self._clock()}
        await self._put_head(id, head, ttl_s=self._retention_s)
        await self._store.delete(_CALLS, id)  # which may hold megabytes: nobody needs it any more
        async with self._leasing:
            self._held.pop(id, None)
            await self._store.delete(_LEASES, id)
        await self._space.ended(id, head.get("caller"), len(json.dumps(head)), self._clock())
        return True

    async def get(self, id: str) -> RunRecord:
        """Return a run without its call; raise `RunNotFound`."""
        head, outcomes = await asyncio.gather(self._head(id), self._outcomes(id))
        return RunRecord(
            id,
            head["status"],
            Plan.from_json(head["plan"]) if head["plan"] else None,
            tuple(outcome for outcome in outcomes if outcome.index is None),
            tuple(outcome for outcome in outcomes if outcome.index is not None),
            head["output"],
            head["error"],
            head["trace_id"],
            RunOptions.from_json(head["options"]) if head.get("options") else RunOptions(),
            head.get("deadline"),
            head["created_at"],
            head["ended_at"],
            head.get("caller"),
        )

    async def status(self, id: str) -> RunStatus:
        """Return how a run stands, in one read; raise `RunNotFound`."""
        status: RunStatus = (await self._head(id))["status"]
        return status

    async def caller(self, id: str) -> str | None:
        """Return who started a run, in one read; None is the operator. Raise `RunNotFound`."""
        return (await self._head(id)).get("caller")

    async def newest(self, limit: int = 100, caller: str | None = None) -> AsyncIterator[RunRecord]:
        """Yield the newest runs, newest first: all, or one caller's. Few are read ahead: each may hold megabytes."""
        index = _INDEX if caller is None else f"{_INDEX}/{caller}"
        ids = [id.decode() for _, id in reversed(await self._store.latest(index, limit=limit))]
        for start in range(0, len(ids), READ_AHEAD):
            for record in await asyncio.gather(*map(self._find, ids[start : start + READ_AHEAD])):
                if record is not None:
                    yield record

    async def renew(self) -> frozenset[str]:
        """Extend the leases of the runs held; return the ids of those that were lost to another owner meanwhile."""
        lost = set()
        for id in list(self._held):
            async with self._leasing:
                if id in self._held and not await self._extend(id):  # it may have ended while others were renewed
                    lost.add(id)
        return frozenset(lost)

    async def claim_orphans(self, most: int | None = None) -> tuple[Orphan, ...]:
        """Take over unfinished runs whose lease has expired, at most so many. No run is ever given to two owners."""
        now = self._clock()
        claimed: list[Orphan] = []
        for id, lease in (await self._store.scan(_LEASES)).items():
            if len(claimed) == most:
                break
            if json.loads(lease)["until"] > now:
                continue
            try:
                orphan = await self._claim(id, lease)
            except ConnectionError:
                if not claimed:
                    raise
                break  # those are held now, and must not be forgotten because another one could not be read
            if orphan is not None:
                claimed.append(orphan)
        return tuple(claimed)

    async def _claim(self, id: str, lease: bytes) -> Orphan | None:
        mine = self._new_lease()
        if not await self._store.swap(_LEASES, id, lease, mine):
            return None
        orphan = await self._orphan(id)
        if orphan is None or orphan.record.status != "running":  # its owner died while it began or ended the run
            await asyncio.gather(self._store.delete(_LEASES, id), self._store.delete(_CALLS, id))
            return None
        self._held[id] = mine
        return orphan

    async def append_events(self, id: str, events: Sequence[RunEvent]) -> int:
        """Add to the run's stream of events; return the id of the last."""
        return await self._append(events_log, id, [{"type": event.type, "data": dict(event.data)} for event in events])

    async def events(self, id: str, after: int = 0) -> Numbered:
        """Return (id, event) of the events after that id, at most 1000 of them."""
        items = await self._store.read(events_log(id), after=after)
        parsed = ((number, json.loads(item)) for number, item in items)
        return [(number, RunEvent(item["type"], item["data"])) for number, item in parsed]

    def _new_lease(self) -> bytes:
        until = self._clock() + self._lease_s
        return json.dumps({"owner": self._owner, "until": until, "nonce": self._nonce}).encode()

    async def _renew(self, id: str) -> bool:
        """Prove that the lease is still this owner's, and extend it."""
        async with self._leasing:
            return id in self._held and await self._extend(id)

    async def _extend(self, id: str) -> bool:
        lease = self._new_lease()
        kept = await self._store.swap(_LEASES, id, self._held[id], lease)
        if not kept:
            # An earlier renewal may have been done though no answer to it came: what lies there is this owner's then.
            current = await self._store.get(_LEASES, id)
            mine = current is not None and json.loads(current)["nonce"] == self._nonce
            kept = mine and await self._store.swap(_LEASES, id, current, lease)
        if kept:
            self._held[id] = lease
        else:
            del self._held[id]
            self._space.lost(id)
        return kept

    async def _head(self, id: str) -> dict[str, Any]:
        raw = await self._store.get(RUNS, id)
        if raw is None:
            raise run_not_found(id)
        head: dict[str, Any] = json.loads(raw)
        return head

    async def _put_head(self, id: str, head: Mapping[str, Any], ttl_s: float | None = None) -> None:
        await self._store.put(RUNS, id, json.dumps(head).encode(), ttl_s=ttl_s)

    async def _find(self, id: str) -> RunRecord | None:
        try:
            return await self.get(id)
        except RunNotFound:
            return None

    async def _orphan(self, id: str) -> Orphan | None:
        record, call = await asyncio.gather(self._find(id), self._store.get(_CALLS, id))
        if record is None or call is None:
            return None
        return Orphan(record, Call.from_json(json.loads(call)).with_context(deadline=record.deadline))

    async def _append(self, log: Callable[[str], str], id: str, records: Sequence[Mapping[str, Any]]) -> int:
        items = [json.dumps(record).encode() for record in records]
        if id in self._held:
            self._space.wrote(id, sum(map(len, items)))
        return await self._store.append(log(id), items, ttl_s=self._retention_s)

    async def _outcomes(self, id: str) -> tuple[Outcome, ...]:
        """Return the last outcome of each task, item and iteration: a resumed run may have tried one again."""
        found: dict[tuple[str, int | None], Outcome] = {}
        after = 0
        while items := await self._store.read(outcomes_log(id), after=after):
            after = items[-1][0]
            for _, item in items:
                outcome = Outcome.from_record(json.loads(item))
                key = (outcome.task, outcome.index)
                found.pop(key, None)
                found[key] = outcome
        return tuple(found.values())
