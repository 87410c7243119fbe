"""`import openapi|mcp`: nodes made from what a service says of itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, styled, write_json, write_table
from deployments.cli.nodes import add_specs
from deployments.cli.offline import reporting
from deployments.cli.options import DEFAULT_URL, FAILED, Json, Key, Url
from deployments.cli.session import connect

if TYPE_CHECKING:
    from deployments.imports.mcp import Server
    from deployments.imports.report import Imported

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the nodes, a file each; without it they go to standard output.",
                 show_default=False, file_okay=False),
]  # fmt: skip
Prefix = Annotated[str, typer.Option("--prefix", help="Put before every node's name.", show_default=False)]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", show_default=False,
                 help="Only operations whose node, id or `GET /path` fits this pattern (`*order*`); may be repeated."),
]  # fmt: skip
Apply = Annotated[bool, typer.Option("--apply", help="Add the nodes to a running service.")]
Force = Annotated[bool, typer.Option("--force", help="With --apply: add the nodes even if the gate refuses them.")]


def build_import_app() -> typer.Typer:
    """Return the group of commands that import nodes."""
    app = typer.Typer(no_args_is_help=True, help="Make nodes from what a service says of itself.")
    app.command("openapi")(openapi)
    app.command("mcp", context_settings={"ignore_unknown_options": True})(mcp)
    return app


def openapi(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="File or address of an OpenAPI 3 document.")],
    out: Out = None,
    prefix: Prefix = "",
    server: Annotated[
        str | None, typer.Option("--server", help="Base URL, instead of the document's.", show_default=False)
    ] = None,
    include: Include = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only operations of this tag; may be repeated.", show_default=False),
    ] = None,
    apply: Apply = False,
    force: Force = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Make a node of kind `http` of each operation of an OpenAPI document, JSON or YAML.

    Tells of every operation that cannot be expressed, and why. Exits with 1 if none could be imported.
    """
    from deployments.imports.document import read_document
    from deployments.imports.openapi import Selection, import_openapi

    selection = Selection(prefix, server, tuple(include or ()), frozenset(tag or ()))
    with reporting(as_json):
        imported = import_openapi(read_document(spec), spec, selection)
    finish(imported, out, as_json=as_json, apply=apply, force=force, url=url, key=key)


def mcp(
    target: Annotated[
        list[str], typer.Argument(metavar="URL|COMMAND", help="Address of the server, or the command that starts it.")
    ],
    out: Out = None,
    prefix: Prefix = "",
    name: Annotated[
        str, typer.Option("--name", help="Name of a server that is started by a command.", show_default=False)
    ] = "",
    secret: Annotated[
        str | None,
        typer.Option("--secret", help="Variable with the bearer token of a server at an address.", show_default=False),
    ] = None,
    include: Include = None,
    apply: Apply = False,
    force: Force = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Make a node of kind `mcp` of each tool of a Model Context Protocol server.

    A command is started here, to ask for its tools. A service starts it only if it was declared there:
    `modelyard up --mcp-servers NAME=COMMAND`. Options stand before the command.
    """
    import asyncio

    from deployments.imports.mcp import import_mcp, list_tools

    server = _server(target, name or prefix, secret)
    with reporting(as_json):
        tools = asyncio.run(list_tools(server))
    imported = import_mcp(tools, server, prefix=prefix, include=tuple(include or ()))
    finish(imported, out, as_json=as_json, apply=apply, force=force, url=url, key=key)
    if server.command and not as_json:
        declared = f"{server.name}={shlex.join(server.command)}"
        words = f"the service must be started with --mcp-servers {shlex.quote(declared)}"
        console(stderr=True).print(styled(words), soft_wrap=True)


def _server(target: list[str], name: str, secret: str | None) -> Server:
    from deployments.imports.mcp import Server

    if target[0].startswith(("http://", "https://")):
        if len(target) > 1:
            raise typer.BadParameter(f"{target[1]!r} stands after an address; options stand before it")
        return Server(endpoint=target[0], api_key=f"${{{secret}}}" if secret else None)
    command = tuple(shlex.split(target[0])) if len(target) == 1 else tuple(target)
    if not command:
        raise typer.BadParameter("is empty: give an address or a command")
    return Server(name=name.strip("._-") or Path(command[0]).stem, command=command)


def finish(
    imported: Imported, out: Path | None, *, as_json: bool, apply: bool, force: bool, url: str, key: str | None
) -> None:
    """Write the nodes or add them to a service, and report what was imported and what was not."""
    from graph.loader import dump_yaml

    specs = imported.specs
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for spec in specs:
            (out / f"{spec.name}.yaml").write_text(dump_yaml(spec))
    elif not apply and not as_json:
        typer.echo("---\n".join(map(dump_yaml, specs)), nl=False)
    added: list[dict[str, Any]] = []
    if apply and specs:
        with connect(url, key, as_json) as client:
            added = add_specs(client, specs, force=force)
    if as_json:
        nodes = {} if out or apply else {"specs": [spec.to_yaml_dict() for spec in specs]}
        write_json(imported.to_json() | nodes | ({"added": added} if apply else {}))
    else:
        _write_report(imported, added)
    if not specs or any(result.get("state") == "failed" for result in added):
        raise typer.Exit(FAILED)


def _write_report(imported: Imported, added: list[dict[str, Any]]) -> None:
    """Write the report to standard error, beside the nodes."""
    target = console(stderr=True)
    failures = {item["name"]: item["error"].get("message") for item in added if item.get("state") == "failed"}
    rows = []
    for made in imported.made:
        name, failure = made.spec.name, failures.get(made.spec.name)
        rows.append(
            (
                styled(made.source),
                styled(name, "bold"),
                styled("; ".join([*made.notes, *([failure] if failure else [])])),
            )
        )
    rows += [(styled(left.source), styled("-", "red"), styled(left.reason, "red")) for left in imported.left]
    write_table(target, ("operation", "node", "not expressed"), rows)
    unselected = f", {imported.unselected} not selected" if imported.unselected else ""
    words = f"{imported.title or 'document'}: {len(imported.made)} imported, {len(imported.left)} not{unselected}"
    target.print(styled(words, "green" if imported.made else "red"), soft_wrap=True)
    for name, about in sorted(imported.secrets.items()):
        target.print(styled(f"set {name} where the service runs: {about}"), soft_wrap=True)
