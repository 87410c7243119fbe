"""A gateway's router takes an artefact at its start and a newer one while it serves."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from fixtures_router import SIGNALS

from deployments import trained_router
from deployments.settings import Settings
from deployments.trained_router import TrainedRouter
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message
from router.artifact import CARD, ENCODER
from router.router import Router

SPECS = tuple(NodeSpec(name=name, kind="k", description="nothing that tells") for name in SIGNALS)


class _NoEncoder:
    name = "none"

    def encode(self, texts):
        raise AssertionError("a trained router brings its own encoder")


@pytest.fixture
def folder(trained_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_folder, tmp_path / "artefact"))


async def chosen(router: Router, text: str) -> tuple[str | None, str]:
    decision = await router.decide(Call(messages=(Message("user", text),)), ModelGraph(SPECS))
    return decision.candidates[0].node, decision.strategy


async def test_a_router_is_taken_and_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_router, "LOOK_EVERY_S", 0.01)
    router = Router(_NoEncoder())
    fitted = asyncio.Event()

    async def refit() -> None:
        await router.fit(SPECS)
        fitted.set()

    follower = TrainedRouter(folder, router, refit)
    assert await follower.load() and not await follower.load()
    await refit()
    assert await chosen(router, "noise1 apple noise2") == ("fruit", "trained")
    first, _ = router.strategy, fitted.clear()
    task = asyncio.create_task(follower.follow())
    card = (folder / CARD).read_text().replace('"seed": 0', '"seed": 1')
    (folder / "new").write_text(card)
    os.replace(folder / "new", folder / CARD)
    await asyncio.wait_for(fitted.wait(), 30)
    assert router.strategy != first and await chosen(router, "noise1 harbour noise2") == ("ships", "trained")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await router.aclose()


async def test_a_broken_artefact_leaves_what_was_in_use(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    router = Router(_NoEncoder())
    follower = TrainedRouter(folder, router, lambda: router.fit(SPECS))
    assert await follower.load()
    before = router.strategy
    (folder / ENCODER).write_bytes(b"cut short")
    (folder / CARD).touch()
    assert not await follower.load()
    assert router.strategy == before and "could not be loaded; what was in use stays" in caplog.text
    shutil.rmtree(folder)
    assert not await follower.load()
    await router.aclose()


def test_the_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"MODELYARD_ROUTER_ARTIFACT": "routers/now"})
    assert settings.router_artifact == tmp_path / "routers" / "now"
