"""`route` and `plan`: decide without running."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from deployments.cli.console import clean, console, styled, write_json, write_table
from deployments.cli.options import DEFAULT_URL, Json, Key, Url
from deployments.cli.plan_mermaid import plan_mermaid
from deployments.cli.requests import Audio, Image, RequestText, build_request
from deployments.cli.session import connect

BAR_WIDTH = 20


Mermaid = Annotated[bool, typer.Option("--mermaid", help="Write the plan as a Mermaid flow chart.")]


def route(
    text: RequestText,
    audio: Audio = None,
    image: Image = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show which node would take a request, with probabilities, and why others would not."""
    request = build_request(text, audio, image)
    with connect(url, key, as_json) as client:
        found = client.route(request)
    write_json(found) if as_json else write_decision(console(), found)


def plan(
    text: RequestText,
    audio: Audio = None,
    image: Image = None,
    mermaid: Mermaid = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show how a request would be split into tasks, without running them."""
    request = build_request(text, audio, image)
    with connect(url, key, as_json) as client:
        found = client.plan(request)
    if mermaid:
        typer.echo(plan_mermaid(found), nl=False)
    else:
        write_json(found) if as_json else write_plan(console(), found)


def write_decision(out: Console, decision: Mapping[str, Any]) -> None:
    """Write a decision: the choice, the candidates with bars, the nodes left out with reasons."""
    out.print(_choice(decision), soft_wrap=True)
    chosen = decision.get("node")
    rows = []
    for item in decision.get("candidates") or ():
        probability = float(item.get("probability") or 0.0)
        style = "bold green" if item.get("node") == chosen else ""
        rows.append((styled(item.get("node"), style), f"{probability:.3f}", probability_bar(probability)))
    if rows:
        write_table(out, ("node", "probability", ""), rows)
    left_out = [(item.get("node"), item.get("reason")) for item in decision.get("excluded") or ()]
    if left_out:
        write_table(out, ("excluded", "reason"), [(styled(node), styled(why)) for node, why in left_out])
    facts = f"strategy {decision.get('strategy')}, {float(decision.get('elapsed_ms') or 0):.1f} ms"
    if decision.get("query"):
        out.print(styled(f"query: {decision['query']}", "dim"), soft_wrap=True)
    out.print(styled(facts, "dim"))


def write_plan(out: Console, plan: Mapping[str, Any]) -> None:
    """Write a plan as a tree: a task hangs under the last task that it waits for."""
    out.print(plan_tree(plan))
    for name, value in (plan.get("budget") or {}).items():
        out.print(styled(f"budget: {name} {value}", "dim"))
    for question in plan.get("missing") or ():
        out.print(styled(f"missing: {question}", "yellow"), soft_wrap=True)


def plan_tree(plan: Mapping[str, Any], notes: Mapping[str, Text] | None = None) -> Tree:
    """Return the tree of a plan's tasks; `notes` adds a text to the tasks it names (status, timing)."""
    tasks: Sequence[Mapping[str, Any]] = plan.get("tasks") or ()
    needs: dict[str, list[str]] = {str(task.get("id")): [] for task in tasks}
    for source, target in plan.get("links") or ():
        needs.setdefault(str(target), []).append(str(source))
    title = f"plan by {clean(plan.get('planner') or 'the caller')}, {len(tasks)} task{'s' * (len(tasks) != 1)}"
    tree = Tree(Text(title, style="bold"))
    branches: dict[str, Tree] = {}
    pending = list(tasks)
    while pending:
        ready = [task for task in pending if all(need in branches for need in needs[str(task.get("id"))])]
        for task in ready or pending:  # a cycle cannot be drawn as a tree; show its tasks anyway
            id = str(task.get("id"))
            parent = next((branches[need] for need in reversed(needs[id]) if need in branches), tree)
            branches[id] = parent.add(_task_label(task, needs[id], plan.get("output"), (notes or {}).get(id)))
            for name, value in [*_forms(task), *(task.get("arguments") or {}).items()]:
                branches[id].add(Text.assemble((f"{clean(name)}: ", "dim"), argument_text(value)))
        pending = [task for task in pending if str(task.get("id")) not in branches]
    return tree


def argument_text(value: Any) -> Text:
    """Return an argument on one line; a reference or an expression as an arrow to its task."""
    if isinstance(value, Mapping) and set(value) in ({"$ref"}, {"$expr"}):
        return styled(f"<- {next(iter(value.values()))}", "cyan")
    if isinstance(value, list):
        return Text(", ").join(argument_text(item) for item in value)
    shown = " ".join(clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return Text(shown if len(shown) <= 200 else f"{shown[:199]}…")


def _forms(task: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a task has beside its arguments, as people read it."""
    if task.get("when"):
        yield "when", {"$expr": task["when"]}
    if isinstance(found := task.get("map"), Mapping):
        yield f"for each item, {found.get('parallel')} at a time, of", found.get("over")
    if isinstance(found := task.get("repeat"), Mapping):
        yield f"again, {found.get('max')} times at most, until", {"$expr": found.get("until")}
    if task.get("expect"):
        yield "expect", {"$expr": task["expect"]}
    if task.get("composes"):
        yield "writes the answer from", ", ".join(map(str, task["composes"]))


def probability_bar(probability: float) -> Text:
    """Return a bar for a number from 0 to 1."""
    filled = round(min(max(probability, 0.0), 1.0) * BAR_WIDTH)
    return Text.assemble(("█" * filled, "green"), ("░" * (BAR_WIDTH - filled), "dim"))


def _choice(decision: Mapping[str, Any]) -> Text:
    node, probability = decision.get("node"), float(decision.get("probability") or 0.0)
    if node is None:
        return styled("out of scope: no node takes this, and none is the default", "bold yellow")
    found = Text.assemble(("-> ", "dim"), (clean(node), "bold green"), f" with probability {probability:.3f}")
    if decision.get("out_of_scope"):
        found.append(" (out of scope: the default node takes it)", style="yellow")
    if decision.get("via"):
        found.append(f", by way of {', '.join(map(clean, decision['via']))}")
    return found


def _task_label(task: Mapping[str, Any], needs: Sequence[str], output: Any, note: Text | None) -> Text:
    label = Text.assemble((clean(task.get("id")), "bold"), " ", (clean(task.get("node")), "green"))
    if needs:
        label.append(f"  after {clean(', '.join(needs))}", style="dim")
    if task.get("id") == output:
        label.append("  (answer)", style="magenta")
    if note is not None:
        label.append("  ").append_text(note)
    return label
