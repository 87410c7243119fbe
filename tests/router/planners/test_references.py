"""Which output of an earlier task an argument takes, by what the words say of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest_planners import tool

from graph.plan import Ref
from router.planners.toolset import Output, Tool, Toolset
from router.planners.zero_shot import ZeroShotPlanner


def _numbers(name: str, description: str, output: str, /, **parameters: str) -> Tool:
    return replace(tool(name, description, **parameters), outputs=(Output((output,), "number"),))


TOOLS = [
    _numbers("gross_salary", "Calculate the gross salary", "gross_salary", basic_salary="number", allowance="number"),
    _numbers("sales_tax", "Calculate the sales tax", "sales_tax", amount="number", tax_rate="number"),
    tool("encrypt_data", "Encrypt data with a key", "encrypted_data", data="string", encryption_key="string"),
    tool("add_contact", "Add a contact", "", name="string", email="!string"),
    tool("check_grammar", "Check the grammar of a sentence", "corrected", sentence="string", language="string"),
    tool("translate_text", "Translate a text into a language", "translated_text", text="string", language="string"),
    tool("find_movies", "Find movies in a town", "movie_name location", location="string"),
    tool("movie_times", "Get the times of a movie", "show_time movie_name location", movie_name="string",
         location="string", show_date="string"),
    tool("buy_tickets", "Buy movie tickets", "", movie_name="string", location="string", show_time="string"),
]  # fmt: skip


def bound(text: str) -> list[dict[str, object]]:
    draft = ZeroShotPlanner(Toolset.of(TOOLS), None).draft(text)
    return [dict(task.arguments) for task in draft.tasks]


@pytest.mark.parametrize("base", ["the gross salary", "it", "the result"])
def test_a_number_is_taken_by_what_it_is_called(base: str) -> None:
    first = "Calculate the gross salary for a basic salary of 2000 dollars and an allowance of 300 dollars"
    tax = bound(f"{first}, then calculate the sales tax on {base} at a tax rate of 5%.")[1]
    assert tax == {"amount": Ref("t1", ("gross_salary",)), "tax_rate": 5}


def test_a_number_that_is_said_is_not_replaced() -> None:
    first = "Calculate the gross salary for a basic salary of 2000 dollars and an allowance of 300 dollars"
    tax = bound(f"{first}, then calculate the sales tax on an amount of 70 dollars at a tax rate of 5%.")[1]
    assert tax == {"amount": 70, "tax_rate": 5}


@pytest.mark.parametrize(
    ("text", "argument", "source"),
    [
        ("Encrypt 'a@b.org' with the key 'k1' and then add a contact named 'Jo Doe' with the encrypted email.", "email",
         "encrypted_data"),
        ("Translate the text 'Guten Tag' into French, then check the grammar of the translated sentence in French.",
         "sentence", "translated_text"),
    ],
)  # fmt: skip
def test_what_something_was_done_to_is_its_output(text: str, argument: str, source: str) -> None:
    assert bound(text)[1][argument] == Ref("t1", (source,))


def test_of_several_outputs_the_one_that_was_made_is_taken() -> None:
    translate = tool("translate", "Translate a text", "detected_language translated_text", text="string", to="string")
    check = tool("check_grammar", "Check the grammar of a sentence", "", sentence="string")
    planner = ZeroShotPlanner(Toolset.of([translate, check]), None)
    draft = planner.draft("Translate the text 'Hallo' to French, then check the grammar of the translated sentence.")
    assert draft.tasks[1].arguments == {"sentence": Ref("t1", ("translated_text",))}


def test_what_was_done_makes_no_identifier_of_another_field() -> None:
    create = tool("create_order", "Create an order", "status", item="string")
    cancel = replace(tool("cancel_order", "Cancel an order", "", order_id="string"), acts=True)
    planner = ZeroShotPlanner(Toolset.of([replace(create, acts=True), cancel]), None)
    draft = planner.draft("Create an order of the item 'Tea', then cancel the created order.")
    assert dict(draft.tasks[1].arguments) == {} and "order_id" in draft.missing[0]


def test_a_number_of_one_thing_is_not_borrowed_for_another() -> None:
    distance = _numbers("calculate_distance", "Calculate the distance between two places", "distance",
                        origin="string", destination="string")  # fmt: skip
    shipping = _numbers("shipping_cost", "Calculate the shipping cost", "shipping_cost", weight="number",
                        distance="number")  # fmt: skip
    planner = ZeroShotPlanner(Toolset.of([*TOOLS, distance, shipping]), None)
    draft = planner.draft(
        "Calculate the shipping cost of 2000 pounds from New York to Los Angeles, then calculate the sales tax at 7.5%."
    )
    assert [(task.node, dict(task.arguments)) for task in draft.tasks] == [
        ("calculate_distance", {"origin": "New York", "destination": "Los Angeles"}),
        ("shipping_cost", {"weight": 2000, "distance": Ref("t1", ("distance",))}),
        ("sales_tax", {"tax_rate": 7.5}),
    ]
    assert "'amount'" in draft.missing[0]


def test_a_value_that_is_passed_through_is_taken_from_where_it_comes() -> None:
    planner = ZeroShotPlanner(Toolset.of(TOOLS), None)
    text = "Find movies in Oslo, get the times of the movie for 2024-03-19 and buy tickets for it."
    draft = planner.over(text, ["find_movies", "movie_times", "buy_tickets"])
    movie = Ref("t1", ("movie_name",))
    assert dict(draft.tasks[1].arguments) == {"movie_name": movie, "location": "Oslo", "show_date": "2024-03-19"}
    assert dict(draft.tasks[2].arguments) == {
        "movie_name": movie, "location": "Oslo", "show_time": Ref("t2", ("show_time",))
    }  # fmt: skip
