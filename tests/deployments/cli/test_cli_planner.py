"""`modelyard train planner` and `modelyard eval planner`: files in, an artefact, plans and figures out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from router.training.plan_fit import PlanTraining, split

NAMES = ("find_flight", "book_flight", "find_hotel", "book_hotel", "send_mail", "rent_car")
PARAMETERS = {"to": {"type": "string", "description": "Recipient's mail address", "required": True}}
PAIRS = (
    ("find_flight", "book_flight"), ("find_hotel", "book_hotel"), ("book_hotel", "send_mail"),
    ("book_flight", "rent_car"), ("find_flight", "find_hotel"),
)  # fmt: skip


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plans(count: int) -> list[dict[str, Any]]:
    found = []
    for number in range(count):
        names = PAIRS[number % len(PAIRS)]
        said = " and then ".join(f"{name.replace('_', ' ')} number {number}" for name in names)
        tasks = [{"id": f"t{i}", "node": name, "arguments": {}} for i, name in enumerate(names, 1)]
        steps = [f"Step {i} Call {name} to {name.replace('_', ' ')} now" for i, name in enumerate(names, 1)]
        found.append(
            {"id": str(number), "request": f"Please {said}", "steps": steps, "tasks": tasks, "links": [["t1", "t2"]]}
        )
    return found


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    rows = [{"name": name, "description": f"Tool to {name.replace('_', ' ')}s"} for name in NAMES]
    rows[4]["parameters"] = PARAMETERS
    return lines(tmp_path / "tools.jsonl", rows)


def test_train_then_measure(cli, tools: Path, tmp_path: Path, tiny_sentence_encoder: Path) -> None:
    train, links = lines(tmp_path / "train.jsonl", plans(40)), lines(tmp_path / "links.jsonl", PAIRS)
    out = tmp_path / "out"
    trained = cli(
        "train", "planner", "--tools", tools, "--links", links, "--train", train, "--out", out,
        "--encoder", tiny_sentence_encoder, "--epochs", 2, "--seed", 3, "--json",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    card = json.loads(trained.stdout)
    assert card["seed"] == 3 and card["plans"] == 30 and card["held"] == 10 and "epoch 1/2" in trained.stderr
    assert {path.name for path in out.iterdir()} == {
        "card.json", "planner.safetensors", "encoder.onnx", "tokenizer.json",
    }  # fmt: skip
    data = tmp_path / "test.jsonl.gz"
    data.write_bytes(gzip.compress(lines(tmp_path / "plain.jsonl", plans(5)).read_bytes()))
    measured = cli(
        "eval", "planner", "--artifact", out, "--tools", tools, "--links", links, "--data", data, "--json",
        "--predictions", tmp_path / "p.jsonl",
    )  # fmt: skip
    assert measured.exit_code == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert found["rows"] == 5 and found["valid"] == 1.0 and found["unseen"]["rows"] == 0 and found["p50_ms"] > 0
    written = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == list("01234")
    allowed = {tuple(pair) for pair in PAIRS}
    for row in written:
        node = {task["id"]: task["node"] for task in row["tasks"]}
        assert all((node[a], node[b]) in allowed for a, b in row["links"])


def test_without_an_artefact_plans_are_made_of_descriptions(
    cli, tools: Path, tmp_path: Path, tiny_sentence_encoder: Path
) -> None:
    row = {
        "id": "a",
        "request": "Send mail to a@b.org",
        "tasks": [{"id": "var1", "node": "send_mail", "arguments": {"to": "a@b.org"}}],
        "links": [],
    }
    own = row | {"id": "b", "tools": [{"name": "send_mail", "description": "Send a mail", "parameters": PARAMETERS}]}
    data = lines(tmp_path / "d.jsonl", [own, row | {"tasks": None}])
    found = cli(
        "eval", "planner", "--tools", tools, "--data", data, "--encoder", tiny_sentence_encoder, "--json",
        "--predictions", tmp_path / "p.jsonl",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    figures = json.loads(found.stdout)
    assert figures["node_f1"] == figures["argument_f1"] == figures["exact"] == figures["valid"] == 1.0
    first = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert first["tasks"] == row["tasks"]


def test_what_is_wrong_with_the_files_is_named(cli, tools: Path, tmp_path: Path) -> None:
    good = lines(tmp_path / "good.jsonl", plans(2))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"request": "a"}\n{"request"\n')
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(good.read_bytes())[:40])
    strange = lines(tmp_path / "strange.jsonl", [{"request": "a", "tasks": [{"id": "t1", "node": "nobody"}]}])
    cases = [
        (tools, broken, "broken.jsonl:2 is no JSON"),
        (tools, cut, "cut.jsonl.gz is a broken gzip file"),
        (tools, lines(tmp_path / "empty.jsonl", []), "empty.jsonl holds no requests"),
        (lines(tmp_path / "none.jsonl", []), good, "none.jsonl holds no tools"),
        (tools, strange, "name none of the 6 tools: they name nobody"),
        (tools, tmp_path / "gone.jsonl", "gone.jsonl cannot be read"),
        (tools, lines(tmp_path / "no.jsonl", [{"request": 5}]), "no.jsonl:1: request must be a text; got 5"),
        (lines(tmp_path / "n.jsonl", [{"description": "x"}]), good, "n.jsonl:1: name must be a text; got None"),
    ]
    for known, data, message in cases:
        found = cli("eval", "planner", "--tools", known, "--data", data, "--json")
        assert found.exit_code == 1 and message in json.loads(found.stdout or found.stderr)["error"]["message"]
    links = lines(tmp_path / "l.jsonl", [["find_flight", "fly"]])
    found = cli("eval", "planner", "--tools", tools, "--links", links, "--data", good)
    assert found.exit_code == 1 and "names 'fly'" in found.stderr
    found = cli("eval", "planner", "--tools", tools, "--data", good, "--artifact", tmp_path)
    assert found.exit_code == 1 and "is no trained planner: has no card.json" in found.stderr


@pytest.mark.parametrize(("plans", "held"), [(30, 10), (200, 20)])
def test_a_tenth_of_the_plans_is_held_out_and_ten_at_least(plans: int, held: int) -> None:
    rows: list[Any] = list(range(plans))
    learned, kept = split(rows, PlanTraining())
    assert (len(learned), len(kept)) == (plans - held, held)
    assert sorted([*learned, *kept]) == rows
