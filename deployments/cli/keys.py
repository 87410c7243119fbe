"""`keys create|list|revoke`, and `audit`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deployments.cli.console import console, styled, write_json, write_table, write_warning
from deployments.cli.options import DEFAULT_URL, Json, Key, Url
from deployments.cli.session import connect


def build_keys_app() -> typer.Typer:
    """Return the group of commands about API keys."""
    app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of a running service.")
    app.command()(create)
    app.command("list")(list_keys)
    app.command()(revoke)
    return app


def create(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Whose it is.", show_default=False)] = None,
    named: Annotated[str | None, typer.Option("--name", help="The same as an option.", show_default=False)] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", "--scopes", help="call, route, read or admin; repeat it, or use commas. Default: call and route."
        ),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option("--node", "--nodes", help="Only this node; repeat it, or use commas. Default: every node."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="How long it holds: 90d, 12h. Default: until revoked.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Most requests a minute.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens a minute.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Most runs in progress at a time.")] = None,
    budget: Annotated[float | None, typer.Option(help="Most cost units a month.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it. It is shown this once: the service keeps a hash."""
    wanted_name = name or named
    if not wanted_name or (name and named):
        raise typer.BadParameter("give one, as an argument or with --name", param_hint="NAME")
    asked: dict[str, Any] = {"name": wanted_name, "scopes": _split(scopes), "nodes": _split(nodes), "expires": expires}
    asked |= {"requests": requests, "tokens": tokens, "runs": runs, "budget": budget}
    with connect(url, key, as_json) as client:
        made = client.create_key({field: value for field, value in asked.items() if value is not None})
    if as_json:
        write_json(made)
        return
    typer.echo(made["key"])
    told = console(stderr=True)
    only = "" if made["nodes"] is None else "only "
    parts = (", ".join(made["scopes"]), f"{only}{_allowed(made)}", _limits(made))
    told.print(styled(f"{made['id']} for {made['name']}: {'; '.join(parts)}"), soft_wrap=True)
    for warning in made.get("warnings") or ():
        write_warning(warning)


def list_keys(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """List the keys, revoked ones too; never the keys themselves."""
    with connect(url, key, as_json) as client:
        keys = client.keys()
    if as_json:
        write_json({"keys": keys})
        return
    rows = [
        (
            styled(item["id"], "bold"),
            styled(item["name"]),
            styled(f"{item['prefix']}…"),
            styled(", ".join(item["scopes"])),
            styled(_allowed(item)),
            styled(_limits(item)),
            styled(_when(item["expires_at"]) or "never"),
            styled(_when(item["revoked_at"]), "red"),
        )
        for item in keys
    ]
    write_table(console(), ("id", "name", "key", "scopes", "nodes", "limits", "expires", "revoked"), rows)


def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `keys list` shows it.", show_default=False)],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Make a key worthless, for good."""
    with connect(url, key, as_json) as client:
        revoked = client.revoke_key(id)
    write_json(revoked) if as_json else console().print(styled(f"revoked {id} ({revoked['name']})"), soft_wrap=True)


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most entries, the latest.")] = 50,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Show who registered, removed, made and revoked what."""
    with connect(url, key, as_json) as client:
        entries = client.audit(limit=limit)
    if as_json:
        write_json({"entries": entries})
        return
    rows = [
        (str(entry["id"]), _when(entry["at"]), entry["by"], styled(entry["act"], "bold"), _what(entry))
        for entry in entries
    ]
    write_table(console(), ("id", "when", "who", "act", "what"), rows)


def _split(values: list[str] | None) -> list[str] | None:
    return [part.strip() for value in values for part in value.split(",") if part.strip()] if values else None


def _allowed(item: Mapping[str, Any]) -> str:
    return "every node" if item["nodes"] is None else ", ".join(item["nodes"])


def _limits(item: Mapping[str, Any]) -> str:
    units = {"requests": "requests/min", "tokens": "tokens/min", "runs": "runs", "budget": "cost units/month"}
    found = [f"{value:g} {units[name]}" for name, value in item["limits"].items() if value is not None]
    return ", ".join(found) or "no limits"


def _when(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _what(entry: Mapping[str, Any]) -> str:
    if "node" in entry:
        return f"{entry['node']} version {entry['before'] or 'none'} to {entry['version']} ({entry['source']})"
    scopes, nodes = ", ".join(entry.get("scopes") or ()), entry.get("nodes")
    return f"{entry.get('key')} {entry.get('name')}: {scopes}{'; ' + ', '.join(nodes) if nodes else ''}"
