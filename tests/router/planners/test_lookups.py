"""What a request does not say is looked up by other tools; what would be a guess is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest_planners import tool

from graph.plan import Ref
from router.planners.lookups import is_name
from router.planners.toolset import Output, Tool, Toolset
from router.planners.zero_shot import ZeroShotPlanner


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
    assert draft.missing and "order_id" in draft.missing[0] and draft.must_ask


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
    assert draft.must_ask and "user_id" in draft.missing[0]


@pytest.mark.parametrize(
    "text",
    ["When is sunrise in Bergen and Oslo?", "When is sunrise in Bergen? And when is sunrise in Oslo?"],
)
def test_each_of_several_names_is_looked_up_for_numbers_too(text: str) -> None:
    tasks = _drafted(text)
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


def test_an_identifier_of_the_call_is_nothing_to_look_up_by() -> None:
    book = tool("book_visit", "Book a visit of a patient", "", patient_id="string", doctor_id="string")
    tools = Toolset.of([tool("find_patient", "Find a patient by name", "patient_id", name="string"), book])
    tasks = ZeroShotPlanner(tools, None).draft("Book a visit for Maria Olsen with doctor d-3").tasks
    assert [dict(task.arguments) for task in tasks] == [
        {"name": "Maria Olsen"},
        {"patient_id": Ref("t1", ("patient_id",)), "doctor_id": "d-3"},
    ]
