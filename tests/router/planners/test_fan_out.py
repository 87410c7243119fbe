"""How often a text calls one tool, and what each call has."""

from __future__ import annotations

import pytest

from router.planners.completion import complete
from router.planners.fan_out import fan_out
from router.planners.fitting import fit
from router.planners.siblings import siblings
from router.planners.toolset import Parameter, Tool
from router.planners.values import mentions


def tool(name: str, **kinds: str) -> Tool:
    """Build a tool; `!` before a type makes the parameter optional, `|` between words makes them its choices."""
    return Tool(
        name,
        parameters=tuple(
            Parameter(key, "string", choices=tuple(kind.split("|")))
            if "|" in kind
            else Parameter(key, kind.strip("!"), required=not kind.startswith("!"))
            for key, kind in kinds.items()
        ),
    )


WEATHER = tool("get_weather", city="string")
AREA = tool("circle_area", radius="integer")
LOAN = tool("monthly_payment", loan_amount="integer", interest_rate="number", loan_term="integer")


@pytest.mark.parametrize(
    ("asked", "text", "wanted"),
    [
        (WEATHER, "Get the weather in Rome, Oslo and Bern", ["Rome", "Oslo", "Bern"]),
        (WEATHER, "Get the weather in Miami, Florida and Austin, Texas", ["Miami, Florida", "Austin, Texas"]),
        (WEATHER, "Get the weather in Rome. Then do the same for Oslo and Bern", ["Rome", "Oslo", "Bern"]),
        (
            tool("weather", city="!string", unit="C|F"),
            "The weather in Oslo, Bergen and Rome",
            ["Oslo", "Bergen", "Rome"],
        ),
        (AREA, "The area of two circles, one with a radius of 5 m and another with a radius of 10 m", [5, 10]),
    ],
    ids=["list", "towns with their states", "the same for others", "one that may be left out", "given again"],
)
def test_a_parameter_with_several_values_is_several_calls(asked: Tool, text: str, wanted: list[object]) -> None:
    name = asked.parameters[0].name
    assert [call.values.get(name) for call in fan_out(asked, text)] == wanted


def test_what_is_said_once_is_shared() -> None:
    text = "The payment of a loan amount of $400,000 at an interest rate of 4% with a loan term of 15, 20 and 30 years"
    calls = fan_out(LOAN, text)
    assert [call.values["loan_term"] for call in calls] == [15, 20, 30]
    assert {"400,000" in call.text for call in calls} == {True}


def test_two_lists_are_combined_unless_they_go_together_respectively() -> None:
    plays = tool("play", artist="string", minutes="integer")
    text = "Play songs of the artists Abba and Queen for 20 and 15 minutes"
    assert len(fan_out(plays, text)) == 4
    assert [tuple(call.values.values()) for call in fan_out(plays, f"{text} respectively")] == [
        ("Abba", 20),
        ("Queen", 15),
    ]


def test_what_goes_together_is_sent_together() -> None:
    send = tool("send_sms", phone="string", text="string")
    calls = fan_out(send, "send 'hello' to +4791234567 and 'bye' to +4791111111")
    assert [call.values for call in calls] == [
        {"text": "hello", "phone": "+4791234567"},
        {"text": "bye", "phone": "+4791111111"},
    ]


def test_choices_ahead_of_what_goes_together_are_meant_for_each() -> None:
    case = tool("case_status", case_number="string", court="string", detail="status|trial date")
    text = "The status and trial date of case number XY12 in the Oslo Court, and case number GH56 in the Rome Court"
    calls = fan_out(case, text)
    assert [(call.values["case_number"], call.values["detail"]) for call in calls] == [
        ("XY12", "status"),
        ("XY12", "trial date"),
        ("GH56", "status"),
        ("GH56", "trial date"),
    ]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (tool("distance", start_city="string", end_city="string"), "The distance between Rome and Oslo"),
        (tool("weather", city="string", days="integer"), "The weather in New York, USA for the next 3 days"),
        (tool("solve", a="integer", b="integer", c="integer"), "Solve it where a=2, b=6, and c=5"),
        (tool("rank", team="array"), "The rank of Barcelona and Milan"),
        (tool("book", hotel="string", check_in_date="string"), "Book the Ritz from October 15, 2023 on"),
        (tool("dividend", payout="integer", shares="integer"), "The dividend for a payout of 1000 and 50 shares"),
    ],
    ids=[
        "siblings",
        "a place and its country",
        "letters",
        "a parameter for the whole list",
        "a year in a date",
        "the next parameter's words behind a value",
    ],
)
def test_values_of_several_parameters_are_one_call(asked: Tool, text: str) -> None:
    assert len(fan_out(asked, text)) == 1


def test_siblings_differ_only_in_their_part() -> None:
    one, two, other = Parameter("number1", "integer"), Parameter("number2", "integer"), Parameter("limit", "integer")
    assert siblings(one, two)
    assert not siblings(one, other)


def test_plain_words_after_a_preposition_go_to_a_missing_parameter() -> None:
    recipe = tool("find_recipe", dish="string")
    assert complete(recipe, "Find me a recipe for vegetable lasagna.", {}, recipe.required) == {
        "dish": "vegetable lasagna"
    }


def test_a_parameter_for_a_list_takes_one_plain_phrase() -> None:
    lawyers = tool("find_lawyer", specialty="array")
    assert complete(lawyers, "A lawyer for family law", {}, lawyers.required) == {"specialty": ["family law"]}


@pytest.mark.parametrize("name", ["user_id", "file_path", "due_date"])
def test_plain_words_are_no_identifier_file_or_date(name: str) -> None:
    asked = tool("do_it", **{name: "string"})
    assert complete(asked, "Please do it for my neighbour", {}, asked.required) == {}


def test_a_formula_and_a_choice_are_read_from_the_words() -> None:
    asked = tool("integrate", function="string", method="trapezoid|simpson")
    found = complete(asked, "Integrate 3x^2 + 2x - 1 by the trapezoids", {}, asked.required)
    assert found == {"function": "3x^2 + 2x - 1", "method": "trapezoid"}


def test_numbers_in_letters_say_how_many_unless_a_parameter_is_named() -> None:
    assert complete(AREA, "The area of two circles", {}, AREA.required) == {}
    guests = tool("book", guests="integer")
    assert complete(guests, "A table for two guests", {}, guests.required) == {"guests": 2}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("I'm in London. Then, I'm flying to Paris", ["London", "Paris"]),
        ("I\u2019ve been in Rome and I'd go to Oslo", ["Rome", "Oslo"]),
        ("What's on in Bern, and what's new there?", ["Bern"]),
        ("Where do I watch It Follows in Rome?", ["It Follows", "Rome"]),
    ],
    ids=["I'm", "typographic", "What's", "a title"],
)
def test_short_forms_that_begin_a_clause_are_no_names(text: str, wanted: list[str]) -> None:
    assert [item.value for item in mentions(text)] == wanted


def test_the_first_one_is_no_number() -> None:
    text = "The first one has radius 5, the last one has 7; of the last three years take one."
    assert [item.value for item in mentions(text) if item.kind == "number"] == [5, 7, 3, 1]


def test_exponents_and_kelvin_are_no_numbers_of_their_own() -> None:
    found = mentions("accelerate at 4 m/s^2 at 298K and pay $10k")
    assert [item.value for item in found if item.kind == "number"] == [4, 298, 10000]


def test_a_long_passage_is_one_call_and_is_read_in_part() -> None:
    passage = "the radius of 5 and " * 5000
    assert [len(call.text) for call in fan_out(AREA, passage)] == [len(passage)]
    asked = tool("solve", equation="string", topic="string")
    assert complete(asked, "(" * 50_000, {}, asked.required) == {}


GCD = tool("calculate_gcd", num1="integer", num2="integer")
FORECAST = tool("forecast", city="string", days="integer")
WIRE = tool("resistance", length="number", resistivity="!string")


@pytest.mark.parametrize(
    ("asked", "text", "wanted"),
    [
        (tool("mean", numbers="array"), "The mean of [1, 2] and [4, 5]", [{"numbers": [1, 2]}, {"numbers": [4, 5]}]),
        (GCD, "The GCD of 3 and 4, 5 and 12", [{"num1": 3, "num2": 4}, {"num1": 5, "num2": 12}]),
        (GCD, "The GCD of 30 and 40", [{}]),
        (
            FORECAST,
            "Get the forecast for the next 3 days and for the next 7 days in both Oslo and Rome",
            [{"city": city, "days": days} for days in (3, 7) for city in ("Oslo", "Rome")],
        ),
        (
            WIRE,
            "The resistance of a wire of length 5 with resistivity of copper and aluminum",
            [{"length": 5, "resistivity": metal} for metal in ("copper", "aluminum")],
        ),
    ],
    ids=["lists", "siblings in turn", "one pair", "both", "named list"],
)
def test_values_of_several_parameters_make_calls(asked: Tool, text: str, wanted: list[dict[str, object]]) -> None:
    assert [call.values for call in fan_out(asked, text)] == wanted


def test_a_speed_is_known_by_its_unit() -> None:
    item = Parameter("velocity", "number")
    fast, light = mentions("a body of 10 m/s and 10 kg")
    assert fit(item, fast, 0, Tool("energy", parameters=(item,))) > fit(item, light, 0, Tool("energy"))


def test_a_value_that_a_description_names_is_meant() -> None:
    field, other = Parameter("field", "string", "one of open, close or high"), Parameter("place", "string")
    (value,) = mentions("tell me the 'close'")
    assert fit(field, value, 0, Tool("price")) > fit(other, value, 0, Tool("price"))


def test_a_list_that_one_caller_changes_is_whole_for_the_next() -> None:
    mentions("add [1, 2]")[0].value.append(3)
    assert mentions("add [1, 2]")[0].value == [1, 2]
