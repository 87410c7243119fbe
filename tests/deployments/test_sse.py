from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sse import EventTooLarge, ServerSentEvent, SseParser

STREAM = (
    "\ufeff: a comment\r\ndata: Grüße\r\ndata: 你好\r\nid: 7\r\nevent: delta\r\n\r\n"
    "data:no space\n\nretry: 10\nunknown\ndata\n\ndata: 🙂\r\rdata: [DONE]\n\n"
).encode()
EVENTS = [
    ServerSentEvent("Grüße\n你好".encode(), "delta", "7"),
    ServerSentEvent(b"no space", id="7"),
    ServerSentEvent(b"", id="7"),
    ServerSentEvent("🙂".encode(), id="7"),
    ServerSentEvent(b"[DONE]", id="7"),
]


def parse(*pieces: bytes) -> list[ServerSentEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end()


def test_reads_every_form_of_line_and_field() -> None:
    assert parse(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == EVENTS


def test_byte_by_byte() -> None:
    assert parse(*(bytes([byte]) for byte in STREAM)) == EVENTS


def test_an_event_comes_as_soon_as_its_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b") == [ServerSentEvent(b"a")]


def test_a_missing_last_blank_line_is_forgiven_at_the_end() -> None:
    assert parse(b"data: a\n\ndata: b") == [ServerSentEvent(b"a"), ServerSentEvent(b"b")]


@pytest.mark.parametrize(
    "piece", [b"x" * 40, b"data: " + b"x" * 40, b"data: xxxxxxxx\n" * 10], ids=["line", "one", "many"]
)
def test_an_event_has_a_bound(piece: bytes) -> None:
    parser = SseParser(max_event_bytes=32)
    with pytest.raises(EventTooLarge, match="32 bytes"):
        parser.feed(piece)


def test_the_bound_is_of_one_event_not_of_the_stream() -> None:
    parser = SseParser(max_event_bytes=32)
    assert len(parser.feed(b"data: 0123456789\n\n" * 100)) == 100


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    parse(data)
