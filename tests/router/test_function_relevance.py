"""Whether a request asks for one of the caller's functions, by the real encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.function_calls import FITS, FunctionPlanner
from router.planners.relevance import relevance
from router.planners.toolset import Parameter, Tool

if TYPE_CHECKING:
    from router.types import Encoder


def tool(name: str, description: str, *required: str) -> Tool:
    return Tool(name, description, tuple(Parameter(item, "string", "", True) for item in required))


TOOLS = [
    tool("get_weather", "Get the current weather in a city", "city"),
    tool("translate_text", "Translate a text into a language", "text", "language"),
    tool("cancel_order", "Cancel an order", "order_id"),
]


@pytest.mark.parametrize(
    "request_",
    [
        "What's the weather like in Paris?",
        "Is it raining in Bergen?",
        "how warm is it in Rome",
        "say 'good morning' in French",
        "cancel my order",
        "I don't want order A-12 any more",
    ],
)
def test_what_a_function_is_for_is_kept_however_it_is_said(request_: str, minilm: Encoder) -> None:
    assert FunctionPlanner(TOOLS, minilm).relevance(request_) >= FITS


@pytest.mark.parametrize(
    "request_", ["hello", "explain recursion", "play some jazz", "track my parcel", "what is 17 * 23?"]
)
def test_what_no_function_is_for_is_refused(request_: str, minilm: Encoder) -> None:
    planner = FunctionPlanner(TOOLS, minilm)
    assert planner.relevance(request_) < FITS
    assert not planner.step(request_).fits
    assert planner.step(request_, required=True).fits


def test_each_sign_speaks_for_the_tool() -> None:
    weather = TOOLS[0]
    bare = relevance(weather, "Is it fine?", 0.3)
    assert relevance(weather, "Is it fine?", 0.5) > bare
    assert relevance(weather, "Is it fine in Oslo?", 0.3) > bare  # a value for what it requires
    assert relevance(weather, "Is the weather fine?", 0.3) > bare  # the words of its name and description
    assert relevance(tool("", "", "city"), "", 0.0) < FITS
