"""What keeps a service from starting is told before Ray is: where, what, and what would be right."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from deployments.service import ServiceEvent, _await_nodes, serve_forever
from deployments.settings import Settings
from graph.errors import InvalidSpec


@pytest.fixture(autouse=True)
def _the_log_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.service.configure_logging", lambda _: None)


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("store", "sqlit:///state.db", "no store has the scheme 'sqlit'; valid: memory://"),
        ("store", "redis://127.0.0.1:1/0", "does not answer"),
        ("encoder", "nosuch", "'nosuch' does not exist; write pkg://package/path"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: str, told: str, unused_tcp_port: int) -> None:
    with pytest.raises(InvalidSpec) as caught:
        serve_forever(settings(unused_tcp_port, **{setting: value}), print)
    assert [(problem.where, problem.key) for problem in caught.value.problems] == [("settings", setting)]
    assert told in caught.value.problems[0].message


def test_a_problem_between_nodes_names_the_file(tmp_path: Path, unused_tcp_port: int) -> None:
    file = tmp_path / "tax.yaml"
    file.write_text(
        "{name: tax, kind: openai, description: Taxes., endpoint: 'https://llm.example.com/v1', model: m, "
        "edges: {fallback: [general]}}"
    )
    with pytest.raises(InvalidSpec) as caught:
        serve_forever(settings(unused_tcp_port, nodes=(tmp_path,)), print)
    assert [(problem.where, problem.key) for problem in caught.value.problems] == [(str(file), "edges.fallback")]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ([], "ready"),
        (["failed", "ready"], "ready"),
        (["failed"], "up, but no node serves: the node failed to load. `modelyard nodes list` says why"),
        (["failed", "failed"], "up, but no node serves: all 2 nodes failed to load. `modelyard nodes list` says why"),
    ],
    ids=["none", "one-serves", "one-failed", "all-failed"],
)
def test_a_service_that_serves_nothing_says_so(
    states: list[str], told: str, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    nodes = [{"name": f"n{i}", "state": state, "error": "why"} for i, state in enumerate(states)]
    monkeypatch.setattr("deployments.service._ask", lambda _: nodes)
    events: list[ServiceEvent] = []
    _await_nodes(settings(unused_tcp_port), threading.Event(), events.append)
    assert events[-1].kind == "ready" and events[-1].message.startswith(told)


def settings(port: int, **others: Any) -> Settings:
    return Settings(port=port, **{"store": "memory://", **others})
