from __future__ import annotations

from typing import Any

import pytest
from conftest_planners import spec

from graph.plan import Ref
from router.planners.arguments import fill


def tool(**arguments: dict[str, Any]):
    return spec("tool", arguments=arguments)


S = {"type": "string"}


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (
            {"city": S, "date": S},
            "Get the weather in New York on 2024-05-01",
            {"city": "New York", "date": "2024-05-01"},
        ),
        ({"city": S, "date": S}, "Weather tomorrow for Paris", {"city": "Paris", "date": "tomorrow"}),
        ({"from": S, "to": S}, "Book a flight from Rome to Oslo", {"from": "Rome", "to": "Oslo"}),
        ({"amount": {"type": "number"}}, "Convert 12.5 euros", {"amount": 12.5}),
        ({"count": {"type": "integer"}}, "Show 3 results", {"count": 3}),
        (
            {"adults": {"type": "integer"}, "rooms": {"type": "integer"}},
            "Book 2 rooms for 3 adults",
            {"adults": 3, "rooms": 2},
        ),
        ({"unit": {"type": "string", "enum": ["celsius", "kelvin"]}}, "Show it in Kelvin", {"unit": "kelvin"}),
        ({"title": S}, 'Play "Inception" now', {"title": "Inception"}),
        (
            {"to": {"type": "string", "description": "email of the recipient"}, "body": S},
            "Send 'hi' to a@b.org",
            {"to": "a@b.org", "body": "hi"},
        ),
        ({"url": S}, "Download https://a.org/x.png please", {"url": "https://a.org/x.png"}),
        ({"numbers": {"type": "array"}}, "Add 1, 2 and 3", {"numbers": [1, 2, 3]}),
        ({"query": S}, "Search for cheap hotels", {"query": "cheap hotels"}),
        ({"verbose": {"type": "boolean"}}, "Run without verbose output", {"verbose": False}),
    ],
)
def test_literals(arguments: dict[str, Any], text: str, expected: dict[str, Any]) -> None:
    filled = fill(tool(**arguments), text)
    assert filled.arguments == expected
    assert not filled.missing


def test_nothing_is_invented() -> None:
    filled = fill(
        tool(city=S, days={"type": "integer"}, lang={"type": "string", "required": False}), "Show the weather"
    )
    assert filled.arguments == {}
    assert len(filled.missing) == 2


def test_a_default_needs_no_question() -> None:
    assert fill(tool(days={"type": "integer", "default": 1}), "Show it").missing == ()


def test_an_output_stands_in_for_what_is_not_said() -> None:
    assert fill(tool(text=S), "Send it", [Ref("t1")]).arguments == {"text": Ref("t1")}
    assert fill(tool(count={"type": "integer"}), "Send it", [Ref("t1")]).missing


def test_attachments_fill_objects_named_after_them() -> None:
    image = Ref("request", ("image", "0"))
    assert fill(tool(image_file={"type": "object"}), "Crop it", (), [image]).arguments == {"image_file": image}
