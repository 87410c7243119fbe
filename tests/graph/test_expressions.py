"""Expressions: what they compute, what they refuse, and that nothing but values is reached."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.expressions import effort
from graph.expressions.evaluation import evaluate, holds
from graph.expressions.functions import MAX_TEXT
from graph.expressions.parser import ARITIES, MAX_DEPTH, MAX_LENGTH, Expression
from graph.expressions.syntax import Absent, InvalidExpression

VALUES: dict[str, Any] = {
    "t1": {"score": 0.7, "items": [3, 1, 2], "n": "5", "people": [{"name": "Ann"}, {"name": "Bo"}], "none": None},
    "words": "plain words",
    "said": '{"city": "Ulm", "days": [1]}',
    "my-task": "dashed",
    "digits": "5" * 5000,
    "endless": float("inf"),
}


def value(source: str) -> Any:
    if source not in VALUES:
        raise Absent(f"task {source!r} gave no output")
    return VALUES[source]


def compute(text: str) -> Any:
    return evaluate(Expression.parse(text), value, lambda id: "ok" if id in VALUES else "failed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t1.score > 0.5 && size(t1.items) == 3", True),
        ("t1.score < 0.5 || !(words == 'plain words')", False),
        ("1 + 2 * 3 - 4 / 2 % 3", 5.0),
        ("-t1.score + 1 >= 0.3 ? 'yes' : 'no'", "yes"),
        ("join(t1.items, ', ') + '!'", "3, 1, 2!"),
        ("join(pluck(t1.people, 'name'), ' and ')", "Ann and Bo"),
        ("flatten([t1.items, [4], 5])", [3, 1, 2, 4, 5]),
        ("t1.items[-1] + t1['items'][0]", 5),
        ("[min(t1.items), max(t1.items), sum(t1.items), first(t1.items), last(t1.items)]", [1, 3, 6, 3, 2]),
        ("number(t1.n) + 1", 6),
        ("number('1.5e1')", 15.0),
        ("text(t1.items) + text('x')", "[3, 1, 2]x"),
        ("upper(trim(' a ')) + lower('B') + text(round(1.6))", "Ab2"),
        ("'plain' in words && contains(words, 'words') && 3 in t1.items && 'score' in t1", True),
        ("starts_with(words, 'plain') && !ends_with(words, 'plain')", True),
        ("split('a,b', ',')", ["a", "b"]),
        ("words.text + said.city + said.days[0] in ['x']", None),
        ("words.text + said.city", "plain wordsUlm"),
        ("tasks['my-task'] + \"\\u00e9\\n\"", "dashedé\n"),
        ("has(t1.score) && !has(t1.none) && !has(t1.nothing) && !has(gone.x)", True),
        ("default(gone.text, t1.none, t1.n)", "5"),
        ("[status(gone), status(t1)]", ["failed", "ok"]),
        ("true == 1 || '1' == 1 || null == false", False),
        ("1 == 1.0", True),
        ("'\\ud83d\\ude00'", "😀"),
        ("false && gone.x > 1", False),
    ],
)  # fmt: skip
def test_what_an_expression_computes(text: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(InvalidExpression):
            compute(text)
    else:
        assert compute(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found the end"),
        ("1 +", "expected a value, a task or a function, found the end"),
        ("(1", "expected ')', found the end"),
        ("a b", "found 'b' at character 3"),
        ("a = 1", "'= 1' at character 3 is no part"),
        ("foo(1)", "no function is called 'foo'; there is contains, default"),
        ("size()", "size() takes 1 argument(s), got 0"),
        ("default(t1)", "default() takes 2 to 8 argument(s), got 1"),
        ("t1.", "expected a field's name"),
        ("1 < 2 < 3", "found '<' at character 7"),
        ("'open", "no part of an expression"),
        ("lambda: 1", "expected an operator or the end, found ':'"),
        ("x" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH}"),
        ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH}"),
        ("a" + ".a" * MAX_DEPTH, f"nested deeper than {MAX_DEPTH}"),
        ("-" * MAX_DEPTH + "1", f"nested deeper than {MAX_DEPTH}"),
        ("1" + "+1" * MAX_DEPTH, f"nested deeper than {MAX_DEPTH}"),
        ("1e999", "1e999 is larger than any number here"),
        ("9" * 400, "is larger than any number here"),
        ("words == '\\ud83d'", "of half a character"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        Expression.parse(text)
    assert said in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t1.scroe > 1", "'t1.scroe > 1': t1.scroe: no field text 'scroe'; there is score, items, n"),
        ("t1.n > 3", "text '5' is no number: use number()"),
        ("t1.items[7]", "no item 7; the list has 3"),
        ("words.city", "text 'plain words' has no field text 'city'"),
        ("gone.x == 1", "task 'gone' gave no output"),
        ("1 / 0", "division by zero"),
        ("1e300 * 10", "no finite number"),
        ("number('1e999')", "no finite number"),
        ("number('1_000')", "text '1_000' is no number"),
        ("!t1.n", "text '5' is neither true nor false: compare it"),
        ("'a' + 1", "text 'a' and 1 are not alike: use text() or number()"),
        ("size(1)", "1 is no text, list or object"),
        ("split('a', '')", "the separator is empty"),
        ("min([])", "the list is empty"),
        ("status('x')", "status() takes a task"),
        ("t1.items['²']", "is no index of a list"),
        ("t1.items['--1']", "is no index of a list"),
        ("t1.items[digits]", "is no index of a list"),
        ("round(endless)", "inf is no finite number"),
    ],
)
def test_what_cannot_be_computed_names_the_value(text: str, said: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compute(text)
    assert said in caught.value.message


def test_a_condition_is_true_or_false() -> None:
    assert holds(Expression.parse("t1.score > 0"), value, lambda id: "ok")
    with pytest.raises(InvalidExpression, match="a condition is true or false: compare it"):
        holds(Expression.parse("t1.score"), value, lambda id: "ok")


def test_a_value_cannot_grow_without_end() -> None:
    VALUES["long"] = "x" * MAX_TEXT
    try:
        with pytest.raises(InvalidExpression, match="at most 1000000"):
            compute("long + long")
        with pytest.raises(InvalidExpression, match="at most 1000000"):
            compute("join([1, 2, 3], long)")
    finally:
        del VALUES["long"]


def test_an_evaluation_cannot_look_at_values_without_end() -> None:
    expression = Expression.parse("[" + ", ".join(["contains(long, 7)"] * 100) + "]")
    with pytest.raises(InvalidExpression, match="looks at too many values"):
        evaluate(expression, lambda _: list(range(100_000)), lambda _: "ok")


def test_a_text_is_read_as_json_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(effort, "parsed_object", lambda text: read.append(text) or {"a": 1})
    seen, said = effort.Effort(), Expression.parse("[" + ", ".join(["said.a"] * 100) + "]")
    for _ in range(3):
        evaluate(said, value, lambda _: "ok", seen)
    assert read == [VALUES["said"]]


def test_what_an_expression_refers_to_is_known_before_it_is_computed() -> None:
    read = Expression.parse("has(a.x) && b.y > default(c, tasks['d-1']) && 'e' != \"f\"")
    assert (read.sources, read.guarded) == ({"a", "b", "c", "d-1"}, {"a", "c", "d-1"})


@pytest.mark.parametrize("text", ["__import__('os')", "t1.__class__", "().__class__", "size.x", "t1.items.append"])
def test_nothing_of_python_is_reached(text: str) -> None:
    with pytest.raises(InvalidExpression):
        compute(text)


PIECES = "t1 words said gone .items .x [0] ( ) [ ] , 1 0 2.5 'a' true null + - * / % == < in && || ! ? :".split()
PIECES += [f"{name}(" for name in ARITIES]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join) | st.text(max_size=30))
def test_any_text_gives_json_or_a_clear_error(text: str) -> None:
    try:
        found = compute(text)
    except InvalidExpression as error:
        assert error.message
    else:
        assert isinstance(found, (bool, int, float, str, list, dict, type(None)))
