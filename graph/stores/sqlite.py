"""A store in one SQLite file. Several processes may use the file at once.

One thread owns the connection. It takes everything that is waiting, runs it in one transaction and commits once
(group commit), so that many small writes cost one write to the disk. With `synchronous=normal` (SQLite's own
recommendation for WAL) what was acknowledged survives a killed process; `full` also survives a power cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

from graph.stores import _sql

T = TypeVar("T")
BUSY_S = 15.0
"""How long a write waits for another process's transaction."""
BATCH = 256
"""Operations in one transaction at most, so that other processes get their turn."""
PURGE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


_Answer = tuple[_Job, Any, BaseException | None]


class SqliteStore:
    """`StateStore` in a file."""

    def __init__(self, path: str | Path, *, synchronous: Literal["normal", "full"] = "normal") -> None:
        self._path = Path(path)
        self._synchronous = synchronous
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Create the file and its folder; raise `ConnectionError` with the path if that fails."""
        if self._thread is not None:
            return
        connection = await asyncio.to_thread(self._connect)
        self._thread = threading.Thread(target=self._work, args=(connection,), name="sqlite-store", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Finish what is waiting and close the file."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def get(self, table: str, key: str) -> bytes | None:
        """Return the value, or None."""
        return await self._do(lambda c: _sql.get(c, table, key), writes=False)

    async def put(self, table: str, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set the value; with `ttl_s` it is forgotten after that many seconds."""
        await self._do(lambda c: _sql.put(c, table, key, value, ttl_s))

    async def delete(self, table: str, key: str) -> bool:
        """Forget the value; say whether there was one."""
        return await self._do(lambda c: _sql.delete(c, table, key))

    async def swap(
        self, table: str, key: str, expected: bytes | None, value: bytes, *, ttl_s: float | None = None
    ) -> bool:
        """Set the value only if it is `expected` now (None: absent)."""
        return await self._do(lambda c: _sql.swap(c, table, key, expected, value, ttl_s))

    async def scan(self, table: str) -> dict[str, bytes]:
        """Return every live key and value of a table."""
        return await self._do(lambda c: _sql.scan(c, table), writes=False)

    async def append(
        self, log: str, items: Sequence[bytes], *, keep: int | None = None, ttl_s: float | None = None
    ) -> int:
        """Add items to a log; return the id of the last."""
        return await self._do(lambda c: _sql.append(c, log, items, keep, ttl_s))

    async def read(self, log: str, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Return up to `limit` items with ids above `after`, in order."""
        return await self._do(lambda c: _sql.read(c, log, after, limit), writes=False)

    async def latest(self, log: str, *, limit: int = 100) -> list[tuple[int, bytes]]:
        """Return the last items of a log, in order."""
        return await self._do(lambda c: _sql.latest(c, log, limit), writes=False)

    async def drop(self, log: str) -> None:
        """Forget a log; its ids start at 1 again."""
        await self._do(lambda c: _sql.drop(c, log))

    async def add(self, counter: str, amount: float, *, ttl_s: float) -> float:
        """Add to a counter that is forgotten `ttl_s` after its first use; return the sum."""
        return await self._do(lambda c: _sql.add(c, counter, amount, ttl_s))

    async def _do(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        if self._thread is None:
            raise ConnectionError(f"the store {self._path} is not open")
        loop = asyncio.get_running_loop()
        job = _Job(work, writes, loop, loop.create_future())
        self._jobs.put(job)
        try:
            result: T = await job.future
        except sqlite3.OperationalError as error:
            raise ConnectionError(f"the store {self._path} does not answer: {error}") from error
        return result

    def _connect(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            _enter_wal(connection)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            _sql.create(connection)
        except (OSError, sqlite3.Error) as error:
            raise ConnectionError(f"cannot open the store {self._path}: {error}") from error
        return connection

    def _work(self, connection: sqlite3.Connection) -> None:
        purged = time.monotonic()
        closing = False
        while not closing:
            batch, closing = self._take()
            if batch:
                _deliver(_run(connection, batch))
            if time.monotonic() - purged > PURGE_EVERY_S:
                purged = time.monotonic()
                with suppress(sqlite3.OperationalError):  # busy: the next round frees it
                    _sql.purge(connection)
        connection.close()

    def _take(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take all that came meanwhile; say whether the end was among them."""
        jobs: list[_Job] = []
        item = self._jobs.get()
        while item is not None:
            jobs.append(item)
            if len(jobs) >= BATCH:
                return jobs, False
            try:
                item = self._jobs.get_nowait()
            except Empty:
                return jobs, False
        return jobs, True


def _enter_wal(connection: sqlite3.Connection) -> None:
    # Two processes that switch a new file to WAL at one moment do not wait for each other: SQLite answers "locked" at
    # once, whatever the timeout says.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _run(connection: sqlite3.Connection, batch: list[_Job]) -> list[_Answer]:
    try:
        return _transaction(connection, batch)
    except Exception as error:  # a boundary: an error is the answer of the job that caused it, not of the thread
        if len(batch) == 1:
            return [(batch[0], None, error)]
    return [answer for job in batch for answer in _run(connection, [job])]


def _transaction(connection: sqlite3.Connection, batch: list[_Job]) -> list[_Answer]:
    connection.execute("BEGIN IMMEDIATE" if any(job.writes for job in batch) else "BEGIN")
    try:
        answers: list[_Answer] = [(job, job.work(connection), None) for job in batch]
        connection.execute("COMMIT")
    except BaseException:  # raised again: whatever it was, no transaction may stay open
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def _deliver(answers: list[_Answer]) -> None:
    for loop in {job.loop for job, _, _ in answers}:
        with suppress(RuntimeError):  # that event loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, [answer for answer in answers if answer[0].loop is loop])


def _resolve(answers: list[_Answer]) -> None:
    for job, result, error in answers:
        if job.future.done():  # cancelled
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
