from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import deployments.cli.evaluate_choice
from deployments.cli.app import build_app
from router.types import Array


class Letters:
    """An encoder that counts words by their checksum."""

    name = "letters"

    def encode(self, texts: Sequence[str]) -> Array:
        found = np.full((len(texts), 32), 1e-3, dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.split():
                row[zlib.crc32(word.encode()) % 32] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments.cli.evaluate_choice, "_encoder", lambda *_: Letters())


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count: int, **extra: Any) -> list[dict[str, Any]]:
    """Sums that both models can do, and poems that only the big one can."""
    kinds = [("add the numbers", {"big": 1, "small": 1}), ("write a poem", {"big": 1, "small": 0})]
    return [
        {"text": f"{text} {index}", "scores": scores | extra}
        for index in range(count)
        for text, scores in [kinds[index % 2]]
    ]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["eval", "choice", *arguments])


def test_figures_predictions_and_report(tmp_path: Path) -> None:
    train, data = write(tmp_path / "train.jsonl", rows(60)), write(tmp_path / "data.jsonl", rows(30))
    out, folder = tmp_path / "new" / "predictions.jsonl", tmp_path / "report"
    result = run("--train", train, "--data", data, "--json", "--predictions", str(out), "--report", str(folder))
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["apgr"] > 0.7 and (figures["strong"], figures["weak"]) == ("big", "small")
    assert (figures["accuracy"], figures["best_single"], figures["oracle"]) == (1, 1, 1)
    assert figures["rows"] == 30 and 0 <= figures["cost"] <= 1
    predictions = [json.loads(line) for line in out.read_text().splitlines()]
    assert [item["text"] for item in predictions] == [row["text"] for row in rows(30)]
    assert all(set(item["scores"]) == {"big", "small"} for item in predictions)
    poems = [item["scores"]["big"] - item["scores"]["small"] for item in predictions[1::2]]
    assert min(poems) > 0.5
    assert "<svg" in (folder / "choice.html").read_text()


def test_costs_of_a_file_and_many_models(tmp_path: Path) -> None:
    train, data = write(tmp_path / "train.jsonl", rows(60, tiny=0)), write(tmp_path / "data.jsonl", rows(30, tiny=0))
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps({"big": 8, "small": 2, "tiny": 1}))
    figures = json.loads(run("--train", train, "--data", data, "--json", "--costs", str(costs)).stdout)
    assert figures["models"] == 3 and figures["weak"] == "tiny" and figures["best_single_cost"] == 8
    table = run("--train", train, "--data", data, "--costs", str(costs)).stdout
    assert "best_single_cost" in table and "8.0000" in table
    costs.write_text(json.dumps({"big": 8}))
    assert "no cost is known of small, tiny" in run("--train", train, "--data", data, "--costs", str(costs)).stderr


@pytest.mark.parametrize(
    ("train", "data", "message"),
    [
        ([], rows(4), "has no rows"),
        (rows(4), [], "has no rows"),
        (rows(4), rows(4, other=1), "has scores of other, but no row of"),
        (rows(4, other=1), rows(4), "has scores of other, but no row of"),
        (rows(4), [{"text": "x", "scores": {"big": "yes"}}], "line 1: scores.big"),
    ],
)
def test_data_that_cannot_be_used_are_named(tmp_path: Path, train: Any, data: Any, message: str) -> None:
    files = write(tmp_path / "train.jsonl", train), write(tmp_path / "data.jsonl", data)
    result = run("--train", files[0], "--data", files[1], "--json")
    assert result.exit_code == 1
    assert message in json.loads(result.stderr)["error"]["message"]
    assert str(tmp_path) in result.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("--train", str(tmp_path / "none.jsonl"), "--data", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 1 and "none.jsonl cannot be read" in result.stderr
