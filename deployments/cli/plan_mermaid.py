"""A plan as a Mermaid flow chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.cli.console import clean

MAX_LABEL = 60


def plan_mermaid(plan: Mapping[str, Any]) -> str:
    """Return the chart: tasks with what they do beside a call, arrows along references, the answer drawn round."""
    tasks = plan.get("tasks") or ()
    ids = {str(task.get("id")): f"t{index}" for index, task in enumerate(tasks)}
    lines = ["flowchart LR"]
    for task in tasks:
        left, right = ('(["', '"])') if task.get("id") == plan.get("output") else ('["', '"]')
        lines.append(f"    {ids[str(task.get('id'))]}{left}{'<br/>'.join(_lines(task))}{right}")
    for source, target in plan.get("links") or ():
        if str(source) in ids and str(target) in ids:
            lines.append(f"    {ids[str(source)]} --> {ids[str(target)]}")
    return "\n".join(lines) + "\n"


def _lines(task: Mapping[str, Any]) -> list[str]:
    found = [f"{task.get('id')}: {task.get('node')}"]
    if task.get("when"):
        found.append(f"when {task['when']}")
    if task.get("map"):
        found.append("for each item")
    if isinstance(repeat := task.get("repeat"), Mapping):
        found.append(f"until {repeat.get('until')}")
    if task.get("composes"):
        found.append("writes the answer")
    return [_label(text) for text in found]


def _label(text: str) -> str:
    short = " ".join(clean(text).split())
    short = short if len(short) <= MAX_LABEL else f"{short[: MAX_LABEL - 1]}…"
    return short.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
