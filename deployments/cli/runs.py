"""`run`: start a run, follow it, print the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import clean, console, styled, write_json
from deployments.cli.options import DEFAULT_URL, FAILED, Json, Key, Url
from deployments.cli.requests import Audio, Image, build_request
from deployments.cli.run_display import RunDisplay
from deployments.cli.session import connect

if TYPE_CHECKING:
    from deployments.client import Client

OptionalText = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="The request; - reads it from standard input.", show_default=False)
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="Run this plan (what `modelyard plan --json` printed); - reads it.")
]

Compose = Annotated[
    str | None, typer.Option("--compose", metavar="NODE", help="Chat node that writes the answer from all outcomes.")
]
Replan = Annotated[
    int | None, typer.Option("--replan", min=0, max=5, help="How often the rest is planned anew after a failure.")
]
BudgetText = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="NAME=N", help="What the run may take: calls, tokens, cost or deadline_s."),
]


def run(
    text: OptionalText = None,
    audio: Audio = None,
    image: Image = None,
    plan: PlanFile = None,
    compose: Compose = None,
    replan: Replan = None,
    budget: BudgetText = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Plan a request, run it across the nodes and print the answer.

    The tasks are shown on standard error as they run; standard output carries the answer alone. Exits with 1 if
    the run failed; a partial answer is printed, and what is missing is said on standard error.
    """
    request = _request(text, audio, image, plan) | _wishes(compose, replan, budget)
    with connect(url, key, as_json) as client:
        id = client.start_run(request)
        try:
            found = _follow(client, id, show=not as_json)
        except KeyboardInterrupt:
            console(stderr=True).print(styled(f"run {id} goes on in the service", "yellow"), soft_wrap=True)
            raise
    if as_json:
        write_json(found)
    else:
        _write(id, found)
    if found.get("status") == "failed":
        raise typer.Exit(FAILED)


def _request(text: str | None, audio: Audio, image: Image, plan: Path | None) -> dict[str, Any]:
    if text is None and plan is None and not audio and not image:
        raise typer.BadParameter("is missing; say what is asked, or give a --plan", param_hint="TEXT")
    asked = build_request(text or "", audio, image) if text is not None or audio or image else {}
    return asked | ({"plan": _read_plan(plan)} if plan is not None else {})


def _wishes(compose: str | None, replan: int | None, budget: list[str] | None) -> dict[str, Any]:
    bounds: dict[str, float] = {}
    for item in budget or ():
        name, _, value = item.partition("=")
        try:
            bounds[name] = int(value) if value.isdigit() else float(value)
        except ValueError:
            message = f"{item!r} is not NAME=NUMBER; names are calls, tokens, cost and deadline_s"
            raise typer.BadParameter(message, param_hint="--budget") from None
    found = {"compose": {"node": compose} if compose else None, "replan": replan, "budget": bounds or None}
    return {name: value for name, value in found.items() if value is not None}


def _read_plan(path: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--plan") from error
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--plan") from error


def _follow(client: Client, id: str, *, show: bool) -> dict[str, Any]:
    """Show a run until it ends; return the final run."""
    end: Mapping[str, Any] = {}
    with RunDisplay(console(stderr=True), show=show) as display:
        for event in client.events(id):
            display.handle(event.type, event.data if isinstance(event.data, Mapping) else {})
            if event.type == "run.finished" and isinstance(event.data, Mapping):
                end = event.data
    found = client.run(id)
    if found.get("status") == "running":
        found |= {key: end[key] for key in ("status", "output") if key in end}
    return found


def _write(id: str, run: Mapping[str, Any]) -> None:
    output = run.get("output")
    if output:
        shown = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, indent=2)
        typer.echo(clean(shown))
    status = run.get("status")
    notes = console(stderr=True)
    if status in ("partial", "failed"):
        notes.print(styled(f"status: {status}", "yellow" if status == "partial" else "red"))
        error = run.get("error")
        if isinstance(error, Mapping) and error.get("message"):
            notes.print(styled(f"error: {error['message']}", "red"), soft_wrap=True)
        for outcome in run.get("outcomes") or ():
            if outcome.get("status") != "ok":
                reason = (outcome.get("error") or {}).get("message", "")
                text = f"  {outcome.get('task')} ({outcome.get('node')}) {outcome.get('status')}: {reason}"
                notes.print(styled(text), soft_wrap=True)
    trace = f", trace {run['trace_id']}" if run.get("trace_id") else ""
    notes.print(styled(f"run {id}{trace}", "dim"), soft_wrap=True)
