from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router.choice.correctness import ChoiceDataError, ChoiceRow, Correctness, read_correctness, read_costs

GOOD = {"text": "two and two", "scores": {"b": 1, "a": 0.5}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_rows_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    rows = [GOOD, {"text": "x", "scores": {"c": 0, "a": None}, "costs": {"c": 2}}]
    plain = write(tmp_path / "rows.jsonl", *rows)
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        data = read_correctness(path)
        assert data.models == ("a", "b", "c")
        np.testing.assert_array_equal(data.scores, np.array([[0.5, 1, np.nan], [np.nan, np.nan, 0]], np.float32))
        assert data.costs[1, 2] == 2 and np.isnan(data.costs[0]).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: text"),
        ({"text": " ", "scores": {"a": 1}}, "line 2: text: must be a text that is not empty; got ' '"),
        ({"text": "x"}, "line 2: scores: must be an object"),
        ({"text": "x", "scores": {}}, "line 2: scores"),
        ({"text": "x", "scores": {"a": "1"}}, "line 2: scores.a: must be a number that is not negative; got '1'"),
        ({"text": "x", "scores": {"a": 2}}, "line 2: scores.a: must lie between 0"),
        ({"text": "x", "scores": {"a": -1}}, "line 2: scores.a: must be a number"),
        ({"text": "x", "scores": {"a": 1}, "costs": [1]}, "line 2: costs"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(ChoiceDataError) as caught:
        read_correctness(write(tmp_path / "rows.jsonl", GOOD, row))
    assert message in str(caught.value)


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChoiceDataError, match="has no rows"):
        read_correctness(write(tmp_path / "empty.jsonl", "", "  "))
    with pytest.raises(ChoiceDataError, match="cannot be read"):
        read_correctness(tmp_path / "none.jsonl")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"{}" * 100)[:20])
    with pytest.raises(ChoiceDataError, match="cannot be read"):
        read_correctness(tmp_path / "cut.gz")


def test_costs_are_one_object_of_numbers(tmp_path: Path) -> None:
    assert read_costs(write(tmp_path / "c.json", {"a": 1, "b": 0.5})) == {"a": 1.0, "b": 0.5}
    for wrong, message in (([], "one JSON object"), ({"a": "x"}, "cost of 'a'"), ("{", "as JSON")):
        with pytest.raises(ChoiceDataError, match=message):
            read_costs(write(tmp_path / "c.json", wrong))


def test_feedback_is_added_without_changing_what_was_known() -> None:
    data = Correctness.of([ChoiceRow("one", {"a": 1}), ChoiceRow("two", {"a": 0, "b": 1})])
    more = data.updated([("one", "b", 0.25), ("two", "a", 1), ("three", "c", 0)])
    assert data.models == ("a", "b") and len(data) == 2
    assert more.texts == ("one", "two", "three") and more.models == ("a", "b", "c")
    expected = [[1, 0.25, np.nan], [1, 1, np.nan], [np.nan, np.nan, 0]]
    np.testing.assert_array_equal(more.scores, np.array(expected, np.float32))
    with pytest.raises(ChoiceDataError, match="score of 'a'"):
        data.updated([("one", "a", 3)])


def test_rows_can_be_taken_and_columns_aligned() -> None:
    data = Correctness.of([ChoiceRow("one", {"a": 1, "b": 0}), ChoiceRow("two", {"a": 0})])
    assert data.take(np.array([1])).texts == ("two",)
    aligned = data.aligned(["b", "z", "a"])
    np.testing.assert_array_equal(aligned.scores, np.array([[0, np.nan, 1], [np.nan, np.nan, 0]], np.float32))
