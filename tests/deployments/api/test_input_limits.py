"""Inputs that are too much are refused by what they are, before they cost anything."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest
from fakes import FakeNode, spec
from gateway_service import Start

import deployments.api.chat_request
import deployments.api.openai

EYE = spec("eye", accepts=["text", "image", "audio"])


def image(size: int) -> dict[str, Any]:
    data = base64.b64encode(b"x" * size).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        ([image(100)], 200, None),
        ([image(101)], 413, "messages.0.content.0.image_url.url"),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 200}}], 413, "messages.0.content.0.input_audio.data"),
        ([image(1)] * 3, 200, None),
        ([image(1)] * 4, 413, "messages"),
    ],
    ids=["as-large", "too-large", "recording", "as-many", "too-many"],
)
async def test_attachments(
    start: Start, monkeypatch: pytest.MonkeyPatch, content: list[Any], status: int, param: str | None
) -> None:
    monkeypatch.setattr(deployments.api.chat_request, "MAX_ATTACHMENT_BYTES", 100)
    monkeypatch.setattr(deployments.api.chat_request, "MAX_ATTACHMENTS", 3)
    service = await start(EYE)
    body = {"model": "eye", "messages": [{"role": "user", "content": content}]}
    for path in ("/v1/chat/completions", "/v1/runs"):
        sent = body if path.endswith("completions") else {"messages": body["messages"]}
        answer = await service.http.post(path, json=sent)
        if status == 200:
            assert answer.status_code in (200, 202), answer.text
            continue
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
        assert FakeNode.calls == []


async def test_a_recording_that_is_uploaded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.api.openai, "MAX_ATTACHMENT_BYTES", 100)
    service = await start(spec("speech", kind="speech", accepts=["audio"]))
    for size, status in ((100, 200), (101, 413)):
        answer = await service.http.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"x" * size)})
        assert answer.status_code == status, answer.text


async def test_a_compressed_body_is_never_inflated(start: Start) -> None:
    service = await start(EYE)
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    bomb = gzip.compress(b" " * 2**20)
    for path in ("/v1/chat/completions", "/v1/route"):
        answer = await service.http.post(path, content=bomb, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "content-encoding")
