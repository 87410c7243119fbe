"""Runs semantic-router, in an environment of its own: `python semantic_router_peer.py TASK ANSWER`.

TASK names the encoder's folder, the utterances and the queries; ANSWER gets the chosen route of each query (null where
none passes), the best one, its score, and the time of single calls. The setting is semantic-router's default or, among
others that it offers, the one that does best on the queries themselves, which is in its favour.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import semantic_router
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import HuggingFaceEncoder
from semantic_router.routers.indexed import _AGG

SETTINGS: tuple[tuple[str, int], ...] = (("mean", 5), ("max", 5), ("sum", 5), ("sum", 10))


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    utterances: dict[str, list[str]] = {}
    for name, text in task["utterances"]:
        utterances.setdefault(name, []).append(text)
    routes = [Route(name=name, utterances=texts) for name, texts in utterances.items()]
    encoder = HuggingFaceEncoder(name=task["encoder"])
    router = IndexedRouter(encoder=encoder, routes=routes)
    tried = []
    for aggregation, top_k in SETTINGS:  # one router, so that the utterances are encoded once
        router.aggregate, router.top_k = _AGG[aggregation], top_k
        tried.append(_run(router, task) | {"setting": f"{aggregation} of {top_k}"})
    best = max(tried, key=lambda found: found["right"])
    answer = {"version": semantic_router.__version__, "default": tried[0]["right"], **best}
    Path(sys.argv[2]).write_text(json.dumps(answer))


def _run(router: Any, task: dict[str, Any]) -> dict[str, Any]:
    scores = asyncio.run(router._scores_many(task["queries"]))
    best = [max(own, key=own.__getitem__) if own else None for own in scores]
    ms = []
    for query in task["queries"][: task["timed"]]:
        began = time.perf_counter()
        router(query)
        ms.append((time.perf_counter() - began) * 1000)
    labelled = [(name, node) for name, node in zip(best, task["nodes"], strict=True) if node is not None]
    return {
        "best": best,
        "score": [max(own.values(), default=0.0) for own in scores],
        "right": sum(name == node for name, node in labelled) / max(1, len(labelled)),
        "ms": ms,
    }


if __name__ == "__main__":
    main()
