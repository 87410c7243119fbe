"""Planners beside description retrieval and the nearest plan, on public sets, in one run.

`python -m benchmarks.planning --data DIR [--rows N] [--artifact DIR] [--sets nestful,ultratool,…,bfcl,irrelevance]`

DIR holds the folders `planning` (nestful, ultratool, taskbench) and `function_calling/bfcl`. Every figure is of the
first `--rows` rows of a set in a shuffled order that never changes. UltraTool is parted once more: the first 400 rows
of that order are measured, the others are those that the nearest plan comes from and that `--artifact` was trained on
(`--write-train FILE` writes them). Results are printed as a table and written to `--out` as JSON.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planning_sets import SEED, bfcl, irrelevance, nestful, taskbench, ultratool
from deployments.models import resolve_model
from deployments.settings import Settings
from graph.plan import Task
from router.encoders import load_encoder
from router.evaluation.plan_report import plan_rows, report, shape
from router.function_calls import FunctionPlanner
from router.planner_artifact import load_planner
from router.planners.matching import described_as
from router.planners.toolset import Draft, Toolset
from router.planners.zero_shot import ZeroShotPlanner
from router.training.plan_data import PlanRow
from router.types import Encoder

HELD = 400
SHOWN = ("node_f1", "edge_f1", "argument_f1", "exact", "valid", "collapsed", "p50_ms")
Drafter = Callable[[PlanRow], Draft]


def retrieval(tools: Toolset, encoder: Encoder, count: int) -> Drafter:
    """Plan with the tools whose descriptions are nearest to the request, one after the other."""
    vectors = encoder.encode([described_as(tool) for tool in tools.tools.values()])

    def draft(row: PlanRow) -> Draft:
        found = np.argsort(vectors @ encoder.encode([row.request])[0])[::-1][:count]
        return chain([tools.names[index] for index in found])

    return draft


def nearest(rows: Sequence[PlanRow], encoder: Encoder) -> Drafter:
    """Plan as the most alike request of the others was planned."""
    vectors = encoder.encode([row.request for row in rows])

    def draft(row: PlanRow) -> Draft:
        gold = rows[int((vectors @ encoder.encode([row.request])[0]).argmax())].gold
        assert gold is not None
        return chain(shape(gold))

    return draft


def chain(names: Sequence[str]) -> Draft:
    tasks = tuple(Task(f"t{index}", name) for index, name in enumerate(names, 1))
    return Draft(tasks, tuple((a.id, b.id) for a, b in itertools.pairwise(tasks)))


def measured(
    data: str, planner: str, rows: Sequence[PlanRow], tools: Toolset, draft: Drafter, known: Any = None
) -> dict[str, Any]:
    found = report(plan_rows(rows, tools, draft), known)
    shown = " ".join(f"{name} {'-' if found[name] is None else f'{found[name]:g}'}" for name in SHOWN)
    print(f"{data:22} {planner:22} {found['rows']:5} rows  {shown}", flush=True)
    return {"data": data, "planner": planner, **found}


def on_nestful(data: Path, encoder: Encoder, limit: int) -> list[dict[str, Any]]:
    tools, rows = nestful(data, limit)
    planner = ZeroShotPlanner(tools, encoder)
    known = [row for row in rows if row.gold and set(shape(row.gold)) <= set(tools.names)]
    return [
        measured("nestful", "description retrieval", rows, tools, retrieval(tools, encoder, 2)),
        measured("nestful", "zero-shot", rows, tools, lambda row: planner.draft(row.request)),
        measured(
            "nestful, tools given", "binding", known, tools, lambda row: planner.over(row.request, shape(row.gold))
        ),
    ]


def on_ultratool(data: Path, encoder: Encoder, limit: int, artifact: Path | None) -> list[dict[str, Any]]:
    tools, rows = ultratool(data)
    others, held = rows[HELD:], rows[: min(HELD, limit)]
    known = {shape(row.gold) for row in others if row.gold}
    zero = ZeroShotPlanner(tools, encoder)
    found = [
        measured("ultratool", "description retrieval", held, tools, retrieval(tools, encoder, 2), known),
        measured("ultratool", "nearest plan", held, tools, nearest(others, encoder), known),
        measured("ultratool", "zero-shot", held, tools, lambda row: zero.draft(row.request), known),
    ]
    if artifact is not None:
        trained = load_planner(artifact).planner
        found.append(measured("ultratool", "trained", held, tools, lambda row: trained.draft(row.request), known))
    return found


def on_taskbench(data: Path, encoder: Encoder, limit: int) -> list[dict[str, Any]]:
    found = []
    for name, tools, rows in taskbench(data, limit):
        planner = ZeroShotPlanner(tools, encoder)
        found.append(measured(name, "zero-shot", rows, tools, lambda row, own=planner: own.draft(row.request)))
    return found


def on_bfcl(data: Path, encoder: Encoder, limit: int) -> list[dict[str, Any]]:
    found = []
    for name, rows in bfcl(data, limit):
        planned = plan_rows(rows, Toolset.of(()), lambda row: ZeroShotPlanner(row.tools, encoder).draft(row.request))
        counts = [len(item.row.gold.tasks) == len(item.draft.tasks) for item in planned if item.row.gold]
        names = [set(shape(item.row.gold)) == set(shape(item.draft)) for item in planned if item.row.gold]
        right = {"names": round(float(np.mean(names)), 4), "calls": round(float(np.mean(counts)), 4)}
        print(f"{name:22} {'zero-shot':22} {len(rows):5} rows  {right}", flush=True)
        found.append({"data": name, "planner": "zero-shot", "rows": len(rows), **right})
    return found


def on_irrelevance(data: Path, encoder: Encoder, limit: int) -> list[dict[str, Any]]:
    """Measure what is refused where 95 in 100 of the requests that a function is for are kept, and as it ships."""
    fits, steps = [], []
    for rows in irrelevance(data, limit):
        planners = [(FunctionPlanner([*row.tools.tools.values()], encoder), row.request) for row in rows if row.tools]
        fits.append(np.array([planner.relevance(request) for planner, request in planners]))
        steps.append([planner.step(request) for planner, request in planners])
    figures = {
        "refused_at_95_kept": float(np.mean(fits[1] < np.quantile(fits[0], 0.05))),
        "refused": float(np.mean([not step.fits for step in steps[1]])),
        "no_call": float(np.mean([not step.calls for step in steps[1]])),
        "kept": float(np.mean([step.fits for step in steps[0]])),
    }
    right = {name: round(value, 4) for name, value in figures.items()}
    print(f"{'bfcl irrelevance':22} {'functions':22} {len(fits[1]):5} rows  {right}", flush=True)
    return [{"data": "bfcl irrelevance", "planner": "functions", "rows": len(fits[1]), **right}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--sets", default="nestful,ultratool,taskbench,bfcl,irrelevance")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write-train", type=Path)
    given = parser.parse_args()
    if given.write_train:
        write_train(given.data, given.write_train)
        return
    encoder = load_encoder(resolve_model(Settings.from_env().encoder_reference()))
    runs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "nestful": lambda: on_nestful(given.data, encoder, given.rows),
        "ultratool": lambda: on_ultratool(given.data, encoder, given.rows, given.artifact),
        "taskbench": lambda: on_taskbench(given.data, encoder, given.rows),
        "bfcl": lambda: on_bfcl(given.data, encoder, given.rows),
        "irrelevance": lambda: on_irrelevance(given.data, encoder, given.rows),
    }
    found = [result for name in given.sets.split(",") for result in runs[name]()]
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


def write_train(data: Path, target: Path) -> None:
    with gzip.open(data / "planning/ultratool/train.jsonl.gz", "rt") as file:
        lines = file.read().splitlines()
    random.Random(SEED).shuffle(lines)  # noqa: S311  # an order, not a secret
    target.write_text("\n".join(lines[HELD:]) + "\n")


if __name__ == "__main__":
    main()
