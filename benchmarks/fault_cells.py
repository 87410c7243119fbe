"""Asks a gateway in each way while its upstream plays a fault, and says what was wrong with the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import httpx

from benchmarks.fault_upstream import Attempt, FaultUpstream, usage, whole

BACKUP: Final = "backup"
MOST_ATTEMPTS: Final = 6
FROM: Final[Mapping[str, frozenset[str]]] = {
    "f01": frozenset({"primary"}),
    "f03": frozenset({"primary"}),
    "f08": frozenset({"backup", "error"}),
    "f09": frozenset({"backup", "error"}),
    "f10": frozenset({"primary", "backup", "error"}),
    "f11": frozenset({"primary"}),
    "f13": frozenset({"error"}),
    "f14": frozenset({"backup", "error"}),
}
"""Where an answer may come from; the fallback where nothing is said."""
ATTEMPTS: Final = {"f01": 2, "f03": 2, "f06": 1, "f12": 1, "f13": 1}
"""Attempts that the faulty node must get, where the catalogue says."""


@dataclass(frozen=True)
class Got:
    """What the caller got."""

    text: str | None = None
    """The text of an answer that ended as a success."""
    error: Mapping[str, Any] | None = None
    """The error, of an answer or of a stream, in OpenAI's form."""
    status: int = 200
    model: str | None = None
    usage: Mapping[str, int] | None = None
    node: str | None = None
    seconds: float = 0.0


def verdict(fault: str, got: Got, upstream: FaultUpstream) -> str | None:
    """Say what is wrong with an answer, seen from both sides; None if nothing is."""
    primary, backup = upstream.asked(fault), upstream.asked(BACKUP)
    source = _source(fault, got)
    if source not in FROM.get(fault, {"backup"}):
        return f"{source}: {(got.text or str(got.error))[:200]!r}"
    if source != "error" and (wrong := _reported(fault if source == "primary" else BACKUP, got)):
        return wrong
    if len(primary) != ATTEMPTS.get(fault, len(primary)):
        return f"{len(primary)} attempts at the faulty node"
    if len(primary) + len(backup) > MOST_ATTEMPTS:
        return f"{len(primary)} and {len(backup)} attempts"
    return _special(fault, got, primary, backup)


def served(fault: str, got: Got) -> str:
    """Say which node's whole answer somebody got, `primary` or `backup`, or what was wrong."""
    source = _source(fault, got)
    if source not in ("primary", "backup"):
        return f"{source}: {got.error}"
    return _reported(fault if source == "primary" else BACKUP, got) or source


def _source(fault: str, got: Got) -> str:
    if got.text is None:
        words = (got.error or {}).get("message")
        return "error" if isinstance(words, str) and words else "nothing"
    if got.error is not None:
        return "both an answer and an error"
    return {whole(fault): "primary", whole(BACKUP): "backup"}.get(got.text, "not whole")


def _reported(model: str, got: Got) -> str | None:
    if got.usage is not None and got.usage.items() < usage(model).items():
        return f"usage {got.usage}"
    if got.model not in (None, "plan", model, f"{model}-model"):
        return f"model {got.model}"
    if got.node not in (None, "plan", model):
        return f"node {got.node}"
    return None


def _special(fault: str, got: Got, primary: list[Attempt], backup: list[Attempt]) -> str | None:
    gaps = [later.at - earlier.at for earlier, later in pairwise(primary)]
    if fault == "f01" and not 1.9 <= gaps[0]:
        return f"waited {gaps[0]:.1f} s, not 2"
    if fault == "f02" and any(gap < 0.05 for gap in gaps):
        return "does not back off"
    if fault == "f11" and (got.seconds > 8 or got.usage is None):
        return f"{got.seconds:.1f} s, usage {got.usage}"
    if fault == "f13" and (backup or got.status not in (200, 400)):
        return f"status {got.status}, {len(backup)} attempts at the fallback"
    return None


async def ask(http: httpx.AsyncClient, model: str, text: str, *, stream: bool) -> Got:
    """Ask for a chat completion."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    began = time.monotonic()
    answer = await http.post("/v1/chat/completions", json=body)
    seconds = time.monotonic() - began
    node = answer.headers.get("x-modelyard-node")
    if answer.status_code != 200:
        return Got(error=answer.json().get("error"), status=answer.status_code, seconds=seconds)
    if stream:
        return _streamed(answer.text, node, seconds)
    data = answer.json()
    text = data["choices"][0]["message"]["content"]
    return Got(text, None, 200, data["model"], data.get("usage"), node, seconds)


def _streamed(body: str, node: str | None, seconds: float) -> Got:
    lines = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
    try:
        events = [json.loads(line) for line in lines if line != "[DONE]"]
    except json.JSONDecodeError:
        return Got(text=body)
    error = next((event["error"] for event in events if event.get("error")), None)
    chunks = [event for event in events if event.get("choices")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    ended = "[DONE]" in lines and any(chunk["choices"][0].get("finish_reason") for chunk in chunks)
    used = next((event["usage"] for event in reversed(events) if event.get("usage")), None)
    model = next((chunk.get("model") for chunk in reversed(chunks)), None)
    return Got(text if ended else None, error, 200, model, used, node, seconds)


async def run(http: httpx.AsyncClient, node: str, text: str) -> tuple[Got, dict[str, Any]]:
    """Run a plan whose first task is the node's, and whose second needs it; return the first's outcome, and the run."""
    tasks = [
        {"id": "t1", "node": node, "arguments": {"prompt": text}},
        {"id": "t2", "node": "steady", "arguments": {"prompt": "Go on.", "context": [{"$ref": "t1"}]}},
    ]
    began = time.monotonic()
    id = (await http.post("/v1/runs", json={"plan": {"tasks": tasks, "output": "t2"}})).json()["id"]
    await http.get(f"/v1/runs/{id}/events")  # ends with the run
    found = (await http.get(f"/v1/runs/{id}")).json()
    first = found["outcomes"][0]
    seconds = time.monotonic() - began
    if first["status"] != "ok":
        return Got(error=first["error"], node=first["node"], seconds=seconds), found
    text = _as_text(first["output"])
    return Got(text, None, 200, first["model"], first["usage"], first["node"], seconds), found


def _as_text(output: Any) -> str:
    return str(output["value"]) if isinstance(output, dict) else str(output)
