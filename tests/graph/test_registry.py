"""The registry of node versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graph.audit import AUDIT
from graph.errors import InvalidRequest, NodeNotFound
from graph.registry import Registry
from graph.spec import NodeSpec
from graph.stores import StateStore, open_store


def spec(name: str = "legal", description: str = "Law.", **more: object) -> NodeSpec:
    return NodeSpec.model_validate({"name": name, "kind": "openai", "description": description, **more})


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    store = await open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/r.db")
    yield store
    await store.aclose()


@pytest.fixture
def registry(store: StateStore) -> Registry:
    return Registry(store, clock=lambda: 1000.0)


async def texts(registry: Registry) -> dict[str, str]:
    return {name: version.spec.description for name, version in (await registry.current()).items() if version.spec}


async def test_versions_rise_and_history_is_newest_first(registry: Registry) -> None:
    first = await registry.put(spec(description="One."), source="api", author="ann")
    second = await registry.put(spec(description="Two."), source="api", author="bob")
    assert (first.version, second.version) == (1, 2)
    history = await registry.history("legal")
    assert history == [second, first]
    assert (second.author, second.source, second.created_at) == ("bob", "api", 1000.0)
    assert first.sha256 != second.sha256
    assert (await registry.current()) == {"legal": second}


async def test_what_is_identical_adds_no_version(registry: Registry) -> None:
    first = await registry.put(spec(), source="api", author="ann")
    revision = await registry.revision()
    assert await registry.put(spec(), source="file", author="bob") == first
    assert await registry.revision() == revision
    assert len(await registry.history("legal")) == 1


async def test_a_spec_comes_back_as_it_was(registry: Registry, store: StateStore) -> None:
    whole = spec(
        accepts=["text", "audio"],
        api_key="${LEGAL_KEY}",
        endpoint="https://x.example/v1",
        params={"n": 1, "deep": {"list": [1, 2.5, None, "ü"]}},
        arguments={"q": {"type": "integer", "enum": [1, 2]}},
        edges={"fallback": ["general"]},
    )
    await registry.put(whole, source="api", author="ann")
    again = (await Registry(store).current())["legal"]  # through the store, not through what this one remembers
    assert again.spec == whole
    assert again == (await registry.current())["legal"]
    assert again.spec is not None and again.spec.api_key == "${LEGAL_KEY}"


async def test_removal_keeps_the_history(registry: Registry) -> None:
    await registry.put(spec(), source="api", author="ann")
    gone = await registry.remove("legal", author="ann")
    assert (gone.version, gone.spec) == (2, None)
    assert await registry.current() == {}
    assert [version.version for version in await registry.history("legal")] == [2, 1]
    for name in ("legal", "never"):
        with pytest.raises(NodeNotFound):
            await registry.remove(name, author="ann")
    assert (await registry.put(spec(), source="api", author="ann")).version == 3


async def test_rollback_takes_the_newest_that_differs(registry: Registry) -> None:
    for text in ("One.", "Two.", "Three."):
        await registry.put(spec(description=text), source="api", author="ann")
    back = await registry.rollback("legal", author="bob")
    assert (back.version, back.source, back.spec) == (4, "rollback", spec(description="Two."))
    assert (await registry.rollback("legal", to=1, author="bob")).spec == spec(description="One.")
    assert (await registry.rollback("legal", to=1, author="bob")).version == 5  # it is that already


async def test_rollback_brings_a_removed_node_back(registry: Registry) -> None:
    await registry.put(spec(), source="api", author="ann")
    await registry.remove("legal", author="ann")
    assert (await registry.rollback("legal", author="ann")).version == 3
    assert await texts(registry) == {"legal": "Law."}


async def test_rollbacks_that_cannot_be(registry: Registry) -> None:
    with pytest.raises(NodeNotFound, match="never"):
        await registry.rollback("never", author="ann")
    with pytest.raises(NodeNotFound):
        await registry.history("never")
    await registry.put(spec(), source="api", author="ann")
    with pytest.raises(InvalidRequest, match="no earlier version"):
        await registry.rollback("legal", author="ann")
    with pytest.raises(InvalidRequest, match=r"version 7 .* does not exist; there is 1"):
        await registry.rollback("legal", to=7, author="ann")
    await registry.remove("legal", author="ann")
    with pytest.raises(InvalidRequest, match=r"version 2 .* is a removal; there is 1"):
        await registry.rollback("legal", to=2, author="ann")


async def test_revision_rises_with_every_change(registry: Registry) -> None:
    seen = [await registry.revision()]
    await registry.put(spec(), source="api", author="ann")
    seen.append(await registry.revision())
    await registry.put(spec("other"), source="api", author="ann")
    seen.append(await registry.revision())
    await registry.remove("other", author="ann")
    seen.append(await registry.revision())
    await registry.rollback("other", author="ann")
    seen.append(await registry.revision())
    assert seen == [0, 1, 2, 3, 4]


async def test_two_registries_on_one_store_lose_no_change(store: StateStore) -> None:
    one, two = Registry(store), Registry(store)
    changes = [(one, two)[i % 2].put(spec(f"n{i % 5}", f"Text {i}."), source="api", author=f"a{i}") for i in range(30)]
    versions = await asyncio.gather(*changes)
    assert len({(version.name, version.version) for version in versions}) == 30
    for name in {version.name for version in versions}:
        assert [version.version for version in await one.history(name)] == list(range(6, 0, -1))
    assert await one.current() == await two.current()
    assert await one.revision() == 30
    lost = [await store.scan(f"node-versions/n{i}") for i in range(5)]
    assert sum(map(len, lost)) == 30  # those who lost a race left nothing behind


async def test_files_come_update_and_go(registry: Registry) -> None:
    assert len(await registry.sync_files([spec(), spec("code", "Code.")], author="files")) == 2
    assert await registry.sync_files([spec(), spec("code", "Code.")], author="files") == []
    changed = await registry.sync_files([spec(description="More law.")], author="files")
    assert {(version.name, version.spec is None) for version in changed} == {("legal", False), ("code", True)}
    assert await texts(registry) == {"legal": "More law."}
    assert await registry.sync_files([spec(description="More law.")], author="files") == []
    assert [v.version for v in await registry.sync_files([spec("code", "Code.")], author="files") if v.spec] == [3]


async def test_what_the_api_said_stands_until_the_file_changes(registry: Registry) -> None:
    await registry.sync_files([spec(description="File.")], author="files")
    await registry.put(spec(description="API."), source="api", author="ann")
    assert await registry.sync_files([spec(description="File.")], author="files") == []
    assert await texts(registry) == {"legal": "API."}
    assert await registry.sync_files([], author="files") == []  # the file is gone, but the version is not its own
    await registry.remove("legal", author="ann")
    assert await registry.sync_files([spec(description="File.")], author="files") == []
    assert await texts(registry) == {}
    await registry.sync_files([spec(description="Edited.")], author="files")
    assert await texts(registry) == {"legal": "Edited."}


async def test_a_file_edited_to_what_the_api_said_has_been_seen(registry: Registry) -> None:
    await registry.sync_files([spec(description="A.")], author="files")
    await registry.put(spec(description="B."), source="api", author="ann")
    await registry.sync_files([spec(description="B.")], author="files")
    await registry.put(spec(description="C."), source="api", author="ann")
    assert await registry.sync_files([spec(description="B.")], author="files") == []
    assert await texts(registry) == {"legal": "C."}


async def test_every_change_is_audited(registry: Registry, store: StateStore) -> None:
    put = await registry.put(spec(api_key="${K}"), source="api", author="ann")
    await registry.put(spec(api_key="${K}"), source="api", author="bob")  # changes nothing
    await registry.remove("legal", author="bob")
    entries = [json.loads(item) for _, item in await store.read(AUDIT)]
    assert [(e["by"], e["act"], e["before"], e["version"]) for e in entries] == [
        ("ann", "node.put", None, 1),
        ("bob", "node.remove", 1, 2),
    ]
    assert (entries[0]["node"], entries[0]["sha256"], entries[0]["at"]) == ("legal", put.sha256, 1000.0)


async def test_a_writer_that_died_half_way_is_not_seen(registry: Registry, store: StateStore) -> None:
    await registry.put(spec(), source="api", author="ann")
    await store.put("node-versions/legal", "2-dead", b"{}")  # its record was written, the head never named it
    assert (await registry.put(spec(description="Two."), source="api", author="ann")).version == 2
    assert len(await Registry(store).history("legal")) == 2


async def test_a_stored_spec_of_another_release_does_not_sink_the_rest(
    store: StateStore, caplog: pytest.LogCaptureFixture
) -> None:
    await Registry(store).put(spec("good"), source="file", author="ann")
    await Registry(store).put(spec("old"), source="file", author="ann")
    ((id, raw),) = (await store.scan("node-versions/old")).items()
    data = json.loads(raw)
    data["spec"]["once_valid"] = 1
    await store.put("node-versions/old", id, json.dumps(data).encode())
    registry = Registry(store)
    assert set(await registry.current()) == {"good"}
    assert "once_valid" in caplog.text
    assert [v.name for v in await registry.sync_files([spec("good"), spec("old")], author="files")] == ["old"]
    assert set(await registry.current()) == {"good", "old"}


async def test_memory_does_not_grow_with_every_version(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.registry.KNOWN", 3)
    for number in range(6):
        await registry.put(spec(description=f"Text {number}."), source="api", author="ann")
    assert len(registry._records) == 3
    assert [version.version for version in await registry.history("legal")] == [6, 5, 4, 3, 2, 1]
    assert len(registry._records) == 3
