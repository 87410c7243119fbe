"""Throws mutated bytes at what reads other people's: YAML of nodes, and the streams of upstreams.

python -m benchmarks.fuzz [--seconds S] [--seed N] [yaml sse]

A target takes bytes and raises only if a promise is broken. Each is also a plain function for another fuzzer to drive.
An input that breaks one is printed, and so is one that takes longer than a second.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from deployments.nodes.openai_wire import ChatStream
from deployments.sse import EventTooLarge, ServerSentEvent, SseParser
from graph.errors import ModelyardError
from graph.loader import dump_yaml, load_text
from graph.node import KindRegistry, installed_kinds

SLOW_S: Final = 1.0
_YAML: Final = (
    b"name: legal\nkind: openai\ndescription: Law.\nmodel: m\nendpoint: https://llm.example.com/v1\napi_key: ${KEY}\n",
    b"name: t\nkind: http\ndescription: 'a: b'\nendpoint: https://x.example.com\narguments: {q: {type: string}}\n"
    b"params: {path: '/{q}', query: {a: '{q}'}}\n---\nname: u\nkind: plan\ndescription: >\n  two\n  lines\n",
    b'{"name": "a", "kind": "llama_cpp", "description": "x", "examples": ["1", "2"], "limits": {"total_s": 1e3}}',
)
_SSE: Final = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Gr\xc3\xbc\xc3\x9fe"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    b'\xef\xbb\xbf: hi\r\nevent: x\r\nid: 7\r\ndata: {"error":{"message":"no","code":500}}\r\n\r\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
)
_PIECES: Final = (
    *(
        b"\n",
        b"\r",
        b"\n\n",
        b": ",
        b"- ",
        b"&a ",
        b"*a ",
        b"<<: ",
        b"!!python/object ",
        b"? ",
        b"---\n",
        b"...\n",
        b"${A}",
    ),
    *(b"data:", b"[DONE]", b"null", b"0x", b"1:1:1", b"\xff", b"\0", b"\xef\xbb\xbf", b"{" * 30, b"[" * 30, b'"', b"'"),
    *(b"choices", b"delta", b"finish_reason", b"content", b"9" * 50, b"true", b"~", b"%YAML 9", b"\xe2\x80\xa8"),
)


@cache
def _kinds() -> KindRegistry:
    return installed_kinds()


def read_yaml(data: bytes) -> None:
    """Declarations are read or explained, whatever they are, and what was read can be written and read again."""
    loaded = load_text(data, _kinds())
    assert loaded.specs or loaded.problems, "neither read nor explained"
    for spec in loaded.specs:
        assert load_text(dump_yaml(spec), _kinds()).specs == (spec,), "is not what was written"


def read_sse(data: bytes) -> None:
    """Events do not depend on where the bytes were cut; an answer is a success only if it says how it ended."""
    assert _events(data) == _events(*(data[at : at + 1] for at in range(len(data)))), "cut otherwise"
    stream = ChatStream("node")
    try:
        deltas = [*stream.feed(data), *stream.end(), stream.last()]
    except ModelyardError:
        return
    assert deltas[-1].finish_reason and b"finish_reason" in data, "a success that nobody told"


def _events(*pieces: bytes) -> list[ServerSentEvent] | None:
    parser = SseParser(max_event_bytes=10_000)
    try:
        return [event for piece in pieces for event in parser.feed(piece)] + parser.end()
    except EventTooLarge:
        return None


TARGETS: Final[Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "yaml": (read_yaml, _YAML),
    "sse": (read_sse, _SSE),
}


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """Return a text with a few pieces of it replaced, repeated, moved or taken away."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 8)):
        start = dice.randrange(len(data) + 1)
        end = min(len(data), start + dice.randint(0, 12))
        match dice.randrange(5):
            case 0:
                data[start:end] = b""
            case 1:
                data[start:start] = dice.choice(_PIECES)
            case 2:
                data[start:end] = dice.choice(_PIECES)
            case 3:
                data[start:start] = data[start:end] * dice.randint(1, 20)
            case _:
                data[start:end] = dice.randbytes(end - start)
    return bytes(data)


def fuzz(name: str, dice: random.Random, go_on: Callable[[int], bool]) -> tuple[int, list[bytes]]:
    """Run a target as long as told; return how often, and the inputs that broke a promise or took too long."""
    target, corpus = TARGETS[name]
    runs, bad = 0, []
    while go_on(runs):
        data = mutated(dice.choice(corpus), dice)
        began = time.perf_counter()
        try:
            target(data)
            failure = "" if time.perf_counter() - began < SLOW_S else "slow"
        except Exception as error:  # a boundary: whatever comes out of a target is what is looked for
            failure = repr(error)
        if failure:
            print(f"{name}: {failure}: {data!r}", flush=True)
            bad.append(data)
        runs += 1
    return runs, bad


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="all, by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failures = 0
    for name in options.targets or TARGETS:
        end = time.monotonic() + options.seconds
        runs, bad = fuzz(name, random.Random(options.seed), lambda _, end=end: time.monotonic() < end)  # noqa: S311
        print(f"{name}: {runs} inputs, {len(bad)} failures", flush=True)
        failures += len(bad)
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
