"""Where state is kept; see `graph.stores.base`. `make_store` picks an implementation by URL."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from graph.stores.base import StateStore

__all__ = ["StateStore", "make_store", "open_store"]

VALID = (
    "memory:// (lost with the process), sqlite:///relative.db, sqlite:////absolute.db, "
    "redis://[:password@]host:port/db, rediss://… (TLS), unix:///path.sock?db=0"
)


def make_store(url: str) -> StateStore:
    """Return the store that a URL names, not opened yet. Raises `ValueError` that lists what is valid."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"a store's address needs a scheme; valid: {VALID}")
    if scheme == "memory":
        from graph.stores.memory import MemoryStore

        return MemoryStore()
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in ("redis", "rediss", "unix"):
        from graph.stores.redis import RedisStore

        return RedisStore(url)
    raise ValueError(f"no store has the scheme {scheme!r}; valid: {VALID}")


async def open_store(url: str) -> StateStore:
    """Make a store and open it. Raises `ValueError` for the URL and `ConnectionError` for what is behind it."""
    store = make_store(url)
    await store.open()
    return store


def _sqlite(rest: str) -> StateStore:
    from graph.stores.sqlite import SqliteStore

    parts = urlsplit("sqlite://" + rest)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ValueError(f"sqlite:// needs three slashes and a path; valid: {VALID}")
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    synchronous = options.pop("synchronous", "normal")
    if options or synchronous not in ("normal", "full"):
        raise ValueError("sqlite:// takes one option: ?synchronous=normal (default) or ?synchronous=full")
    return SqliteStore(path, synchronous="full" if synchronous == "full" else "normal")
