"""Recordings: transcribed, answered by an expert, and part of a plan."""

from __future__ import annotations

import base64

import openai
import pytest
from recordings import encoded, spoken

SENTENCE = "Hello world. This is a test of the recording."
FORMATS = [
    ("wav", None, None),
    ("mp3", "mp3", "mp3"),
    ("ogg", "ogg", "libopus"),
    ("flac", "flac", "flac"),
    ("m4a", "mp4", "aac"),
    ("webm", "webm", "libopus"),
]
COMPOUND = (
    "Transcribe this recording, explain the legal risk in it, and write a Python function that validates an "
    "email address"
)


@pytest.fixture(scope="module")
def sentence() -> bytes:
    return spoken(SENTENCE)


@pytest.mark.parametrize(("suffix", "container", "codec"), FORMATS, ids=[f[0] for f in FORMATS])
def test_every_format_is_transcribed(service, sentence, suffix, container, codec):
    audio = encoded(sentence, container, codec) if container else sentence
    result = service.openai.audio.transcriptions.create(model="auto", file=(f"speech.{suffix}", audio))
    assert "hello world" in result.text.lower().replace(",", "")


def test_a_transcription_as_text_and_with_details(service, sentence):
    text = service.openai.audio.transcriptions.create(model="speech", file=("a.wav", sentence), response_format="text")
    assert "hello world" in str(text).lower().replace(",", "")
    details = service.openai.audio.transcriptions.create(
        model="speech", file=("a.wav", sentence), response_format="verbose_json", language="en"
    )
    assert details.language in ("en", "english") and details.duration > 1
    assert details.segments and details.segments[0].end > details.segments[0].start


@pytest.mark.parametrize("junk", [b"this is no recording", b"RIFF\x00\x00\x00\x00WAVEjunk", b"\xff" * 5000])
def test_a_file_that_is_no_audio_is_refused(service, junk):
    with pytest.raises(openai.BadRequestError) as caught:
        service.openai.audio.transcriptions.create(model="auto", file=("a.wav", junk))
    assert caught.value.type == "invalid_request_error"


def _asking(text: str, audio: bytes) -> list[dict[str, object]]:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(audio).decode(), "format": "wav"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, part]}]


def test_a_spoken_message_is_transcribed_through_chat(service, sentence):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=_asking("Transcribe this recording.", sentence)
    )
    assert "hello world" in raw.parse().choices[0].message.content.lower().replace(",", "")


def test_a_question_about_a_recording_goes_to_speech_and_then_to_the_expert(service, threat):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto",
        messages=_asking("What is the legal risk in this recording?", threat),
        max_completion_tokens=12,
        temperature=0,
    )
    assert raw.headers["x-modelyard-run"].startswith("run_")
    assert raw.parse().choices[0].message.content.strip()
    run = service.http.get(f"/v1/runs/{raw.headers['x-modelyard-run']}").json()
    assert [outcome["node"] for outcome in run["outcomes"]] == ["speech", "legal"]
    assert len(run["plan"]["links"]) == 1
    assert "landlord" in str(run["outcomes"][0]["output"]).lower()


def test_a_compound_request_is_planned_over_three_experts(service, threat):
    raw = service.openai.chat.completions.with_raw_response.create(
        model="plan", messages=_asking(COMPOUND, threat), max_completion_tokens=16, temperature=0
    )
    answer = raw.parse().choices[0].message.content
    run = service.http.get(f"/v1/runs/{raw.headers['x-modelyard-run']}").json()
    assert run["status"] == "ok"
    tasks = {task["node"]: task["id"] for task in run["plan"]["tasks"]}
    assert sorted(tasks) == ["code", "legal", "speech"]
    assert run["plan"]["links"] == [[tasks["speech"], tasks["legal"]]]
    assert "landlord" in answer.lower(), "the transcript is a part of the answer"
    assert all(outcome["status"] == "ok" and outcome["output"] for outcome in run["outcomes"])


def test_the_plan_of_a_compound_request_can_be_seen_before(service, threat):
    plan = service.http.post("/v1/plan", json={"messages": _asking(COMPOUND, threat)}).json()
    assert sorted(task["node"] for task in plan["tasks"]) == ["code", "legal", "speech"]
    assert len(plan["links"]) == 1
    assert plan["missing"] == []
