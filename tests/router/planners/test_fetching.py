"""What a tool works on is fetched by another where a request names it, and taken as it is where it says it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest_planners import tool

from graph.plan import Ref
from router.planners.toolset import Toolset
from router.planners.zero_shot import ZeroShotPlanner

TOOLS = [
    tool("get_weather", "Get the weather of a city", "forecast", city="string"),
    tool("get_random_joke", "Get a random joke", "joke"),
    tool("fetch_page", "Fetch the text of a web page", "content", url="string"),
    tool("translate_text", "Translate a text into a language", "translated_text", text="string", language="string"),
    tool("encrypt_data", "Encrypt data with a key", "encrypted_data", data="string", encryption_key="string"),
    tool("summarize", "Summarize a text", "summary", text="string"),
    replace(tool("send_sms", "Send an SMS message", "status", phone="string", message="string"), acts=True),
    replace(tool("create_page", "Create a web page", "page", url="string"), acts=True),
]


def drafted(text: str) -> list[tuple[str, dict[str, object]]]:
    draft = ZeroShotPlanner(Toolset.of(TOOLS), None).draft(text)
    return [(task.node, dict(task.arguments)) for task in draft.tasks]


@pytest.mark.parametrize(
    ("text", "source", "argument", "field"),
    [
        ("Translate the weather forecast for Oslo into French.", ("get_weather", {"city": "Oslo"}), "text", "forecast"),
        ("Encrypt the random joke with the key 'secret'.", ("get_random_joke", {}), "data", "joke"),
        ("Send an SMS to 555-1234 with the weather in Rome.", ("get_weather", {"city": "Rome"}), "message", "forecast"),
        ("Summarize the page https://x.org/a.", ("fetch_page", {"url": "https://x.org/a"}), "text", "content"),
    ],
)
def test_what_is_named_is_fetched_first(
    text: str, source: tuple[str, dict[str, object]], argument: str, field: str
) -> None:
    first, second = drafted(text)
    assert first == source and second[1][argument] == Ref("t1", (field,))


@pytest.mark.parametrize(
    "text",
    [
        "Translate the text 'the weather in Oslo' into French.",
        "Encrypt the word 'joke' with the key 'secret'.",
        "Send an SMS to 555-1234 with the message 'the weather in Rome is fine'.",
        "Send an SMS to 555-1234 with a joke.",
        "Send an SMS to 555-1234 that the weather in Rome is fine.",
        "Send an SMS to 555-1234 saying the weather in Rome is fine.",
        "Summarize the weather report of my trip.",
    ],
)
def test_nothing_is_fetched_for_what_is_said_or_cannot_be_asked(text: str) -> None:
    assert len(drafted(text)) == 1


def test_what_was_fetched_before_is_not_fetched_again() -> None:
    tasks = drafted("Get the weather in Oslo and translate the forecast into French.")
    assert [node for node, _ in tasks] == ["get_weather", "translate_text"]
    assert tasks[1][1] == {"text": Ref("t1", ("forecast",)), "language": "French"}
