"""What a planner learns from: requests with node sequences, and more of them made from the plans' own steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graph.errors import InvalidRequest
from router.planners.toolset import Toolset
from router.training.plan_data import PlanRow

_STEP = re.compile(r"(?i)^\s*step\s*\d+\s*[:.)]?\s*")
JOINS = (", then ", ", and ", " and then ", ". Then ", ", ")


@dataclass(frozen=True, slots=True)
class Example:
    """A request and the nodes of its plan, by index, in an order that they can run in."""

    text: str
    nodes: tuple[int, ...]


def examples_of(rows: Sequence[PlanRow], tools: Toolset, *, least: int = 20) -> list[Example]:
    """Return the rows whose plans these tools can make; raise `InvalidRequest` if there are too few to learn from."""
    index = {name: number for number, name in enumerate(tools.names)}
    found = [
        Example(row.request, tuple(index[task.node] for task in row.gold.tasks))
        for row in rows
        if row.gold is not None and row.gold.tasks and all(task.node in index for task in row.gold.tasks)
    ]
    if len(found) < least:
        raise InvalidRequest(f"{len(found)} plans use only the given tools; at least {least} are needed", param="train")
    return found


def step_examples(rows: Sequence[PlanRow], tools: Toolset) -> list[Example]:
    """Return each step that a row describes in words as a request for its one node."""
    index = {name: number for number, name in enumerate(tools.names)}
    found = []
    for row in rows:
        tasks = row.gold.tasks if row.gold is not None else ()
        if len(row.steps) != len(tasks):
            continue
        for step, task in zip(row.steps, tasks, strict=True):
            text = _spoken(step, task.node)
            if task.node in index and len(text) > 8:
                found.append(Example(text, (index[task.node],)))
    return found


def _spoken(step: str, node: str) -> str:
    """Return a step without its number and the name of its tool: "create a file" of "Step 1 Call file_write to …"."""
    text = _STEP.sub("", step)
    text = re.sub(
        rf"(?i)^(?:call|use|invoke|run)\s+(?:the\s+)?{re.escape(node)}\s*(?:tool|api)?\s*(?:to|for)?\s*", "", text
    )
    return text.strip()


def composed(
    steps: Sequence[Example], pairs: Sequence[tuple[int, int]], count: int, rng: np.random.Generator
) -> list[Example]:
    """Make requests of steps that may follow each other but come from different plans: shapes nobody wrote down."""
    owned: dict[int, list[str]] = {}
    for step in steps:
        owned.setdefault(step.nodes[0], []).append(step.text)
    after: dict[int, list[int]] = {}
    for source, target in pairs:
        if source in owned and target in owned and source != target:
            after.setdefault(source, []).append(target)
    starts = sorted(after)
    found = []
    for _ in range(count if starts else 0):
        nodes = [int(rng.choice(starts))]
        for _ in range(int(rng.choice([1, 2], p=[0.7, 0.3]))):
            if nodes[-1] in after:
                nodes.append(int(rng.choice(after[nodes[-1]])))
        texts = [str(rng.choice(owned[node])).rstrip(". ") for node in nodes]
        found.append(Example(_joined(texts, rng), tuple(nodes)))
    return found


def _joined(texts: Sequence[str], rng: np.random.Generator) -> str:
    text = texts[0][:1].upper() + texts[0][1:]
    for more in texts[1:]:
        text += str(rng.choice(JOINS)) + more
    return f"{text}."
