"""Lines of the log name the request that they speak of."""

from __future__ import annotations

import json
import logging
from contextvars import copy_context
from logging.handlers import MemoryHandler
from pathlib import Path

import pytest

from deployments.logs import FORMAT, OURS, JsonFormatter, TextFormatter, configure_logging, speak_of
from deployments.settings import Settings


def entry(error: Exception | None = None) -> logging.LogRecord:
    told = (type(error), error, None) if error else None
    return logging.LogRecord("modelyard.node", logging.WARNING, __file__, 1, "node %s\nraised", ("law",), told)  # type: ignore[arg-type]


def test_an_entry_is_one_line_of_json_with_the_ids() -> None:
    def work() -> str:
        speak_of("r1", "0af7651916cd43dd8448eb211c80319c")
        return JsonFormatter().format(entry(ValueError("no")))

    line = copy_context().run(work)
    found = json.loads(line)
    assert "\n" not in line
    assert found["time"].endswith("Z") and found["exception"] == "ValueError: no"
    assert {key: found[key] for key in ("level", "logger", "message", "request_id", "trace_id")} == {
        "level": "warning",
        "logger": "modelyard.node",
        "message": "node law\nraised",
        "request_id": "r1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


def test_what_no_request_is_spoken_of_in_has_no_ids() -> None:
    assert set(json.loads(JsonFormatter().format(entry()))) == {"time", "level", "logger", "message"}
    assert "trace_id" not in TextFormatter(FORMAT).format(entry())


def test_text_has_them_at_the_end_of_the_line() -> None:
    def work() -> str:
        speak_of("r1", "abc")
        return TextFormatter("%(message)s").format(entry())

    assert copy_context().run(work).endswith("raised request_id=r1 trace_id=abc")


HOSTILE = "x\n2026-01-01 ERROR modelyard.node forged\r\x1b[2J\x9b\u202e\u2028\ud800"


@pytest.mark.parametrize("formatter", [TextFormatter(FORMAT), JsonFormatter()])
def test_what_is_spoken_of_neither_makes_lines_nor_steers_a_terminal(formatter: logging.Formatter) -> None:
    record = entry(ValueError(HOSTILE))
    record.args = (HOSTILE,)
    lines = formatter.format(record).encode().decode().split("\n")  # it can be written: no half of a pair is left
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if not line.startswith(" ")] == lines[:1]


def test_a_replicas_lines_go_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "replica.log"
    target = logging.FileHandler(file)
    serves = logging.getLogger("ray.serve")
    monkeypatch.setattr(serves, "handlers", [logging.StreamHandler(), MemoryHandler(1000, target=target)])
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    for name in OURS:  # brought back afterwards
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    configure_logging(Settings())
    logging.getLogger("modelyard.files").error("nodes are left as they are")
    for handler in (*root.handlers, target):
        handler.close()
    assert "ERROR modelyard.files nodes are left as they are" in file.read_text()
