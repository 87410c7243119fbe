"""Runs plans of simulated tasks beside their critical path and a sequential run: `python -m benchmarks.executor`.

A task sleeps for 20 to 200 ms and answers. Plans are random DAGs: each task needs up to three of those before it. The
critical path is the longest chain of sleeps: nothing can be faster. `journaled` is the same plan as a run of the
service, with every outcome and event in a SQLite file. The CPU time is the process's own: what the executor does while
nobody sleeps. The sequential run is what a loop over the tasks would take.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from opentelemetry.trace import INVALID_SPAN

from deployments.run_slots import RunSlots
from deployments.runs import Runs
from graph.executor import ExecutionLimits, execute
from graph.journal import RunJournal
from graph.model_graph import ModelGraph
from graph.plan import Plan, Ref, Task
from graph.run import RunEvent
from graph.spec import NodeSpec
from graph.stores import open_store
from graph.types import Call, Delta, Message, Usage

RESULTS = Path(__file__).parent / "results"
SIZES = (2, 5, 10, 30, 100, 300, 1000)
NODE = NodeSpec(name="sleeper", kind="fake", description="Sleeps.")
GRAPH = ModelGraph([NODE])
REQUEST = Call((Message("user", "the request"),))


@dataclass(frozen=True)
class Row:
    """One size; seconds are means over the plans, each plan's best of the repetitions."""

    tasks: int
    links: float
    critical_path_s: float
    executor_s: float
    executor_over: float
    """How much longer than the critical path, as a share of it."""
    cpu_ms_per_task: float
    journaled_s: float
    journaled_over: float
    journaled_cpu_ms_per_task: float
    sequential_s: float
    speedup: float


def random_plan(tasks: int, rng: random.Random) -> tuple[Plan, dict[str, float]]:
    """Return a DAG and how long each task sleeps."""
    made, sleeps = [], {}
    for index in range(tasks):
        id = f"t{index}"
        before = made[-30:]
        needs = rng.sample(before, min(len(before), rng.choice((0, 1, 1, 2, 3))))
        made.append(Task(id, NODE.name, {"prompt": id, "context": [Ref(task.id) for task in needs]}))
        sleeps[id] = rng.uniform(0.02, 0.2)
    return Plan(tuple(made), made[-1].id), sleeps


def critical_path(plan: Plan, sleeps: dict[str, float]) -> float:
    """Return the longest chain of sleeps; tasks stand behind those they need."""
    ends: dict[str, float] = {}
    for task in plan.tasks:
        ends[task.id] = sleeps[task.id] + max((ends[need] for need in task.needs), default=0.0)
    return max(ends.values())


def sleeping(sleeps: dict[str, float]) -> Callable[[str, Call], AsyncIterator[Delta]]:
    """Return an `Invoke` whose calls sleep as long as the task that they are for."""

    async def invoke(node: str, call: Call) -> AsyncIterator[Delta]:
        await asyncio.sleep(sleeps[call.text.rpartition("\n")[2]])
        yield Delta(text="done", usage=Usage(1, 1), finish_reason="stop")

    return invoke


async def executed(plan: Plan, sleeps: dict[str, float]) -> tuple[float, float]:
    """Run a plan by the executor alone."""

    async def note(event: RunEvent) -> None:
        return

    limits = ExecutionLimits(parallel=len(plan.tasks))
    began, busy = time.perf_counter(), time.process_time()
    result = await execute(plan, sleeping(sleeps), graph=GRAPH, request=REQUEST, on_event=note, limits=limits)
    took = time.perf_counter() - began, time.process_time() - busy
    assert result.status == "ok"
    return took


async def journaled(plan: Plan, sleeps: dict[str, float]) -> tuple[float, float]:
    """Run a plan as the service does, from its acceptance to its end; the time to open the store does not count."""
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(f"sqlite:///{folder}/state.db")
        limits = ExecutionLimits(parallel=len(plan.tasks))
        runs = Runs(
            RunJournal(store, "bench"), sleeping(sleeps), lambda: GRAPH, _no_planner, limits, 1, RunSlots(store, 600)
        )
        began, busy = time.perf_counter(), time.process_time()
        id = await runs.start(REQUEST, plan, span=INVALID_SPAN)
        await asyncio.wait([work.task for work in runs._works.values() if work.task])
        took = time.perf_counter() - began, time.process_time() - busy
        assert (await runs.get(id)).status == "ok"
        await store.aclose()
        return took


async def _no_planner(call: Call, avoid: frozenset[str]) -> Plan:
    raise NotImplementedError("every plan is given")


async def sequential(plan: Plan, sleeps: dict[str, float]) -> tuple[float, float]:
    """Run one task after the other."""
    began, busy = time.perf_counter(), time.process_time()
    for task in plan.tasks:
        await asyncio.sleep(sleeps[task.id])
    return time.perf_counter() - began, time.process_time() - busy


def best(run: Callable[[], Awaitable[tuple[float, float]]], times: int) -> tuple[float, float]:
    """Return the least wall and CPU seconds of several repetitions."""
    found = [asyncio.run(run()) for _ in range(times)]
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def measure(tasks: int, plans: int, times: int) -> Row:
    """Measure plans of one size."""
    rng = random.Random(tasks)  # noqa: S311
    found = []
    for _ in range(plans):
        plan, sleeps = random_plan(tasks, rng)
        alone, cpu = best(lambda plan=plan, sleeps=sleeps: executed(plan, sleeps), times)
        noted, noted_cpu = best(lambda plan=plan, sleeps=sleeps: journaled(plan, sleeps), times)
        one_by_one, _ = best(lambda plan=plan, sleeps=sleeps: sequential(plan, sleeps), 1)
        found.append((len(plan.links), critical_path(plan, sleeps), alone, noted, cpu, noted_cpu, one_by_one))
    links, path, alone, noted, cpu, noted_cpu, one_by_one = (sum(column) / plans for column in zip(*found, strict=True))
    return Row(
        tasks,
        links,
        path,
        alone,
        alone / path - 1,
        cpu / tasks * 1e3,
        noted,
        noted / path - 1,
        noted_cpu / tasks * 1e3,
        one_by_one,
        one_by_one / alone,
    )


def main() -> None:
    """Measure, print the table, keep the raw results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=3, help="random plans of each size")
    parser.add_argument("--times", type=int, default=3, help="repetitions of each, of which the best counts")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    heads = "tasks|links|critical path|executor|over|CPU a task|journaled|over|CPU a task|sequential|speedup".split("|")
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for size in options.sizes:
        row = measure(size, options.plans, options.times)
        rows.append(row)
        print(
            f"| {row.tasks} | {row.links:.0f} | {row.critical_path_s:.3f} s | {row.executor_s:.3f} s "
            f"| {row.executor_over:.1%} | {row.cpu_ms_per_task:.2f} ms | {row.journaled_s:.3f} s "
            f"| {row.journaled_over:.1%} | {row.journaled_cpu_ms_per_task:.2f} ms "
            f"| {row.sequential_s:.1f} s | {row.speedup:.1f} |",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    about = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": os.getloadavg()}
    report = about | {"plans": options.plans, "times": options.times, "rows": [asdict(row) for row in rows]}
    (RESULTS / "executor.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
