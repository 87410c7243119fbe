"""Which regular expressions a spec may have."""

from __future__ import annotations

import pytest

from graph.pattern import MOST, check_pattern


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "as Python's `re` takes them: missing"),
        ("a{99999999999}", "as Python's `re` takes them: the repetition number is too large"),
        ("(" * 500 + ")" * 500, "as Python's `re` takes them: "),
        (f"a{{{MOST}}}", "smaller"),
        ("(?:a{100}){100}", "smaller"),
        ("(?:[]x{1}]{100}|b){100}", "smaller"),
        (r"(?:(?:\(\[){50,}c){200,}", "smaller"),
        ("(?:" * 20 + "a" + ")+" * 20, "smaller"),
        ("(?x)a # [\n{10000000}", "without comments"),
        ("(?s-x:a)(?#[)b{10000000}", "without comments"),
    ],
)
def test_what_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "(?i)as an ai|i (?:cannot|can't) help",
        r"^\s*\{.*\}\s*$",
        r"(?:\w+\s+){3,2000}\w+",
        "[^]a{900000}]+",
        r"\{900000}",
        "(?:(?:a+)+)+",
        r"\[\d{1,3}\]",
        "a{,5}b",
        "{x}",
    ],
)
def test_expressions_as_people_write_them(pattern: str) -> None:
    check_pattern(pattern)
