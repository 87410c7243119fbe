"""Plans from descriptions and schemas alone: what a request says goes where it belongs, and nothing is invented."""

from __future__ import annotations

import string
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import NoNodeFits
from graph.plan import Ref
from router.planners.lookups import is_name
from router.planners.toolset import Output, Parameter, Tool, Toolset
from router.planners.values import mentions
from router.planners.words import spoken, stems
from router.planners.zero_shot import ZeroShotPlanner


def tool(name: str, description: str, outputs: str = "", /, **parameters: str) -> Tool:
    """Build a tool; `!` before a type makes the parameter optional."""
    taken = tuple(Parameter(key, kind.strip("!"), "", not kind.startswith("!")) for key, kind in parameters.items())
    return Tool(name, description, taken, tuple(Output((field,), "string") for field in outputs.split()))


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


def _shop() -> list[Tool]:
    status = tool("order_status", "Get the shipping status of an order", "status", order_id="string")
    cancel = tool("cancel_order", "Cancel an order", "cancelled", order_id="string")
    orders = tool("list_orders", "List the orders of a customer", "", customer_id="string")
    return [
        tool("find_customer", "Find a customer by name", "customer_id", name="string"),
        replace(orders, outputs=(Output(("orders", "0", "order_id"), "string"),)),
        status,
        replace(cancel, acts=True),
        replace(tool("geocode", "Get the coordinates of a place", place="string"), outputs=_PLACE),
        tool("sunrise", "Get the time of sunrise", "sunrise", latitude="number", longitude="number"),
    ]


_PLACE = (Output(("latitude",), "number"), Output(("longitude",), "number"))
_LISTED = [("find_customer", {"name": "Ana Ruiz"}), ("list_orders", {"customer_id": Ref("t1", ("customer_id",))})]
_FIRST = {"order_id": Ref("t2", ("orders", "0", "order_id"))}


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("List the orders of the customer 'Ana Ruiz'.", _LISTED),
        ("Get the shipping status of the order of customer 'Ana Ruiz'.", [*_LISTED, ("order_status", _FIRST)]),
        ("List the orders of the customer 'Ana Ruiz' and cancel the first one.", [*_LISTED, ("cancel_order", _FIRST)]),
        ("Get the shipping status of order 'A-17'.", [("order_status", {"order_id": "A-17"})]),
        (
            "When is sunrise in Bergen?",
            [
                ("geocode", {"place": "Bergen"}),
                ("sunrise", {"latitude": Ref("t1", ("latitude",)), "longitude": Ref("t1", ("longitude",))}),
            ],
        ),
    ],
)
def test_what_nobody_says_is_looked_up(text: str, tasks: list[tuple[str, dict[str, object]]]) -> None:
    draft = ZeroShotPlanner(Toolset.of(_shop()), None).draft(text)
    assert [(task.node, dict(task.arguments)) for task in draft.tasks] == tasks
    assert draft.missing == ()


def test_each_name_is_looked_up() -> None:
    draft = ZeroShotPlanner(Toolset.of(_shop()), None).draft(
        "List the orders of the customers 'Ana Ruiz' and 'Bo Lund'."
    )
    names = [task.arguments["name"] for task in draft.tasks if task.node == "find_customer"]
    assert (names, len(draft.tasks)) == (["Ana Ruiz", "Bo Lund"], 4)


def _drafted(text: str, *more: Tool) -> list[tuple[str, dict[str, object]]]:
    draft = ZeroShotPlanner(Toolset.of([*_shop(), *more]), None).draft(text)
    return [(task.node, dict(task.arguments)) for task in draft.tasks]


@pytest.mark.parametrize("text", ["Cancel the order of Ana Ruiz.", "Cancel the order of Ana Ruiz, the first one."])
def test_whose_thing_it_is_names_somebody(text: str) -> None:
    assert {"order_id": "Ana Ruiz"} not in [arguments for _, arguments in _drafted(text)]


@pytest.mark.parametrize("name", ["Ana Ruiz", "Ronald McDonald", "\u738b\u4f1f", "ana ruiz", "Ana Ruiz III"])
def test_of_several_things_none_is_changed_by_guess(name: str) -> None:
    draft = ZeroShotPlanner(Toolset.of(_shop()), None).draft(f"Cancel the order of the customer '{name}'.")
    assert [(task.node, dict(task.arguments)) for task in draft.tasks] == [("cancel_order", {})]
    assert draft.missing and "order_id" in draft.missing[0] and draft.ambiguous


@pytest.mark.parametrize(
    "what",
    ["the order from the first of May", "all but the first", "the second, not the first", "one, but first ask me",
     "the top priority one", "one of them"],
)  # fmt: skip
def test_the_first_is_changed_only_where_it_is_meant(what: str) -> None:
    tasks = _drafted(f"List the orders of the customer 'Ana Ruiz' and cancel {what}.")
    assert [arguments for node, arguments in tasks if node == "cancel_order" and _FIRST == arguments] == []


def test_a_guess_within_a_chain_is_a_guess() -> None:
    search = replace(tool("search_customers", "Search customers", name="string"), outputs=_HITS)
    more = [
        search,
        tool("get_subscription", "Get the subscription of a customer", "subscription_id", customer_id="string"),
    ]
    cancel = replace(tool("cancel_subscription", "Cancel a subscription", subscription_id="string"), acts=True)
    draft = ZeroShotPlanner(Toolset.of([*more, cancel]), None).draft(
        "Cancel the subscription of the customer 'Ana Ruiz'."
    )
    assert [task.node for task in draft.tasks if task.node == "get_subscription"] == []
    assert draft.missing


_HITS = (Output(("customers", "0", "customer_id"), "string"),)


def test_a_field_that_is_no_guess_is_taken_before_one_that_is() -> None:
    fields = (Output(("default_order_id",), "string"), Output(("orders", "0", "order_id"), "string"))
    get = replace(tool("get_orders", "Get the orders of a customer", name="string"), outputs=fields)
    cancel = replace(tool("cancel_order", "Cancel an order", order_id="string"), acts=True)
    draft = ZeroShotPlanner(Toolset.of([get, cancel]), None).draft("Cancel the order of the customer 'Ana Ruiz'.")
    assert _FIRST not in [dict(task.arguments) for task in draft.tasks]
    assert Ref("t1", ("orders", "0", "order_id")) not in [v for task in draft.tasks for v in task.arguments.values()]


def test_what_changes_something_is_no_look_up() -> None:
    create = tool("create_order", "Create an order and return its id", "order_id", customer_name="string")
    delete = tool("delete_customer", "Delete a customer and return the customer id", "customer_id", name="string")
    acting = [replace(create, acts=True), replace(delete, acts=True)]
    status = tool("order_status", "Get the shipping status of an order", "status", order_id="string")
    orders = tool("list_orders", "List the orders of a customer", "", customer_id="string")
    planner = ZeroShotPlanner(Toolset.of([*acting, status, orders]), None)
    for text in (
        "Get the shipping status of the order of customer 'Ana Ruiz'.",
        "List the orders of the customer 'Ana Ruiz'.",
    ):
        assert {task.node for task in planner.draft(text).tasks} <= {"order_status", "list_orders"}


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Get the shipping status of order 'Alpha'.", ("order_status", {"order_id": "Alpha"})),
        ("List the orders of customer_id 'Acme'.", ("list_orders", {"customer_id": "Acme"})),
        ("List the orders of the customer with customer id 'Acme'.", ("list_orders", {"customer_id": "Acme"})),
    ],
)
def test_an_identifier_that_is_said_to_be_one_is_taken(text: str, task: tuple[str, dict[str, object]]) -> None:
    assert _drafted(text) == [task]


def test_an_optional_identifier_that_would_be_a_guess_is_asked_for() -> None:
    hits = (Output(("users", "0", "user_id"), "string"),)
    search = replace(tool("search_users", "Search users", name="string"), outputs=hits)
    create = replace(tool("create_ticket", "Create a ticket", title="string", user_id="!string"), acts=True)
    planner = ZeroShotPlanner(Toolset.of([search, create]), None)
    draft = planner.draft("Create a ticket titled 'Broken printer' for the user 'Ana Ruiz'.")
    assert draft.ambiguous and "user_id" in draft.missing[0]


def test_each_of_several_names_is_looked_up_for_numbers_too() -> None:
    tasks = _drafted("When is sunrise in Bergen and Oslo?")
    assert [arguments["place"] for node, arguments in tasks if node == "geocode"] == ["Bergen", "Oslo"]
    assert [node for node, _ in tasks].count("sunrise") == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ana Ruiz", True), ("Paris", True), ("Mary-Jane O'Neil", True), ("Guido van Rossum", True), ("Zoë", True),
        ("A-17", False), ("AAPL", False), ("c7", False), ("UserOne", False), ("A-B", False), ("premium", False),
        ("", False), ("ana ruiz", True), ("\u738b\u4f1f", True), ("A 17", False),
    ],
)  # fmt: skip
def test_names_are_told_from_identifiers(value: str, expected: bool) -> None:
    assert is_name(value) is expected
