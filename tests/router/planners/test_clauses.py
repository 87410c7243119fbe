from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.planners.clauses import HIDDEN, MAX_CLAUSES, Splitter, mask

SPLITTER = Splitter()


def texts(request: str) -> list[str]:
    return [clause.text for clause in SPLITTER.split(request).clauses]


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (
            "transcribe this recording, explain the legal risk in it, and write a Python function that adds",
            ["transcribe this recording", "explain the legal risk in it", "write a Python function that adds"],
        ),
        ("Explain the terms and conditions of this lease", ["Explain the terms and conditions of this lease"]),
        ("Find and fix the bug in my code", ["Find and fix the bug in my code"]),
        ("Review the test and report", ["Review the test and report"]),
        ("Explain torts; then write a poem", ["Explain torts", "write a poem"]),
        ("1. Explain torts\n2. Write a poem", ["Explain torts", "Write a poem"]),
        ("Please do the following:\n- Explain torts\n- Write a poem", ["Explain torts", "Write a poem"]),
        ("Translate 'do this; then do that and send it'", ["Translate 'do this; then do that and send it'"]),
        ("Explain torts. Keep it short.", ["Explain torts. Keep it short."]),
        ("I have a lease. It has no end date. Is it valid?", ["I have a lease. It has no end date. Is it valid?"]),
        ("What is a tort? How do I sort a list?", ["What is a tort?", "How do I sort a list?"]),
        ("Ask Dr. Smith about torts, e.g. libel", ["Ask Dr. Smith about torts, e.g. libel"]),
        (
            "First, explain torts. Could you help me write a poem about this? Lastly, sum it up.",
            ["explain torts.", "Could you help me write a poem about this?", "sum it up."],
        ),
        ("Write a poem. Additionally, it must rhyme. Then, sum it up.", ["Write a poem. it must rhyme.", "sum it up."]),
        ("Explain torts, puis write a poem", ["Explain torts", "write a poem"]),
        (
            "Can you help me with two things? First, explain torts. Second, I have a lease. It has no end. Is it "
            "valid? Third, I am curious about Rome. Lastly, write a poem. Could you do these for me?",
            [
                "explain torts.",
                "I have a lease. It has no end. Is it valid?",
                "I am curious about Rome.",
                "write a poem.",
            ],
        ),
        ("", []),
        ("  \n ", []),
        ("?!", []),
    ],
)
def test_split(request_text: str, expected: list[str]) -> None:
    assert texts(request_text) == expected


def test_code_blocks_are_never_split() -> None:
    code = "```python\nx = 1; y = 2\nwrite('a'); then = 3\n```"
    assert texts(f"Fix this:\n{code}\nand explain torts") == [f"Fix this:\n{code}", "explain torts"]


def test_order_words_are_noted() -> None:
    clauses = SPLITTER.split("Explain torts, then write a poem and draw a map. After that, sum it up.").clauses
    assert [clause.ordered for clause in clauses] == [False, True, False, True]


def test_the_half_of_an_infinitive_is_soft() -> None:
    clauses = SPLITTER.split("Write a function to load a file and print the keys").clauses
    assert [clause.soft for clause in clauses] == [False, True]


def test_a_pasted_passage_is_material() -> None:
    passage = "The tenant shall pay. Notify the landlord. " * 40
    split = SPLITTER.split(f"Summarize the text below and list its risks:\n\n{passage}")
    assert [clause.text for clause in split.clauses] == ["Summarize the text below", "list its risks:"]
    assert split.material == passage.strip()


def test_a_long_text_alone_is_one_clause() -> None:
    text = "Notify the tenant of it and write a letter. " * 2500
    assert texts(text) != []
    assert len(texts(text)) <= MAX_CLAUSES


def test_too_many_clauses_are_folded_into_the_last() -> None:
    clauses = texts("\n".join(f"- write a poem about topic {i}" for i in range(50)))
    assert len(clauses) == MAX_CLAUSES
    assert "topic 49" in clauses[-1]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "write a poem",
                "and",
                "then",
                ", ",
                "; ",
                "'",
                '"',
                "`",
                "\n",
                "- ",
                "(",
                "it",
                "```",
                "1. ",
                ":",
                "。",
                "x",
            ]
        ),
        max_size=60,
    )
)
def test_any_text_gives_bounded_clauses_made_of_its_words(parts: list[str]) -> None:
    text = " ".join(parts)
    split = SPLITTER.split(text)
    assert len(split.clauses) <= MAX_CLAUSES
    words = set(text.split())
    assert all(word in text for clause in split.clauses for word in clause.text.split())
    assert bool(split.clauses) or not words & {"x", "it"} or not split.material


def test_mask_keeps_positions() -> None:
    text = 'say "a b" and `c`'
    assert mask(text) == f"say {HIDDEN * 5} and {HIDDEN * 3}"


def test_nothing_of_a_long_list_is_lost() -> None:
    clauses = texts("\n".join(f"- write a poem about topic {i}" for i in range(3000)))
    assert len(clauses) == MAX_CLAUSES
    assert "topic 2999" in clauses[-1]


@pytest.mark.parametrize(
    "unit",
    ["and ", ", ", "; ", "write a poem and ", "- a\n", "1) a ", "(", "'", '"a', "```", "please ", " \n", "to a b "],
)
def test_hostile_texts_end(unit: str) -> None:
    # The time limit of the suite is what fails here: quadratic patterns would take minutes for 100,000 characters.
    assert len(texts(unit * (100_000 // len(unit)))) <= MAX_CLAUSES
