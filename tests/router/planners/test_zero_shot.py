"""Plans from descriptions and schemas alone: what a request says goes where it belongs, and nothing is invented."""

from __future__ import annotations

import string

import numpy as np
import pytest
from conftest_planners import tool
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import NoNodeFits
from graph.plan import Ref
from router.planners.toolset import Toolset
from router.planners.values import mentions
from router.planners.words import spoken, stems
from router.planners.zero_shot import ZeroShotPlanner

TOOLS = Toolset.of(
    [
        tool("get_weather", "Get the weather of a city", "forecast", city="string"),
        tool("translate_text", "Translate a text into a language", "translated_text", text="string", language="string"),
        tool("find_location", "Find a place by its name", "location_id", query="string"),
        tool("find_restaurants", "Find restaurants near a location", "restaurant_name", location_id="string"),
        tool("calculate_tip", "Calculate the tip on a bill", "tip_amount", bill_total="number", percentage="number"),
        tool("send_email", "Send an email to a recipient", "", recipient="string", message="string"),
    ]
)


@pytest.fixture(scope="module")
def planner() -> ZeroShotPlanner:
    return ZeroShotPlanner(TOOLS, None)


def nodes(planner: ZeroShotPlanner, text: str) -> list[str]:
    return [task.node for task in planner.draft(text).tasks]


def test_a_request_of_two_parts_has_two_tasks_with_their_values(planner: ZeroShotPlanner) -> None:
    draft = planner.draft("Get the weather in Oslo and calculate a 15% tip on a bill of $80.")
    assert [(task.node, dict(task.arguments)) for task in draft.tasks] == [
        ("get_weather", {"city": "Oslo"}),
        ("calculate_tip", {"bill_total": 80, "percentage": 15}),
    ]


def test_a_list_of_values_is_a_call_for_each(planner: ZeroShotPlanner) -> None:
    draft = planner.draft("Get the weather in Oslo, Rome and Lima.")
    assert [task.arguments["city"] for task in draft.tasks] == ["Oslo", "Rome", "Lima"]


def test_what_an_earlier_task_gives_is_referred_to_by_field(planner: ZeroShotPlanner) -> None:
    draft = planner.draft("Translate the text 'Guten Tag' into French, then send an email with it to a@b.org.")
    assert draft.tasks[1].arguments == {"recipient": "a@b.org", "message": Ref("t1", ("translated_text",))}
    assert draft.links == (("t1", "t2"),)


def test_an_identifier_that_nobody_says_is_looked_up_first(planner: ZeroShotPlanner) -> None:
    assert nodes(planner, "Find restaurants in Rome") == ["find_location", "find_restaurants"]


def test_what_is_missing_is_asked_for_and_not_invented(planner: ZeroShotPlanner) -> None:
    draft = planner.draft("Calculate the tip on a bill of $80")
    assert "percentage" not in draft.tasks[0].arguments
    assert any("'percentage'" in question for question in draft.missing)


def test_a_request_that_shares_no_word_with_any_tool_has_no_plan(planner: ZeroShotPlanner) -> None:
    with pytest.raises(NoNodeFits):
        planner.draft("zzz qqq")


def test_tools_bound_in_a_given_order_keep_it(planner: ZeroShotPlanner) -> None:
    draft = planner.over("Get the weather in Rome and translate it into French", ["get_weather", "translate_text"])
    assert draft.tasks[1].arguments == {"text": Ref("t1", ("forecast",)), "language": "French"}


def test_links_that_the_graph_lacks_are_not_used() -> None:
    apart = Toolset.of(TOOLS.tools.values(), [("find_location", "find_restaurants")])
    draft = ZeroShotPlanner(apart, None).draft("Translate the text 'Hallo' into French, then send an email with it")
    assert draft.links == ()
    assert not draft.problems(apart)


WORDS = [*string.punctuation, "and", "then", "get the weather", "in Oslo", "'x'", "5%", "the result", "it", "[1, 2]"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*WORDS, "translate it", "find restaurants", "a@b.org", "email"]), max_size=14),
    st.sets(st.tuples(st.sampled_from(TOOLS.names), st.sampled_from(TOOLS.names))),
)
def test_every_plan_is_valid(parts: list[str], links: set[tuple[str, str]]) -> None:
    for tools in (TOOLS, Toolset.of(TOOLS.tools.values(), links)):
        try:
            draft = ZeroShotPlanner(tools, None).draft(" ".join(parts) or "x")
        except NoNodeFits:
            continue
        assert draft.problems(tools) == []
        draft.to_plan("zero_shot")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("on January 31, 2025 at noon", "date", "2025-01-31"),
        ("call 555-1234 now", "phone", "555-1234"),
        ("a rate of 4.5%", "number", 4.5),
        ("a loan of 200,000 dollars", "number", 200000),
        ("weighs 70kg", "number", 70),
        ("grades [A, B]", "list", ["A", "B"]),
        ("open example.wav please", "file", "example.wav"),
        ("songs by Ed Sheeran", "proper", "Ed Sheeran"),
        ("Convert 100 USD", "number", 100),
        ("Convert 100 USD", "proper", "USD"),
        ("the details of Case No 28473", "number", 28473),
        ("the details of Case No 0017", "code", "0017"),
        ("the details of case 0017", "code", "0017"),
    ],
)
def test_values_are_found_in_their_form(text: str, kind: str, value: object) -> None:
    assert (kind, value) in [(item.kind, item.value) for item in mentions(text)]


def test_names_and_phrases_have_words_in_common() -> None:
    assert spoken("getCity.byName_v2") == "get City by Name v2"
    assert set(stems("calculate_squared")) & set(stems("the square of it"))


def test_vectors_count_beside_words() -> None:
    class Toward:
        name = "toward"

        def encode(self, texts):
            return np.array([[1.0, 0.0] if "weather" in t or "sky" in t else [0.0, 1.0] for t in texts], np.float32)

    assert nodes(ZeroShotPlanner(TOOLS, Toward()), "Tell me about the sky over Oslo")[0] == "get_weather"


def test_two_things_that_one_verb_asks_for_are_two_tasks() -> None:
    tools = [
        tool("get_weather", "Get the weather of a city", "forecast", city="string"),
        tool("get_time_zone", "Get the time zone of a city", "zone", city="string"),
    ]
    planner = ZeroShotPlanner(Toolset.of(tools), None)
    for text in ("Get the weather and time zone of Oslo.", "Get the weather of Oslo and time zone."):
        tasks = planner.draft(text).tasks
        assert [(task.node, dict(task.arguments)) for task in tasks] == [
            ("get_weather", {"city": "Oslo"}),
            ("get_time_zone", {"city": "Oslo"}),
        ]


@pytest.mark.parametrize("then", ["segment the objects in the edited image", "show the segments of the edited image"])
def test_words_for_what_was_made_before_do_not_ask_for_it_again(then: str) -> None:
    tools = [tool("Image Editing", "Edit an image"), tool("Image Segmentation", "Segment an image into objects")]
    planner = ZeroShotPlanner(Toolset.of(tools), None)
    assert nodes(planner, f"Edit the image to be blue, then {then}.") == ["Image Editing", "Image Segmentation"]


def test_three_things_that_one_verb_asks_for_are_three_tasks() -> None:
    kinds = ("weather", "humidity", "altitude")
    tools = [tool(f"get_{kind}", f"Get the {kind} of a city", kind, city="string") for kind in kinds]
    tasks = nodes(ZeroShotPlanner(Toolset.of(tools), None), "Get the weather, humidity and altitude of Oslo.")
    assert sorted(tasks) == sorted(f"get_{kind}" for kind in kinds)


def test_a_value_that_is_named_after_a_verb_is_no_task_of_its_own() -> None:
    tools = [
        tool("add_contact", "Add a contact", "", name="string", email="string", phone="!string"),
        tool("validate_email", "Validate an email address", "valid", email="string"),
    ]
    for email in ("email", "email address"):
        text = f"Add a contact with the name 'Jo Doe', {email} 'jo@doe.org'."
        draft = ZeroShotPlanner(Toolset.of(tools), None).draft(text)
        assert [(task.node, dict(task.arguments)) for task in draft.tasks] == [
            ("add_contact", {"name": "Jo Doe", "email": "jo@doe.org"})
        ]


@pytest.mark.parametrize("count", [21, 64])
def test_a_long_list_is_a_call_for_each(planner: ZeroShotPlanner, count: int) -> None:
    draft = planner.draft(f"Get the weather in {_towns(count)}.")
    assert (len(draft.tasks), draft.must_ask) == (count, False)


def test_more_calls_than_fit_are_asked_about_and_not_left_out(planner: ZeroShotPlanner) -> None:
    for text in (f"Get the weather in {_towns(65)}.", f"Translate the text 'a' into French. Weather in {_towns(64)}?"):
        draft = planner.draft(text)
        assert draft.must_ask and "64 calls" in " ".join(draft.missing)


def _towns(count: int) -> str:
    towns = [f"{first}{last}" for first in ("North", "South", "West", "East") for last in map(str.lower, _ENDINGS)]
    return f"{', '.join(towns[: count - 1])} and Oslo"


_ENDINGS = [f"{letter}ham" for letter in "BCDFGKLMPRSTVWXZ"] + ["Bury"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The weather in Oslo. What is the weather in Oslo like?", ["Oslo"]),
        ("The weather in Oslo and in Bergen. Can you tell the weather in each city?", ["Oslo", "Bergen"]),
    ],
)
def test_what_says_nothing_new_is_no_further_call(planner: ZeroShotPlanner, text: str, wanted: list[str]) -> None:
    assert [task.arguments["city"] for task in planner.draft(text).tasks] == wanted


def test_what_is_asked_again_is_as_before_but_for_what_is_said() -> None:
    fetch = tool("fetch_sequence", "Fetch a sequence by its id", "", sequence_id="string", format="!string")
    text = "Fetch the sequence with the id 'XY12', then fetch the same again but this time in the format 'genbank'."
    tasks = ZeroShotPlanner(Toolset.of([fetch]), None).draft(text).tasks
    assert [dict(task.arguments) for task in tasks] == [
        {"sequence_id": "XY12"},
        {"sequence_id": "XY12", "format": "genbank"},
    ]


def test_what_is_counted_is_one_thing_with_all_that_is_said_of_it(planner: ZeroShotPlanner) -> None:
    draft = planner.draft(
        "Could you help me with a few tasks? First, I am curious about the weather. I am in Oslo. Second, I had "
        "dinner. The bill was $80. Could you calculate a 15% tip? Lastly, translate 'good evening' into Norwegian."
    )
    assert [(task.node, dict(task.arguments)) for task in draft.tasks] == [
        ("get_weather", {"city": "Oslo"}),
        ("calculate_tip", {"bill_total": 80, "percentage": 15}),
        ("translate_text", {"text": "good evening", "language": "Norwegian"}),
    ]


@pytest.mark.parametrize(
    ("text", "amount", "source", "target"),
    [("Convert 100 euros into US dollars", 100, "euros", "US dollars"), ("Convert 20 USD to EUR", 20, "USD", "EUR")],
)
def test_currencies_are_told_apart(text: str, amount: int, source: str, target: str) -> None:
    convert = tool("convert_currency", "Convert money", "", amount="number", source="string", target="string")
    (task,) = ZeroShotPlanner(Toolset.of([convert]), None).draft(text).tasks
    assert dict(task.arguments) == {"amount": amount, "source": source, "target": target}
