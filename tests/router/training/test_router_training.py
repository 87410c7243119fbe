from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures_router import SIGNALS, node_lines, noisy_rows, write_lines

from graph.errors import InvalidRequest
from graph.spec import NodeSpec
from router.artifact import ARRAYS, CARD, ENCODER, load_artifact, read_card
from router.evaluation.router_report import judge
from router.scorers.keyword import KeywordScorer
from router.training import fit
from router.training.calibrate import Held, Wanted, choose_escalation, fit_stage, probabilities
from router.training.data import LabelledNode, LabelledRow, make_data, read_nodes, read_requests
from router.training.fit import Training, train_router


def unseen(each: int = 20) -> list[LabelledRow]:
    return [LabelledRow(str(row["text"]), row["node"]) for row in noisy_rows(each, seed=9, outside=40)]


def keyword_accuracy(each: int, rows: list[LabelledRow]) -> float:
    texts: dict[str, list[str]] = {}
    for row in noisy_rows(each, seed=1):
        texts.setdefault(str(row["node"]), []).append(str(row["text"]))
    scorer = KeywordScorer.fit(
        [NodeSpec(name=n, kind="k", description=f"about {n}", examples=tuple(texts[n])) for n in SIGNALS]
    )
    best = scorer.score([row.text for row in rows]).probabilities.argmax(axis=1)
    return float(np.mean([scorer.labels[b] == row.node for b, row in zip(best, rows, strict=True)]))


def test_a_router_of_few_rows_beats_keywords(trained_folder: Path) -> None:
    rows = unseen(60)
    specs = [NodeSpec(name=name, kind="k", description=f"about {name}") for name in SIGNALS]
    judged = judge(load_artifact(trained_folder).scorer.for_nodes(specs), rows)
    inside = judged.truth >= 0
    accuracy = judged.right[inside].mean()
    assert accuracy > 0.05 + keyword_accuracy(16, [row for row in rows if row.node is not None])
    assert judged.refused[inside].mean() < 0.3


def test_with_rows_enough_the_encoder_is_tuned(
    tiny_sentence_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "ENOUGH_ROWS", 100)
    nodes = [LabelledNode(name, f"about {name}") for name in SIGNALS]
    train = [LabelledRow(str(r["text"]), r["node"]) for r in noisy_rows(40, seed=2)]
    lines: list[str] = []
    artifact = train_router(make_data(nodes, train), tiny_sentence_encoder, tmp_path / "out", Training(), lines.append)
    assert artifact.card["training"]["fine_tuned"] and any("encoder epoch" in line for line in lines)
    assert any("strangers are made" in line for line in lines)
    judged = judge(artifact.scorer, unseen())
    assert judged.right[judged.truth >= 0].mean() > 0.9
    assert np.median(judged.in_scope[judged.truth >= 0]) > np.median(judged.in_scope[judged.truth < 0])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        CARD, ENCODER, ARRAYS, "tokenizer.json"
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_router(tiny_sentence_encoder: Path, trained_folder: Path, tmp_path: Path) -> None:
    rows = read_requests(trained_folder.parent / "train.jsonl")
    data = make_data(read_nodes(trained_folder.parent / "nodes.jsonl"), rows)
    again = train_router(data, tiny_sentence_encoder, tmp_path / "again", Training(), lambda line: None)
    texts = [row.text for row in unseen(4)]
    first, second = load_artifact(trained_folder).scorer.score(texts), again.scorer.score(texts)
    assert np.allclose(first.probabilities, second.probabilities, atol=1e-4)
    assert read_card(trained_folder)["data"]["sha256"] == again.card["data"]["sha256"]


def test_the_card_says_what_was_learned(trained_folder: Path) -> None:
    card = read_card(trained_folder)
    assert card["labels"] == [*sorted(SIGNALS), "birds"] and card["seed"] == 0
    assert (trained_folder / ARRAYS).stat().st_mode & 0o777 == 0o644
    assert card["data"]["untrained_labels"] == ["birds"] and card["data"]["train_rows"] == 100
    assert 0.6 < card["metrics"]["accuracy"] <= 1 and set(card["versions"]) >= {"torch", "onnxruntime"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / CARD).unlink(), "has no card.json; a trained router is a folder that"),
        (lambda f: (f / CARD).write_text("{"), "card.json is no JSON"),
        (lambda f: (f / CARD).write_text('{"format": 9}'), "card.json has format 9; this version reads formats 1 to 2"),
        (lambda f: (f / CARD).write_text('{"format": 1, "labels": []}'), "names no labels"),
        (lambda f: (f / CARD).write_text('{"format": 1, "labels": ["a"]}'), "has no escalate_below"),
        (lambda f: (f / ARRAYS).write_bytes(b"not tensors"), "router.safetensors cannot be read"),
        (lambda f: (f / ENCODER).write_bytes(b"not a model"), "encoder.onnx cannot be read"),
        (
            lambda f: (f / CARD).write_text('{"format": 1, "labels": ["a"], "escalate_below": 0.5, "max_tokens": 9}'),
            "do not belong together",
        ),
    ],
)
def test_a_broken_artefact_is_named(trained_folder: Path, tmp_path: Path, spoil, message: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(trained_folder, folder)
    spoil(folder)
    with pytest.raises(InvalidRequest, match=message):
        load_artifact(folder)


def test_nodes_come_and_go_without_training(trained_folder: Path) -> None:
    scorer = load_artifact(trained_folder).scorer
    strange = NodeSpec(
        name="strange", kind="k", description="strange0 strange1",
        examples=tuple(" ".join(f"strange{(i + k) % 12}" for k in range(3)) for i in range(12)),
    )  # fmt: skip
    specs = [NodeSpec(name=name, kind="k", description=f"about {name}") for name in ("fruit", "ships", "music")]
    now = scorer.for_nodes([*specs, strange])
    assert now.labels == ("fruit", "music", "ships", "strange")
    scores = now.score(["noise1 apple noise2 noise7", "strange3 strange4 strange5", "noise1 coin bank"])
    assert scores.probabilities.shape == (3, 4) and np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-5)
    assert [now.labels[i] for i in scores.probabilities[:2].argmax(axis=1)] == ["fruit", "strange"]
    again = scorer.for_nodes([strange, *specs[::-1]])
    assert again.labels == now.labels


def test_an_artefact_of_the_first_format_is_read(trained_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "old"
    shutil.copytree(trained_folder, folder)
    arrays = load_file(folder / ARRAYS)
    assert len(arrays["static.outside"]) == len(arrays["space.outside"]) == 20
    arrays = {name: values for name, values in arrays.items() if not name.endswith(".outside")}
    arrays |= {name: np.ascontiguousarray(arrays[name][:, :-1]) for name in ("first.scope", "second.scope")}
    save_file(arrays, folder / ARRAYS)
    (folder / CARD).write_text((folder / CARD).read_text().replace('"format": 2', '"format": 1'))
    texts = [row.text for row in unseen(4)]
    old, new = load_artifact(folder).scorer.score(texts), load_artifact(trained_folder).scorer.score(texts)
    assert old.probabilities.shape == new.probabilities.shape and np.isfinite(old.in_scope).all()


def held(margin: float, rows: int = 400) -> tuple[Held, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, rows)
    evidence = rng.normal(size=(rows, 3, 1)).astype(np.float32)
    evidence[np.arange(rows), targets, 0] += margin
    return Held(evidence, np.zeros((rows, 1), np.float32)), targets


def test_a_stage_is_calibrated_and_refuses_at_the_wanted_coverage() -> None:
    inside, targets = held(2.0)
    far = Held(inside.evidence[:200] - np.float32(1.5), inside.features[:200])
    far.evidence[np.arange(200), targets[:200], 0] -= 2.0
    stage = fit_stage(inside, targets, far, np.array([1.0], np.float32), Wanted())
    probability = probabilities(stage, inside)[0]
    assert abs(probability.max(axis=1).mean() - (probability.argmax(axis=1) == targets).mean()) < 0.02
    for wanted in (0.7, 0.9):
        stage = fit_stage(inside, targets, far, np.array([1.0], np.float32), Wanted(coverage=wanted))
        assert (probabilities(stage, inside)[1] >= 0.5).mean() == pytest.approx(wanted, abs=0.01)
    stage = fit_stage(inside, targets, far, np.array([1.0], np.float32), Wanted(oos_recall=0.9))
    assert (probabilities(stage, far)[1] < 0.5).mean() == pytest.approx(0.9, abs=0.01)


def test_the_second_stage_is_asked_only_where_it_helps() -> None:
    rng = np.random.default_rng(1)
    targets = np.zeros(1000, dtype=np.int64)
    sure = np.linspace(0.5, 1.0, 1000, dtype=np.float32)
    wrong = rng.random(1000) > sure  # the surer, the more often right
    first = np.where(wrong[:, None], [1, 0], [0, 1])[:, ::-1] * sure[:, None], np.ones(1000, np.float32)
    right = np.tile([1.0, 0.0], (1000, 1)), np.ones(1000, np.float32)
    threshold = choose_escalation(first, right, targets)
    lost = ((sure >= threshold) & wrong).mean()
    assert 0.8 < threshold < 1.0 and lost <= 0.0031
    assert choose_escalation(right, first, targets) <= 1.0  # a second stage that is worse is never asked
    assert choose_escalation(right, right, targets) == pytest.approx(1.0)
    assert (sure < choose_escalation(first, right, targets, 0.3)).mean() == pytest.approx(0.3, abs=0.01)


def test_rows_and_nodes_are_read_gzipped_and_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a\\u2028b", "node": null}\n\n'))
    assert read_requests(tmp_path / "rows.jsonl.gz") == [LabelledRow("a\u2028b", None)]
    (tmp_path / "a.yaml").write_text(
        "name: law\nkind: openai\ndescription: Contracts.\nexamples: [Is it enforceable?]\n"
    )
    assert read_nodes(tmp_path) == [LabelledNode("law", "Contracts.", ("Is it enforceable?",))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no rows"),
        ("{", "rows.jsonl:1 is no JSON"),
        ("[]", "rows.jsonl:1 must be an object; got list"),
        ('{"text": 3, "node": "a"}', "rows.jsonl:1: text must be a string; got 3"),
        ('{"text": "a"}', "node must be a node's name, or null for out of scope; got no such key"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(InvalidRequest, match=message):
        read_requests(path)


def test_labels_and_nodes_must_fit() -> None:
    nodes = [LabelledNode("a", "A"), LabelledNode("b", "B"), LabelledNode("c", "C")]
    rows = [LabelledRow("x", "a"), LabelledRow("y", "b")]
    with pytest.raises(InvalidRequest, match="1 labels in the data are no known node: d; there are a, b, c"):
        make_data(nodes, [*rows, LabelledRow("z", "d")])
    with pytest.raises(InvalidRequest, match="rows of two nodes at least; there are rows of 1"):
        make_data(nodes, rows[:1])
    data = make_data(nodes, rows, [LabelledRow("w", "c"), LabelledRow("v", None)])
    assert [node.name for node in data.bare] == ["c"] and len(data.val) == 1
    assert data.warnings[0] == "nodes without training rows, known by their description only: 1 (c)"
    assert data.warnings[1] == "validation rows left out, of nodes without training rows: 1"
    finer = make_data(nodes, [replace(rows[0], finer="a1"), LabelledRow("z", "a", "a2"), rows[1]])
    assert finer.finer_owners.tolist() == [0, 0, 1] and finer.train.finer.tolist() == [0, 1, 2]


def test_nodes_named_twice_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "nodes.jsonl", [*node_lines(), *node_lines()[:1]])
    with pytest.raises(InvalidRequest, match="declares fruit more than once"):
        read_nodes(path)
    path.write_text(json.dumps({"name": "a", "description": 3}))
    with pytest.raises(InvalidRequest, match=r"nodes.jsonl:1: description must be a string; got 3"):
        read_nodes(path)
