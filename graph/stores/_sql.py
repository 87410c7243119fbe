"""The statements of the SQLite store: each function does one operation inside a transaction of the caller."""

from __future__ import annotations

import time
from collections.abc import Sequence
from sqlite3 import Connection

_SCHEMA = (
    'CREATE TABLE IF NOT EXISTS "values" (tbl TEXT, key TEXT, value BLOB, expires REAL, PRIMARY KEY (tbl, key))',
    "CREATE TABLE IF NOT EXISTS logs (log TEXT PRIMARY KEY, last INTEGER, expires REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS items (log TEXT, id INTEGER, value BLOB, PRIMARY KEY (log, id))",
    "CREATE TABLE IF NOT EXISTS counters (counter TEXT PRIMARY KEY, total REAL, expires REAL) WITHOUT ROWID",
    'CREATE INDEX IF NOT EXISTS values_expire ON "values" (expires) WHERE expires IS NOT NULL',
    "CREATE INDEX IF NOT EXISTS logs_expire ON logs (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS counters_expire ON counters (expires)",
)
_LIVE = "(expires IS NULL OR expires > ?)"


def create(db: Connection) -> None:
    """Create the tables that are missing, in a transaction of its own."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("COMMIT")


def purge(db: Connection) -> None:
    """Free what has expired, in a transaction of its own."""
    now = time.time()
    db.execute("BEGIN IMMEDIATE")
    db.execute('DELETE FROM "values" WHERE expires <= ?', (now,))
    db.execute("DELETE FROM items WHERE log IN (SELECT log FROM logs WHERE expires <= ?)", (now,))
    db.execute("DELETE FROM logs WHERE expires <= ?", (now,))
    db.execute("DELETE FROM counters WHERE expires <= ?", (now,))
    db.execute("COMMIT")


def _expiry(ttl_s: float | None) -> float | None:
    return None if ttl_s is None else time.time() + ttl_s


def get(db: Connection, table: str, key: str) -> bytes | None:
    """Return the live value."""
    row = db.execute(
        f'SELECT value FROM "values" WHERE tbl = ? AND key = ? AND {_LIVE}',  # noqa: S608 - a constant
        (table, key, time.time()),
    ).fetchone()
    return None if row is None else row[0]


def put(db: Connection, table: str, key: str, value: bytes, ttl_s: float | None) -> None:
    """Set the value."""
    db.execute('INSERT OR REPLACE INTO "values" VALUES (?, ?, ?, ?)', (table, key, bytes(value), _expiry(ttl_s)))


def delete(db: Connection, table: str, key: str) -> bool:
    """Forget the value; say whether there was one."""
    found = get(db, table, key) is not None
    db.execute('DELETE FROM "values" WHERE tbl = ? AND key = ?', (table, key))
    return found


def swap(db: Connection, table: str, key: str, expected: bytes | None, value: bytes, ttl_s: float | None) -> bool:
    """Set the value if it is `expected`; the caller's transaction makes it atomic."""
    if get(db, table, key) != expected:
        return False
    put(db, table, key, value, ttl_s)
    return True


def scan(db: Connection, table: str) -> dict[str, bytes]:
    """Return the live keys and values of a table."""
    rows = db.execute(
        f'SELECT key, value FROM "values" WHERE tbl = ? AND {_LIVE}',  # noqa: S608 - a constant
        (table, time.time()),
    )
    return dict(rows.fetchall())


def _last(db: Connection, log: str) -> int | None:
    """Return the last id of a live log."""
    row = db.execute(
        f"SELECT last FROM logs WHERE log = ? AND {_LIVE}",  # noqa: S608 - a constant
        (log, time.time()),
    ).fetchone()
    return None if row is None else int(row[0])


def append(db: Connection, log: str, items: Sequence[bytes], keep: int | None, ttl_s: float | None) -> int:
    """Add items; return the last id."""
    last = _last(db, log)
    if not items:
        return last or 0
    if last is None:
        drop(db, log)  # an expired one may still lie there
        last = 0
    db.executemany("INSERT INTO items VALUES (?, ?, ?)", ((log, i, bytes(v)) for i, v in enumerate(items, last + 1)))
    last += len(items)
    db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?)", (log, last, _expiry(ttl_s)))
    if keep is not None:
        db.execute("DELETE FROM items WHERE log = ? AND id <= ?", (log, last - keep))
    return last


def read(db: Connection, log: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Return items in order."""
    if _last(db, log) is None:
        return []
    return db.execute(
        "SELECT id, value FROM items WHERE log = ? AND id > ? ORDER BY id LIMIT ?", (log, after, limit)
    ).fetchall()


def latest(db: Connection, log: str, limit: int) -> list[tuple[int, bytes]]:
    """Return the last items in order."""
    if _last(db, log) is None:
        return []
    rows = db.execute("SELECT id, value FROM items WHERE log = ? ORDER BY id DESC LIMIT ?", (log, limit)).fetchall()
    return rows[::-1]


def drop(db: Connection, log: str) -> None:
    """Forget a log."""
    db.execute("DELETE FROM items WHERE log = ?", (log,))
    db.execute("DELETE FROM logs WHERE log = ?", (log,))


def add(db: Connection, counter: str, amount: float, ttl_s: float) -> float:
    """Add to a counter; return the sum."""
    now = time.time()
    row = db.execute("SELECT total, expires FROM counters WHERE counter = ?", (counter,)).fetchone()
    total, expires = row if row is not None and row[1] > now else (0.0, now + ttl_s)
    db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (counter, total + amount, expires))
    return float(total + amount)
