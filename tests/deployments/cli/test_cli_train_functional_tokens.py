"""`modelyard train functional-tokens`: nodes and rows in, an artefact out that `modelyard eval router` measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_causal import DESCRIPTIONS, WORDS, lessons, save_llama


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("base"))


def test_train_extend_and_measure(cli, base: Path, tmp_path: Path) -> None:
    described = [{"name": name, "description": text} for name, text in DESCRIPTIONS.items()]
    nodes = write_rows(tmp_path / "nodes.jsonl", described)
    rows = [{"text": row.text, "node": row.node, "rewrite": row.text} for row in lessons()]
    train = write_rows(tmp_path / "train.jsonl", rows)
    out, more = tmp_path / "out", tmp_path / "more"
    common = ("--train", train, "--device", "cpu", "--json")
    done = cli("train", "functional-tokens", "--nodes", nodes, "--out", out, "--base", base, "--epochs", 0, *common)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == list(WORDS)
    assert json.loads((out / "card.json").read_text())["free_rewrites"]

    wider = write_rows(tmp_path / "wider.jsonl", [*described, {"name": "room", "description": "red table"}])
    done = cli("train", "functional-tokens", "--nodes", wider, "--out", more, "--base", out, "--gguf", *common)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == [*WORDS, "room"]
    assert (more / "model.gguf").read_bytes()[:4] == b"GGUF"

    measured = cli("eval", "router", "--artifact", more, "--data", train, "--json")
    assert measured.exit_code == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert found["accuracy"] > 0.8 and found["share_escalated"] == 0 and found["rows"] == len(rows)


def test_examples_in_yaml_suffice(cli, base: Path, tmp_path: Path) -> None:
    for name in WORDS:
        examples = [row.text for row in lessons() if row.node == name]
        spec = {"name": name, "kind": "openai", "description": name, "endpoint": "http://localhost", "model": "m"}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(spec | {"examples": examples}))
    done = cli(
        "train", "functional-tokens", "--nodes", tmp_path, "--out", tmp_path / "out", "--base", base, "--epochs", 0
    )
    assert done.exit_code == 0, done.stderr
    assert "3 nodes" in done.stdout and "epoch 0 of 0" in done.stderr


@pytest.mark.parametrize(
    ("nodes", "train", "message"),
    [
        ('{"name": "a", "description": "b"}', None, "has no examples to learn from"),
        ('{"name": "a", "description": "b"}', '{"text": "x", "node": "c"}', "not declared: 'c'"),
        ('{"name": "a", "description": "b"}', '{"text": "x", "node": "a", "rewrite": 1}', "rewrite must be a string"),
        ("", None, "declares no node"),
    ],
)
def test_bad_input_is_named(cli, base: Path, tmp_path: Path, nodes: str, train: str | None, message: str) -> None:
    file = tmp_path / "nodes.jsonl"
    file.write_text(nodes)
    rows = ()
    if train is not None:
        (tmp_path / "train.jsonl").write_text(train)
        rows = ("--train", tmp_path / "train.jsonl")
    done = cli("train", "functional-tokens", "--nodes", file, "--out", tmp_path / "out", "--base", base, *rows)
    assert done.exit_code == 1 and message in done.stderr and not (tmp_path / "out").exists()
