"""Models, embeddings and transcriptions."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from fakes import FakeNode, spec
from gateway_service import Start
from sse_client import LeavingClient
from waiting import until

LAW = spec("law")
EARS = spec("ears", kind="speech", accepts=["audio"])
VECTORS = spec("vectors", kind="embedder", produces=["json"])


async def test_models(start: Start) -> None:
    service = await start(LAW)
    body = (await service.http.get("/v1/models")).json()
    assert (body["object"], [model["id"] for model in body["data"]]) == ("list", ["auto", "plan", "law"])
    assert set(body["data"][0]) == {"id", "object", "created", "owned_by"}
    for name in ("auto", "law"):
        assert (await service.http.get(f"/v1/models/{name}")).json()["id"] == name
    assert (await service.http.get("/v1/models/nobody")).status_code == 404


@pytest.mark.parametrize("model", ["auto", "vectors"])
async def test_embeddings(start: Start, model: str) -> None:
    service = await start(LAW, VECTORS)
    answer = await service.http.post("/v1/embeddings", json={"model": model, "input": ["one", "three"]})
    body = answer.json()
    assert (answer.status_code, answer.headers["x-modelyard-node"]) == (200, "vectors")
    assert body["data"] == [
        {"object": "embedding", "index": 0, "embedding": [3.0, 1.0]},
        {"object": "embedding", "index": 1, "embedding": [5.0, 1.0]},
    ]
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


async def test_embeddings_in_base64(start: Start) -> None:
    service = await start(VECTORS)
    answer = await service.http.post("/v1/embeddings", json={"input": "four", "encoding_format": "base64"})
    assert struct.unpack("<2f", base64.b64decode(answer.json()["data"][0]["embedding"])) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": ["x", ""]}, 400, "input.1"),
        ({"input": "x", "model": "law"}, 400, "model"),
        ({"input": "x", "model": "plan"}, 400, "model"),
        ({"input": "x", "model": "nobody"}, 404, "model"),
        ({"input": "x", "colour": 1}, 400, "colour"),
        ({}, 400, "input"),
    ],
)
async def test_wrong_embeddings(start: Start, body: dict[str, Any], status: int, param: str) -> None:
    service = await start(LAW, VECTORS)
    answer = await service.http.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(param)


async def test_no_node_embeds(start: Start) -> None:
    answer = await (await start(LAW)).http.post("/v1/embeddings", json={"input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_node_fits")


@pytest.mark.parametrize("form", ["json", "text", "verbose_json"])
async def test_transcriptions(start: Start, form: str) -> None:
    service = await start(LAW, EARS)
    answer = await service.http.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", b"RIFF", "audio/wav")},
        data={"model": "auto", "response_format": form, "language": "en", "temperature": "0.2"},
    )
    assert answer.status_code == 200, answer.text
    text = "the tenant may end the lease"
    assert (answer.text if form == "text" else answer.json()["text"]) == text
    call = FakeNode.calls[0][1]
    assert (call.operation, call.inputs["audio"].value) == ("transcribe", b"RIFF")
    assert call.params == {"response_format": form, "language": "en", "temperature": 0.2}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"json": {"file": "x"}}, "file"),
        ({"data": {"model": "ears"}, "files": {"other": b"x"}}, "file"),
        ({"files": {"file": b""}}, "file"),
        ({"files": {"file": b"x"}, "data": {"response_format": "srt2"}}, "response_format"),
        ({"files": {"file": b"x"}, "data": {"colour": "red"}}, "colour"),
        ({"files": {"file": b"x"}, "data": {"temperature": "warm"}}, "temperature"),
        ({"files": {"file": b"x"}, "data": {"model": "law"}}, "model"),
        ({"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}}, None),
    ],
)
async def test_wrong_transcriptions(start: Start, request_: dict[str, Any], param: str | None) -> None:
    service = await start(LAW, EARS)
    answer = await service.http.post("/v1/audio/transcriptions", **request_)
    assert answer.status_code == 400, answer.text
    assert param is None or answer.json()["error"]["param"] == param


async def test_a_client_that_leaves_stops_the_work(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await start(VECTORS)
    import fakes

    monkeypatch.setattr(fakes.FakeEmbedder, "_steps", lambda self, call: [fakes.HANG])
    client = LeavingClient(service.app, "/v1/embeddings", {"input": "x"})
    await until(lambda: FakeNode.calls)
    await client.leave()
    assert FakeNode.closed == ["vectors"]
