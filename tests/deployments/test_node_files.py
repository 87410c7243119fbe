"""Files of nodes that are edited while the service runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes import KINDS, spec

from deployments.node_files import NodeFiles
from graph.loader import dump_yaml
from graph.registry import Registry
from graph.stores import open_store


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    store = await open_store("memory://")
    yield Registry(store)
    await store.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> NodeFiles:
    return NodeFiles([tmp_path], KINDS, 5, clock=clock)


def declare(folder: Path, name: str, description: str = "Law.") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(dump_yaml(spec(name, description=description)))
    return file


async def look(files: NodeFiles, registry: Registry, clock: Clock) -> dict[str, str]:
    clock.now += 5
    await files.sync(registry)
    return {name: version.spec.description for name, version in (await registry.current()).items() if version.spec}


async def test_an_edited_file_is_a_new_version(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock
) -> None:
    file = declare(tmp_path, "law")
    assert await look(files, registry, clock) == {"law": "Law."}
    declare(tmp_path, "law", "Statutes.")
    declare(tmp_path, "code")
    assert await look(files, registry, clock) == {"law": "Statutes.", "code": "Law."}
    assert [version.source for version in await registry.history("law")] == ["file", "file"]
    file.unlink()
    assert await look(files, registry, clock) == {"code": "Law."}


async def test_an_empty_folder_declares_nothing(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock
) -> None:
    assert await look(files, registry, clock) == {}
    file = declare(tmp_path, "law")
    assert await look(files, registry, clock) == {"law": "Law."}
    file.unlink()
    assert await look(files, registry, clock) == {}


async def test_files_are_looked_at_no_more_often_than_said(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock
) -> None:
    await look(files, registry, clock)
    declare(tmp_path, "law")
    clock.now += 4.9
    await files.sync(registry)
    assert await registry.current() == {}


async def test_a_wrong_file_changes_nothing_and_is_reported_once(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    declare(tmp_path, "law")
    await look(files, registry, clock)
    (tmp_path / "law.yaml").write_text("name: law\nkind: nonsense\n")
    with caplog.at_level(logging.ERROR, "modelyard.files"):
        assert await look(files, registry, clock) == {"law": "Law."}
        assert await look(files, registry, clock) == {"law": "Law."}
    (record,) = caplog.records
    assert "law.yaml" in record.getMessage() and "kind" in record.getMessage()
    declare(tmp_path, "law", "Statutes.")
    assert await look(files, registry, clock) == {"law": "Statutes."}


async def test_an_edge_to_nowhere_is_a_problem_of_the_files(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "law.yaml").write_text(dump_yaml(spec("law", edges={"fallback": ["gone"]})))
    assert await look(files, registry, clock) == {}
    assert "gone" in caplog.text


async def test_what_cannot_be_read_says_nothing(
    tmp_path: Path, registry: Registry, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "nodes"
    folder.mkdir()
    file = declare(folder, "law")
    files = NodeFiles([file], KINDS, 5, clock=clock)
    await look(files, registry, clock)
    file.unlink()
    assert await look(files, registry, clock) == {"law": "Law."}
    assert str(file) in caplog.text


async def test_a_store_that_is_away_is_tried_again(
    tmp_path: Path, files: NodeFiles, registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError("away")

    declare(tmp_path, "law")
    with monkeypatch.context() as patch:
        patch.setattr(registry, "sync_files", away)
        with pytest.raises(ConnectionError):
            await look(files, registry, clock)
    assert await look(files, registry, clock) == {"law": "Law."}


async def test_without_a_time_nothing_is_looked_at(tmp_path: Path, registry: Registry, clock: Clock) -> None:
    declare(tmp_path, "law")
    assert await look(NodeFiles([tmp_path], KINDS, 0, clock=clock), registry, clock) == {}
