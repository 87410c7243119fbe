"""A store in Redis or Valkey, for more than one gateway on more than one machine.

Keys begin with `modelyard:`. A value is a key of its own, so that Redis expires it; a sorted set for each table lists
its keys by the time they expire, so that a scan never walks the server's whole key space. A log is a stream whose
entry ids are `N-0`, beside a counter of the last N.

What changes things is one Lua script each, hence atomic. `swap`, `append` and `add` carry a token under which the
server remembers the answer for a minute: when a connection breaks after sending, the same call is sent again and the
change still happens once.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

PREFIX = "modelyard:"
CONNECT_S = 2.0
ANSWER_S = 5.0
"""Longest wait for an answer; a stalled server gives a `ConnectionError` after it."""
CONNECTIONS = 16
CHUNK = 500

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
_SET = """
local function set(value, ttl)
  if ttl == '' then
    redis.call('SET', KEYS[1], value); redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
  else
    redis.call('SET', KEYS[1], value, 'PX', ttl); redis.call('ZADD', KEYS[2], now + ttl, ARGV[1])
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
end
"""
_ONCE = """
local before = redis.call('GET', KEYS[#KEYS]); if before then return before end
local function done(answer) redis.call('SET', KEYS[#KEYS], answer, 'PX', 60000); return answer end
"""
_PUT = _NOW + _SET + "set(ARGV[2], ARGV[3])"
_DELETE = "redis.call('ZREM', KEYS[2], ARGV[1]); return redis.call('DEL', KEYS[1])"
_SWAP = (
    _ONCE
    + _NOW
    + _SET
    + """
local current = redis.call('GET', KEYS[1])
if (ARGV[4] == '' and current) or (ARGV[4] ~= '' and current ~= ARGV[5]) then return done('0') end
set(ARGV[2], ARGV[3]); return done('1')
"""
)
_APPEND = (
    _ONCE
    + """
local count = #ARGV - 2
local last = redis.call('INCRBY', KEYS[2], count)
for i = 1, count do redis.call('XADD', KEYS[1], (last - count + i) .. '-0', 'v', ARGV[i + 2]) end
if ARGV[1] ~= '' then redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1]) end
for i = 1, 2 do
  if ARGV[2] == '' then redis.call('PERSIST', KEYS[i]) else redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return done(string.format('%d', last))
"""
)
_ADD = (
    _ONCE
    + """
local sum = redis.call('INCRBYFLOAT', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return done(sum)
"""
)


class RedisStore:
    """`StateStore` in a Redis or Valkey server. The password in the URL never appears in an error or a `repr`."""

    def __init__(self, url: str) -> None:
        self._address = _without_password(url)
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=30,  # for a free connection of the pool
                socket_connect_timeout=CONNECT_S,
                socket_timeout=ANSWER_S,
                # Not after a timeout: a stalled server would only make the caller wait three times as long.
                retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 3, (RedisConnectionError,)),
            )
        except ValueError as error:
            raise ValueError(f"{self._address} is not the address of a Redis server") from error
        self._redis: Redis = Redis(connection_pool=pool)
        self._put, self._delete, self._swap, self._append, self._add = (
            self._redis.register_script(script) for script in (_PUT, _DELETE, _SWAP, _APPEND, _ADD)
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._address!r})"

    async def open(self) -> None:
        """Ask the server whether it is there; raise `ConnectionError` with the address if not."""
        await self._do(self._redis.ping())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.aclose()

    async def get(self, table: str, key: str) -> bytes | None:
        """Return the value, or None."""
        value: bytes | None = await self._do(self._redis.get(_value(table, key)))
        return value

    async def put(self, table: str, key: str, value: bytes, *, ttl_s: float | None = None) -> None:
        """Set the value; with `ttl_s` it is forgotten after that many seconds."""
        await self._do(self._put(keys=[_value(table, key), _index(table)], args=[key, value, _milliseconds(ttl_s)]))

    async def delete(self, table: str, key: str) -> bool:
        """Forget the value; say whether there was one."""
        return bool(await self._do(self._delete(keys=[_value(table, key), _index(table)], args=[key])))

    async def swap(
        self, table: str, key: str, expected: bytes | None, value: bytes, *, ttl_s: float | None = None
    ) -> bool:
        """Set the value only if it is `expected` now (None: absent)."""
        expects = ("", b"") if expected is None else ("1", expected)
        args: list[str | bytes] = [key, value, _milliseconds(ttl_s), *expects]
        return int(await self._do(self._swap(keys=[_value(table, key), _index(table), _token()], args=args))) == 1

    async def scan(self, table: str) -> dict[str, bytes]:
        """Return every live key and value of a table."""
        names = [name.decode() for name in await self._do(self._redis.zrange(_index(table), 0, -1))]
        found: dict[str, bytes] = {}
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            values = await self._do(self._redis.mget([_value(table, name) for name in chunk]))
            found |= {name: value for name, value in zip(chunk, values, strict=True) if value is not None}
        return found

    async def append(
        self, log: str, items: Sequence[bytes], *, keep: int | None = None, ttl_s: float | None = None
    ) -> int:
        """Add items to a log; return the id of the last."""
        if not items:
            return int(await self._do(self._redis.get(_last(log))) or 0)
        args: list[str | bytes] = ["" if keep is None else str(keep), _milliseconds(ttl_s), *items]
        return int(await self._do(self._append(keys=[_log(log), _last(log), _token()], args=args)))

    async def read(self, log: str, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Return up to `limit` items with ids above `after`, in order."""
        return _entries(await self._do(self._redis.xrange(_log(log), min=f"{max(after, 0) + 1}-0", count=limit)))

    async def latest(self, log: str, *, limit: int = 100) -> list[tuple[int, bytes]]:
        """Return the last items of a log, in order."""
        return _entries(await self._do(self._redis.xrevrange(_log(log), count=limit)))[::-1]

    async def drop(self, log: str) -> None:
        """Forget a log; its ids start at 1 again."""
        await self._do(self._redis.delete(_log(log), _last(log)))

    async def add(self, counter: str, amount: float, *, ttl_s: float) -> float:
        """Add to a counter that is forgotten `ttl_s` after its first use; return the sum."""
        keys = [f"{PREFIX}counter:{counter}", _token()]
        return float(await self._do(self._add(keys=keys, args=[repr(float(amount)), _milliseconds(ttl_s)])))

    async def _do(self, command: Awaitable[Any]) -> Any:
        try:
            return await command
        except (RedisError, OSError) as error:
            raise ConnectionError(f"the store {self._address} does not answer: {error}") from None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _value(table: str, key: str) -> str:
    return f"{PREFIX}value:{quote(table, safe='')}:{key}"


def _index(table: str) -> str:
    return f"{PREFIX}table:{table}"


def _log(log: str) -> str:
    return f"{PREFIX}log:{log}"


def _last(log: str) -> str:
    return f"{PREFIX}last:{log}"


def _token() -> str:
    return f"{PREFIX}once:{uuid.uuid4().hex}"


def _milliseconds(ttl_s: float | None) -> str:
    return "" if ttl_s is None else str(max(1, round(ttl_s * 1000)))


def _entries(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[int, bytes]]:
    return [(int(id.partition(b"-")[0]), fields[b"v"]) for id, fields in entries]
