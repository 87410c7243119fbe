"""`modelyard router …`, and the gate in `modelyard nodes add`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_native_service import Service

GATE = {
    "node": "law",
    "verdict": "refuse",
    "reasons": ["42% of 48 held-out requests of 'legal' are nearest to 'law'"],
    "rows": 48,
    "own_rows": 8,
    "live": {"accuracy": 1.0, "calibration_error": 0.01, "out_of_scope": 0.0},
    "candidate": {"accuracy": 0.58, "calibration_error": 0.02, "out_of_scope": None},
    "flips": 20,
    "confusion": [{"node": "legal", "taken": 0.42, "given": 0.5, "overlap": 0.92}],
    "recent": {
        "texts": 60, "taken": 0.1, "moved": 0.0, "live_out_of_scope": 0.2, "candidate_out_of_scope": 0.1,
    },
}  # fmt: skip
CARD = {
    "version": 2,
    "created_at": 0,
    "strategy": "embedding",
    "encoder": "MiniLM",
    "labels": ["law", "legal"],
    "examples": 56,
    "data_sha256": "ab" * 32,
    "nodes": {"law": 1, "legal": 3},
    "change": [{"node": "law", "from": None, "to": 1}, {"node": "old", "from": 1, "to": None}],
    "gate": {"law": GATE},
}
SUGGESTIONS = {
    "requests": 40,
    "doubtful": 7,
    "to_label": [
        {"text": "is\nthis", "node": "law", "probability": 0.5, "margin": 0.1, "request_id": "r9", "stands_for": 4}
    ],
    "missing": [{"name": "roses", "words": ["roses"], "count": 5, "samples": ["prune"], "yaml": "name: roses\n"}],
}
LEARNED = {
    "labels": 1,
    "dry_run": False,
    "nodes": [{"node": "law", "added": 3, "from": {"key_a": 2, "operator": 1}, "version": 2, "gate": GATE}],
}


@pytest.fixture
def routed(service: Service) -> Service:
    service.router = {
        ("GET", "/v1/router"): CARD,
        ("GET", "/v1/router/versions"): {"data": [CARD]},
        ("GET", "/v1/router/suggestions"): SUGGESTIONS,
        ("POST", "/v1/router/learn"): LEARNED,
    }
    return service


def test_the_card_and_the_versions_are_shown(modelyard, routed):
    shown = modelyard("router", "show")
    assert shown.exit_code == 0, shown.output
    assert "version 2" in shown.stdout and "law, legal" in shown.stdout and "refuse" in shown.stdout
    assert json.loads(modelyard("router", "show", "--json").stdout)["version"] == 2
    listed = modelyard("router", "versions").stdout
    assert "+law v1, -old" in listed and "refuse" in listed
    assert json.loads(modelyard("router", "versions", "--json").stdout)["versions"][0]["examples"] == 56


def test_suggestions_are_shown_and_proposals_written(modelyard, routed, tmp_path: Path):
    result = modelyard("router", "suggest", "--budget", "5", "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "r9" in result.stdout and "is this" in result.stdout and "5 requests out of scope" in result.stdout
    assert (tmp_path / "new" / "roses.yaml").read_text() == "name: roses\n"
    assert any("budget=5" in path for _, path, _ in routed.seen)
    assert json.loads(modelyard("router", "suggest", "--json").stdout)["doubtful"] == 7
    routed.router |= {("GET", "/v1/router/suggestions"): SUGGESTIONS | {"missing": []}}
    none = modelyard("router", "suggest", "--out", tmp_path / "none")
    assert none.exit_code == 0 and "no expert is missing" in none.stdout and not (tmp_path / "none").exists()


def test_learning_fails_where_the_gate_refuses(modelyard, routed):
    result = modelyard("router", "learn")
    assert result.exit_code == 1 and "42% of 48" in result.stdout and "key_a 2, operator 1" in result.stdout
    forced = modelyard("router", "learn", "--force", "--json")
    assert forced.exit_code == 0 and json.loads(forced.stdout)["labels"] == 1
    assert any("force=true" in path for _, path, _ in routed.seen)


def write(tmp_path: Path) -> Path:
    file = tmp_path / "law.yaml"
    file.write_text("name: law\nkind: openai\ndescription: Law.\nmodel: m\nendpoint: https://x.example/v1\n")
    return file


def test_a_refused_node_shows_why(modelyard, service, tmp_path):
    service.gate = (409, GATE)
    result = modelyard("nodes", "add", write(tmp_path))
    assert result.exit_code == 1 and "42% of 48" in result.stdout and "0.92" in result.stdout
    (node,) = json.loads(modelyard("nodes", "add", write(tmp_path), "--json").stdout)["nodes"]
    assert (node["state"], node["gate"]["verdict"]) == ("failed", "refuse")
    assert node["error"]["message"] == "refused; --force applies it"


def test_a_dry_run_shows_the_report_and_fails_where_adding_would(modelyard, service, tmp_path):
    service.gate = (200, GATE)
    result = modelyard("nodes", "add", write(tmp_path), "--dry-run")
    assert result.exit_code == 1
    assert "100.0%" in result.stdout and "58.0%" in result.stdout and "20 of 48" in result.stdout
    forced = modelyard("nodes", "add", write(tmp_path), "--dry-run", "--force")
    assert forced.exit_code == 0 and any("force=true" in path for _, path, _ in service.seen)
    service.gate = (200, GATE | {"verdict": "flag"})
    assert modelyard("nodes", "add", write(tmp_path), "--dry-run").exit_code == 0
