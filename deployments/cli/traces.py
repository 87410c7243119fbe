"""`trace`: the spans of one request as a tree over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from deployments.cli.console import clean, console, styled, write_json, write_table
from deployments.cli.options import DEFAULT_URL, Json, Key, Url
from deployments.cli.session import connect

BAR_WIDTH = 32
SHOWN_ATTRIBUTES = (
    "modelyard.node",
    "modelyard.route.probability",
    "gen_ai.request.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "error.type",
)


def trace(
    id: Annotated[str, typer.Argument(metavar="ID", help="Trace id (header x-trace-id).", show_default=False)],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show the spans of a request as a tree, with offsets and durations; * marks the critical path."""
    with connect(url, key, as_json) as client:
        found = client.trace(id)
    write_json(found) if as_json else write_trace(console(), found)


def write_trace(out: Console, trace: Mapping[str, Any]) -> None:
    """Write the spans as a table whose first column is the tree."""
    spans: Sequence[Mapping[str, Any]] = trace.get("spans") or ()
    if not spans:
        out.print(styled(f"trace {trace.get('trace_id')} has no spans yet"))
        return
    first = min(float(span["start"]) for span in spans)
    scale = _milliseconds_per_unit(spans)
    total = max((float(span["start"]) - first) * scale + float(span.get("duration_ms") or 0) for span in spans)
    rows = []
    for span, guide in tree_order(spans):
        offset = (float(span["start"]) - first) * scale
        duration = float(span.get("duration_ms") or 0)
        critical = bool(span.get("critical"))
        rows.append(
            (
                Text.assemble((guide, "dim"), (clean(span.get("name")), "bold" if critical else "")),
                Text("*" if critical else "", style="bold yellow"),
                Text(f"+{offset:.1f} ms"),
                Text(f"{duration:.1f} ms"),
                time_bar(offset, duration, total, _style(span)),
                styled(span.get("status") or "", "red" if _failed(span) else ""),
                styled(_attributes(span), "dim"),
            )
        )
    write_table(out, ("span", "*", "start", "duration", "when", "status", "attributes"), rows)
    out.print(styled(f"trace {trace.get('trace_id')}, {len(spans)} spans, {total:.1f} ms", "dim"))


def tree_order(spans: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
    """Return the spans depth first, by start, each with the lines that draw the tree before its name."""
    ids = {span.get("span_id") for span in spans}
    children: dict[Any, list[Mapping[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: float(span["start"])):
        parent = span.get("parent_id")
        children.setdefault(parent if parent in ids else None, []).append(span)
    found: list[tuple[Mapping[str, Any], str]] = []
    pending = [(root, "", "") for root in reversed(children.get(None, ()))]
    while pending:
        span, own, below = pending.pop()
        found.append((span, own))
        inner = children.get(span.get("span_id"), ())
        for index, child in enumerate(reversed(inner)):
            last = index == 0
            pending.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    return found


def time_bar(offset: float, duration: float, total: float, style: str) -> Text:
    """Return a bar that stands where the span stood in the whole; at least one cell wide."""
    if total <= 0:
        return Text("█", style=style)
    start = min(int(offset / total * BAR_WIDTH), BAR_WIDTH - 1)
    width = max(1, min(round(duration / total * BAR_WIDTH), BAR_WIDTH - start))
    return Text(" " * start + "█" * width, style=style)


def _milliseconds_per_unit(spans: Sequence[Mapping[str, Any]]) -> float:
    """Return the factor from `start` to milliseconds: seconds, or OpenTelemetry's nanoseconds, since the epoch."""
    return 1e-6 if float(spans[0]["start"]) > 1e15 else 1e3


def _failed(span: Mapping[str, Any]) -> bool:
    return str(span.get("status", "")).lower() in ("error", "failed")


def _style(span: Mapping[str, Any]) -> str:
    if _failed(span):
        return "red"
    return "yellow" if span.get("critical") else "cyan"


def _attributes(span: Mapping[str, Any]) -> str:
    attributes = span.get("attributes") or {}
    return " ".join(f"{name.rpartition('.')[2]}={attributes[name]}" for name in SHOWN_ATTRIBUTES if name in attributes)
