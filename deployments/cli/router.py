"""`router show|versions|suggest|learn`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.console import clean, console, styled, write_json, write_table
from deployments.cli.gate_report import STYLES, write_report
from deployments.cli.options import DEFAULT_URL, FAILED, Json, Key, Url
from deployments.cli.session import connect

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be learned, and what the gate says.")]
Force = Annotated[bool, typer.Option("--force", help="Learn it even where the gate refuses.")]


def build_router_app() -> typer.Typer:
    """Return the group of commands about the router."""
    app = typer.Typer(no_args_is_help=True, help="See what the router has learned, and teach it from traffic.")
    app.command()(show)
    app.command()(versions)
    app.command()(suggest)
    app.command()(learn)
    return app


def show(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show the card of the router's newest version."""
    with connect(url, key, as_json) as client:
        card = client.router()
    if as_json:
        write_json(card)
        return
    out = console()
    out.print(styled(f"version {card['version']}, {_when(card['created_at'])}", "bold"), soft_wrap=True)
    out.print(styled(f"{card['strategy']}, {card['encoder']}; {card['examples']} examples"), soft_wrap=True)
    out.print(styled(f"nodes: {', '.join(card['labels'])}"), soft_wrap=True)
    out.print(styled(f"data: {card['data_sha256']}", "dim"), soft_wrap=True)
    for name, report in card["gate"].items():
        write_report(out, name, report)


def versions(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """List the versions of the router, newest first: when, what changed, what the gate said."""
    with connect(url, key, as_json) as client:
        cards = client.router_versions()
    if as_json:
        write_json({"versions": cards})
        return
    rows = [
        (
            styled(card["version"], "bold"),
            styled(_when(card["created_at"])),
            styled(_change(card["change"])),
            styled(len(card["labels"])),
            styled(card["examples"]),
            styled(_verdicts(card["gate"])),
            styled(card["data_sha256"][:12], "dim"),
        )
        for card in cards
    ]
    write_table(console(), ("version", "created", "change", "nodes", "examples", "gate", "data"), rows)


def suggest(
    budget: Annotated[int, typer.Option("--budget", min=1, max=200, help="Requests to label, at most.")] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Folder for the proposed nodes' YAML.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show which recent requests are worth a label, and for which subjects an expert is missing.

    Label one by `POST /v1/feedback` with its `request_id` and the `right_node`; `router learn` then learns from it.
    """
    with connect(url, key, as_json) as client:
        found: Mapping[str, Any] = client.suggestions(budget)
    _write_files(found["missing"], out)
    if as_json:
        write_json(found)
        return
    target = console()
    target.print(styled(f"{found['requests']} recent requests, {found['doubtful']} of them doubtful"), soft_wrap=True)
    rows = [
        (
            styled(item["request_id"]),
            styled(item["node"] or "-"),
            styled(f"{item['probability']:.2f}"),
            styled(item["stands_for"]),
            styled(_short(item["text"])),
        )
        for item in found["to_label"]
    ]
    if rows:
        write_table(target, ("request_id", "node", "probability", "stands for", "text"), rows, title="Worth a label")
    if out is not None and not found["missing"]:
        target.print(styled(f"nothing was written to {out}: no expert is missing"), soft_wrap=True)
    for item in found["missing"]:
        target.print(styled(f"Missing expert: {item['count']} requests out of scope", "bold"), soft_wrap=True)
        target.print(styled(item["yaml"].rstrip()), soft_wrap=True)


def learn(
    dry_run: DryRun = False, force: Force = False, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False
) -> None:
    """Make requests whose right node people named examples of that node: a new version of each, through the gate.

    With --quality-data, ratings of answers join the correctness data, too.
    """
    with connect(url, key, as_json) as client:
        found: Mapping[str, Any] = client.learn(dry_run=dry_run, force=force)
    refused = [item["node"] for item in found["nodes"] if item["gate"]["verdict"] == "refuse" and not force]
    if as_json:
        write_json(found)
    else:
        target = console()
        rows = [
            (
                styled(item["node"], "bold"),
                styled(item["added"]),
                styled(", ".join(f"{caller} {count}" for caller, count in item["from"].items())),
                styled(item["version"] or "-"),
                styled(item["gate"]["verdict"], STYLES.get(item["gate"]["verdict"], "dim")),
            )
            for item in found["nodes"]
        ]
        write_table(target, ("node", "examples added", "said by", "version", "gate"), rows)
        if found.get("ratings"):
            target.print(styled(f"{found['ratings']} ratings {'would ' if dry_run else ''}join the quality data"))
        for item in found["nodes"]:
            if item["gate"]["verdict"] in ("flag", "refuse"):
                write_report(target, item["node"], item["gate"])
    if refused:
        raise typer.Exit(FAILED)


def _write_files(missing: Sequence[Mapping[str, Any]], folder: Path | None) -> None:
    if folder is None or not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for item in missing:
        (folder / f"{Path(item['name']).name}.yaml").write_text(item["yaml"], encoding="utf-8")


def _change(change: Sequence[Mapping[str, Any]]) -> str:
    words = {True: "+", False: ""}
    parts = [
        f"-{item['node']}" if item["to"] is None else f"{words[item['from'] is None]}{item['node']} v{item['to']}"
        for item in change
    ]
    return ", ".join(parts[:8]) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "")


def _verdicts(gate: Mapping[str, Mapping[str, Any]]) -> str:
    return ", ".join(sorted({str(report["verdict"]) for report in gate.values()})) or "-"


def _short(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= 100 else f"{line[:99]}…"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
