from __future__ import annotations

import pytest
from fakes import chat

from deployments.latency import KEPT_S, Latencies


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_piece_counts_for_a_stream_and_the_end_for_the_rest() -> None:
    latencies = Latencies()
    latencies.add("a", 0.1, 2.0)
    latencies.add("tool", None, 0.5)
    assert latencies.of(chat(stream=True)) == pytest.approx({"a": 100, "tool": 500})
    assert latencies.of(chat()) == pytest.approx({"a": 2000, "tool": 500})


def test_the_estimate_follows_what_is_seen_without_leaping() -> None:
    latencies = Latencies()
    latencies.add("a", 0.1, 1.0)
    latencies.add("a", 0.1, 11.0)
    assert latencies.of(chat())["a"] == pytest.approx(2000)
    assert latencies.of(chat(stream=True))["a"] == pytest.approx(100)
    latencies.add("a", None, 2.0)  # not streamed: says nothing of the first piece
    assert latencies.of(chat(stream=True))["a"] == pytest.approx(100)
    for _ in range(60):
        latencies.add("a", 0.1, 3.0)
    assert latencies.of(chat())["a"] == pytest.approx(3000, rel=0.01)


def test_an_old_estimate_is_none_and_a_removed_node_is_forgotten() -> None:
    clock = Clock()
    latencies = Latencies(clock)
    latencies.add("a", 1.0, 9.0)
    latencies.add("b", 1.0, 9.0)
    latencies.forget("b")
    latencies.forget("never there")
    assert set(latencies.of(chat())) == {"a"}
    clock.now = KEPT_S + 1
    assert latencies.of(chat()) == {}
    latencies.add("a", 0.1, 0.2)
    assert latencies.of(chat()) == pytest.approx({"a": 200})
