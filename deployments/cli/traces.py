"""`trace`: the spans of one request as a tree over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from deployments.cli.console import clean, console, styled, write_json, write_table
from deployments.cli.options import DEFAULT_URL, Json, Key, Url
from deployments.cli.session import connect

BAR_WIDTH = 32
SHOWN_ATTRIBUTES = (
    "modelyard.trace.kept",
    "modelyard.node",
    "modelyard.node.version",
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
    spans = read_spans(trace)
    if not spans:
        out.print(styled(f"trace {trace.get('trace_id')} has no spans yet"))
        return
    total = max(span.offset_ms + span.duration_ms for span in spans)
    rows = [
        (
            Text.assemble((guide, "dim"), (span.name, "bold" if span.critical else "")),
            Text("*" if span.critical else "", style="bold yellow"),
            Text(f"+{span.offset_ms:.1f} ms"),
            Text(f"{span.duration_ms:.1f} ms"),
            time_bar(span.offset_ms, span.duration_ms, total, _style(span)),
            styled(span.status, "red" if span.failed else ""),
            styled(span.about, "dim"),
        )
        for span, guide in tree_order(spans)
    ]
    write_table(out, ("span", "*", "start", "duration", "when", "status", "attributes"), rows)
    out.print(styled(f"trace {trace.get('trace_id')}, {len(spans)} spans, {total:.1f} ms", "dim"))
    if jaeger := trace.get("jaeger"):
        out.print(styled(f"in Jaeger: {jaeger}", "dim"), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it is shown."""

    id: str
    parent: str | None
    name: str
    offset_ms: float
    """Milliseconds from the start of the trace."""
    duration_ms: float
    status: str
    """Empty unless it was set."""
    critical: bool
    about: str

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return self.status == "ERROR"


def read_spans(trace: Mapping[str, Any]) -> list[Span]:
    """Read the spans of a trace, parents before their children."""
    found: list[Mapping[str, Any]] = list(trace.get("roots") or ())
    for item in found:  # grows while it is read
        found += item.get("children") or ()
    return [_read_span(item) for item in found]


def _read_span(item: Mapping[str, Any]) -> Span:
    status = clean(item.get("status") or "")
    return Span(
        str(item.get("span_id")),
        item.get("parent_id"),
        clean(item.get("name")),
        float(item.get("offset_ms") or 0),
        float(item.get("duration_ms") or 0),
        "" if status == "UNSET" else status,
        bool(item.get("critical")),
        _attributes(item.get("attributes") or {}),
    )


def tree_order(spans: Sequence[Span]) -> list[tuple[Span, str]]:
    """Return the spans depth first, by start, each with the lines that draw the tree before its name."""
    ids = {span.id for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.offset_ms):
        children.setdefault(span.parent if span.parent in ids else None, []).append(span)
    found: list[tuple[Span, str]] = []
    pending = [(root, "", "") for root in reversed(children.get(None, ()))]
    while pending:
        span, own, below = pending.pop()
        found.append((span, own))
        for index, child in enumerate(reversed(children.get(span.id, ()))):
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


def _style(span: Span) -> str:
    if span.failed:
        return "red"
    return "yellow" if span.critical else "cyan"


def _attributes(attributes: Mapping[str, Any]) -> str:
    return " ".join(f"{name.rpartition('.')[2]}={attributes[name]}" for name in SHOWN_ATTRIBUTES if name in attributes)
