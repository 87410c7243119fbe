"""The trained router beside keywords, embeddings without training, and semantic-router: a table for each data set.

    python -m benchmarks.router --data FOLDER [--sets clinc150 …] [--shots 10] [--quick] [--artifact FOLDER]
        [--peer PYTHON]

FOLDER holds one folder a data set, each with `nodes.jsonl`, `train.jsonl` and `val.jsonl` (any of them gzipped); where
there is no `val`, every eighth row of `train` is kept apart and not trained on, and where `val` holds more rows than
`train`, every fifth of both together; otherwise every second row of `val` is measured on and the others are `--val`.
With `--artifact` the routers trained before are taken from there, by the name of the set; `--quick` leaves out the one
that learns from all rows. `--peer` names the Python of an environment with semantic-router, which is left out
otherwise; it gets the same examples and the same encoder as the embedding strategy. Each set's figures are added to
`results/router.json` as they come, beside a plot of accuracy against time.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deployments.models import resolve_model
from deployments.settings import Settings
from graph.spec import NodeSpec
from router.artifact import load_artifact
from router.calibration import softmax
from router.encoders import load_encoder
from router.evaluation.router_report import Judged, judge, measure, time_decisions
from router.evaluation.svg import Series, line_chart
from router.scorers.strategies import make_scorer
from router.training.data import LabelledNode, LabelledRow, make_data, read_nodes, read_requests
from router.training.fit import Training, train_router
from router.types import Encoder, Scorer, Scores

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("accuracy", "in_scope_accuracy_with_rejection", "oos_recall", "auroc", "fpr95", "ece", "mean_ms", "p99_ms")
SHORT = ("accuracy", "with rejection", "oos recall", "AUROC", "FPR95", "ECE", "mean ms", "p99 ms")
TIMED = 200


class _Described:
    """Cosine with the nodes' descriptions: no examples, no training."""

    def __init__(self, nodes: list[LabelledNode], encoder: Encoder) -> None:
        self.labels = tuple(node.name for node in nodes)
        self.strategy = "descriptions"
        self._encoder = encoder
        self._vectors = encoder.encode([node.text for node in nodes])

    def score(self, texts: list[str]) -> Scores:
        cosine = self._encoder.encode(texts) @ self._vectors.T
        return Scores(self.labels, softmax(cosine / 0.05), cosine.max(axis=1).clip(0, 1).astype(np.float32))


class _Explained:
    """Any scorer, in the form that the evaluation takes."""

    def __init__(self, scorer: Scorer) -> None:
        self.labels, self.score = scorer.labels, scorer.score

    def explain(self, texts: list[str]) -> tuple[Scores, np.ndarray]:
        return self.score(texts), np.zeros(len(texts), dtype=bool)


def main() -> None:
    options = _options()
    encoder_path = resolve_model(options.encoder or Settings.from_env().encoder_reference())
    for name in options.sets:
        nodes = read_nodes(_file(options.data / name, "nodes"))
        train, val, apart = _rows(options.data / name)
        rows = {"val": val, "measured": apart}
        shown = _arms(options, name, encoder_path, nodes, train, rows)
        _print(name, len(nodes), len(train), len(apart), shown)
        if options.save:
            _save(name, {"nodes": len(nodes), "train": len(train), "arms": shown} | _environment(options))


def _arms(
    options: argparse.Namespace,
    name: str,
    encoder_path: Path,
    nodes: list[LabelledNode],
    train: list[LabelledRow],
    rows: dict[str, list[LabelledRow]],
) -> dict[str, dict[str, Any]]:
    few = _few(train, options.shots)
    measured = rows["measured"]
    encoder = load_encoder(encoder_path, cache=0)
    found: dict[str, dict[str, Any]] = {}
    for arm, own in ((f"trained, {options.shots} each", few), ("trained", train))[: 1 if options.quick else 2]:
        artifact = _trained(
            options, f"{name}-{len(own)}", encoder_path, nodes, own, rows["val"] if own is train else []
        )
        judged = judge(artifact.scorer, measured)
        found[arm] = measure(judged, time_decisions(artifact.scorer, measured)).to_json() | {
            "stage_one": artifact.card["metrics"]["accuracy_stage_one"],
            "seconds": artifact.card["seconds"],
        }
        print(arm, found[arm], flush=True)
    specs = _specs(nodes, few)
    names = {spec.name: node.name for spec, node in zip(specs, nodes, strict=True)}
    for strategy in ("embedding", "keyword"):
        scorer = make_scorer(strategy, specs, encoder)
        found[f"{strategy}, {options.shots} each"] = _measured(scorer, measured, names)
    found["descriptions only"] = _measured(_Described(nodes, encoder), measured, {n.name: n.name for n in nodes})
    if options.peer:
        third = measured[::3]  # it encodes them anew for each of its settings
        if said := _peer(options.peer, encoder_path, few, third):
            found[f"semantic-router, {options.shots} each"] = said
    else:
        print("semantic-router is left out: name the Python of its environment by --peer")
    return found


def _trained(options: Any, name: str, encoder: Path, nodes: Any, train: Any, val: Any) -> Any:
    folder = (options.artifact or Path(tempfile.gettempdir()) / "modelyard-routers") / name
    if options.artifact and (folder / "card.json").is_file():
        return load_artifact(folder)
    return train_router(make_data(nodes, train, val), encoder, folder, Training(), print)


def _measured(scorer: Scorer, rows: list[LabelledRow], names: dict[str, str]) -> dict[str, Any]:
    scorer = _Explained(scorer)  # type: ignore[assignment]
    scorer.labels = tuple(names[label] for label in scorer.labels)  # type: ignore[misc]
    judged = judge(scorer, rows)  # type: ignore[arg-type]
    return measure(judged, time_decisions(scorer, rows[:: max(1, len(rows) // TIMED)])).to_json()  # type: ignore[arg-type]


def _peer(python: Path, encoder: Path, few: list[LabelledRow], rows: list[LabelledRow]) -> dict[str, Any] | None:
    """Ask semantic-router in its own environment."""
    work = {
        "encoder": str(encoder),
        "utterances": [[row.node, row.text] for row in few if row.node is not None],
        "queries": [row.text for row in rows],
        "nodes": [row.node for row in rows],
        "timed": TIMED,
    }
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        task.write_text(json.dumps(work))
        began = time.perf_counter()
        program = Path(__file__).with_name("semantic_router_peer.py")
        done = subprocess.run([python, program, task, answer], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"semantic-router is left out: {done.stderr.strip().splitlines()[-1]}")
            return None
        said = json.loads(answer.read_text())
    labels = tuple(sorted({str(row.node) for row in few if row.node is not None}))
    place = {label: index for index, label in enumerate(labels)}
    truth = np.array([-1 if row.node is None else place[row.node] for row in rows])
    best = np.array([place.get(name, -2) for name in said["best"]])
    score = np.array(said["score"], dtype=np.float64)
    # Its scores are cosines, which nothing calibrates: they rank requests, but refuse none.
    judged = Judged(labels, truth, best, score, 0.5 + score / 20, np.zeros(len(rows), bool))
    found = measure(judged, np.array(said["ms"])).to_json()
    unknown = dict.fromkeys(("ece", "oos_recall", "in_scope_accuracy_with_rejection"))
    return (
        found
        | unknown
        | {
            "setting": said["setting"],
            "default_accuracy": said["default"],
            "version": said["version"],
            "seconds": round(time.perf_counter() - began, 1),
        }
    )


def _rows(folder: Path) -> tuple[list[LabelledRow], list[LabelledRow], list[LabelledRow]]:
    """Return rows to train on, rows to choose on, and rows to measure on."""
    train = read_requests(_file(folder, "train"))
    if (folder / "val.jsonl").is_file() or (folder / "val.jsonl.gz").is_file():
        val = read_requests(_file(folder, "val"))
        if len(val) <= len(train):
            return train, val[::2], val[1::2]
        rows = [*train, *val]
        return [row for i, row in enumerate(rows) if i % 5], [], rows[::5]
    return [row for i, row in enumerate(train) if i % 8], [], train[::8]


def _few(rows: list[LabelledRow], shots: int) -> list[LabelledRow]:
    seen: dict[str | None, int] = {}
    kept = []
    for index in np.random.default_rng(0).permutation(len(rows)):  # the first rows are often one author's
        row = rows[index]
        seen[row.node] = seen.get(row.node, 0) + 1
        if row.node is not None and seen[row.node] <= shots:
            kept.append(row)
    return kept


def _specs(nodes: list[LabelledNode], few: list[LabelledRow]) -> list[NodeSpec]:
    """Return nodes in the form that strategies are fitted from; names are those of YAML, which are narrower."""
    texts: dict[str, list[str]] = {}
    for row in few:
        texts.setdefault(str(row.node), []).append(row.text[:8000])
    return [
        NodeSpec(name=f"n{i}", kind="none", description=node.text, examples=tuple(texts.get(node.name, ())))
        for i, node in enumerate(nodes)
    ]


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            return path
    raise SystemExit(f"{folder} has no {name}.jsonl, gzipped or not")


def _print(name: str, nodes: int, train: int, measured: int, arms: dict[str, dict[str, Any]]) -> None:
    print(f"\n{name}: {nodes} nodes, {train} rows to train on, {measured} measured")
    print(f"| {'router':<28} | " + " | ".join(SHORT) + " |")
    print("|---" * (len(SHORT) + 1) + "|")
    for arm, found in arms.items():
        cells = ["-" if found[column] is None else f"{found[column]:.3f}" for column in COLUMNS]
        print(f"| {arm:<28} | " + " | ".join(cells) + " |", flush=True)


def _save(name: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "router.json"
    result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(result | {name: found}, indent=1) + "\n", encoding="utf-8")
    series = [Series(arm, [(own["mean_ms"], own["accuracy"])], dots=True) for arm, own in found["arms"].items()]
    chart = line_chart(f"{name}: accuracy against time", "mean ms to decide", "accuracy", series)
    (RESULTS / f"router-{name}.svg").write_text(chart + "\n", encoding="utf-8")


def _environment(options: argparse.Namespace) -> dict[str, Any]:
    packages = {name: version(name) for name in ("modelyard", "numpy", "torch", "onnxruntime", "scikit-learn")}
    return {"machine": platform.machine(), "python": platform.python_version(), "shots": options.shots} | packages


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["clinc150", "mmlu17", "metatool", "banking77"])
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--artifact", type=Path, default=None)
    parser.add_argument("--peer", type=Path, default=None)
    parser.add_argument("--no-save", dest="save", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
