"""The public sets of `benchmarks.planning`, as rows of planning."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph.plan import Task
from router.planners.toolset import Draft, Toolset
from router.training.plan_data import PlanRow, read_plans, read_tools
from router.training.tool_forms import tool_of

SEED = 7


def nestful(data: Path, limit: int) -> tuple[Toolset, list[PlanRow]]:
    folder = data / "planning/nestful"
    return read_tools(folder / "tools.jsonl"), _some(read_plans(folder / "dev.jsonl"), limit)


def ultratool(data: Path) -> tuple[Toolset, list[PlanRow]]:
    folder = data / "planning/ultratool"
    rows = read_plans(folder / "train.jsonl.gz")
    return read_tools(folder / "tools.jsonl", folder / "links.jsonl"), _some(rows, len(rows))


def taskbench(data: Path, limit: int) -> Iterator[tuple[str, Toolset, list[PlanRow]]]:
    for folder in sorted((data / "planning/taskbench").iterdir()):
        if folder.is_dir():
            rows = _some(read_plans(folder / "requests.jsonl"), limit)
            yield f"taskbench {folder.name}", read_tools(folder / "graph_desc.json"), rows


def bfcl(data: Path, limit: int) -> Iterator[tuple[str, list[PlanRow]]]:
    folder = data / "function_calling/bfcl"
    for kind in ("multiple", "parallel", "parallel_multiple"):
        answers = {
            item["id"]: item["ground_truth"] for item in _lines(folder / f"possible_answer/BFCL_v4_{kind}.json.gz")
        }
        rows = [_call(item, answers[item["id"]]) for item in _lines(folder / f"BFCL_v4_{kind}.json.gz")]
        yield f"bfcl {kind}", _some(rows, limit)


def irrelevance(data: Path, limit: int) -> tuple[list[PlanRow], list[PlanRow]]:
    """Return requests that one of the functions beside them is for, and requests that none is for."""
    meant = [row for _, rows in bfcl(data, limit) for row in rows]
    simple = _lines(data / "function_calling/bfcl/BFCL_v4_simple_python.json.gz")
    others = _lines(data / "function_calling/bfcl/BFCL_v4_irrelevance.json.gz")
    return meant + _some([_call(item, []) for item in simple], limit), _some(
        [_call(item, []) for item in others], limit
    )


def _call(item: dict[str, Any], answer: list[dict[str, Any]]) -> PlanRow:
    tools = Toolset.of(tool_of(function, item["id"]) for function in item["function"])
    tasks = tuple(Task(f"t{index}", name) for index, call in enumerate(answer, 1) for name in call)
    return PlanRow(item["id"], item["question"][0][-1]["content"], Draft(tasks), tools)


def _lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def _some(rows: list[PlanRow], limit: int) -> list[PlanRow]:
    mixed = list(rows)
    random.Random(SEED).shuffle(mixed)  # noqa: S311  # an order, not a secret
    return mixed[:limit]
