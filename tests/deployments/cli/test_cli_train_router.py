"""`modelyard train router` and `modelyard eval router`: files in, an artefact and figures out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures_router import node_lines, noisy_rows, write_lines

FIGURES = {
    "accuracy", "oos_recall", "in_scope_accuracy_with_rejection", "auroc", "fpr95", "ece", "p50_ms", "p99_ms",
    "share_escalated", "mean_ms", "rows",
}  # fmt: skip


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "nodes.jsonl", node_lines())


def test_train_then_measure(cli, nodes: Path, tmp_path: Path, tiny_sentence_encoder: Path) -> None:
    train = write_lines(tmp_path / "train.jsonl", noisy_rows(8, seed=3, outside=10))
    out = tmp_path / "out"
    trained = cli(
        "train", "router", "--nodes", nodes, "--train", train, "--val", train, "--out", out,
        "--encoder", tiny_sentence_encoder, "--seed", 4, "--coverage", 0.9, "--json",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.stderr
    card = json.loads(trained.stdout)
    assert card["seed"] == 4 and card["labels"] == 5 and "cross-validation" in trained.stderr
    assert "training rows (the nodes' examples with them, none twice)" in " ".join(trained.stderr.split())
    data = write_lines(tmp_path / "test.jsonl", noisy_rows(4, seed=5, outside=8)[4:])
    measured = cli(
        "eval", "router", "--artifact", out, "--data", data, "--json",
        "--predictions", tmp_path / "p.jsonl", "--report", tmp_path / "report",
    )  # fmt: skip
    assert measured.exit_code == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert set(found) == FIGURES and found["rows"] == 24 and 0 <= found["accuracy"] <= 1
    assert "1 of 5 nodes have no rows" in measured.stderr and "fruit" in measured.stderr
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and set(lines[0]) >= {"text", "node", "probability", "out_of_scope"}
    assert all((line["node"] is None) == line["out_of_scope"] for line in lines)
    page = (tmp_path / "report" / "router.html").read_text()
    assert page.count("<svg") == 4 and "Confusion" in page and "http-equiv" not in page and "src=" not in page


def test_figures_without_json_are_a_table(cli, trained_folder: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "in.jsonl", noisy_rows(2, seed=6))
    shown = cli("eval", "router", "--artifact", trained_folder, "--data", data)
    assert shown.exit_code == 0 and "accuracy" in shown.stdout and "auroc" in shown.stdout
    assert [line.split()[-1] for line in shown.stdout.splitlines() if line.startswith("auroc")] == ["-"]


def test_what_is_wrong_with_the_files_is_named(cli, nodes: Path, trained_folder: Path, tmp_path: Path) -> None:
    strange = write_lines(tmp_path / "strange.jsonl", [{"text": "a", "node": "nobody"}])
    empty = write_lines(tmp_path / "empty.jsonl", [])
    out = tmp_path / "out"
    cases = [
        (("train", "router", "--nodes", nodes, "--train", strange, "--out", out), "no known node: nobody"),
        (("train", "router", "--nodes", nodes, "--train", empty, "--out", out), "holds no rows"),
        (("train", "router", "--nodes", empty, "--train", strange, "--out", out), "declares no node"),
        (("train", "router", "--nodes", tmp_path / "none", "--train", strange, "--out", out), "cannot be read"),
        (("eval", "router", "--artifact", tmp_path, "--data", strange), "is no trained router: has no card.json"),
        (("eval", "router", "--artifact", trained_folder, "--data", strange), "no known node: nobody"),
        (("eval", "router", "--artifact", trained_folder, "--data", empty), "holds no rows"),
    ]
    for arguments, message in cases:
        result = cli(*arguments, "--json")
        assert result.exit_code == 1 and message in json.loads(result.stderr)["error"]["message"], arguments
    assert not out.exists()


def test_an_encoder_that_is_none_is_named(cli, nodes: Path, tmp_path: Path) -> None:
    train = write_lines(tmp_path / "train.jsonl", noisy_rows(2, seed=3))
    arguments = ("train", "router", "--nodes", nodes, "--train", train, "--out", tmp_path / "out")
    for encoder in ("pkg://not_installed_at_all/model", tmp_path):
        result = cli(*arguments, "--encoder", encoder, "--json")
        assert result.exit_code == 1 and str(encoder) in json.loads(result.stderr.splitlines()[-1])["error"]["message"]
    assert cli(*arguments, "--coverage", 0.9, "--oos-recall", 0.9).exit_code == 2
