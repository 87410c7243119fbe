"""`nodes list|show|add|remove|history|promote|rollback`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from deployments.cli.console import clean, console, state_text, styled, write_json, write_table
from deployments.cli.gate_report import write_report
from deployments.cli.options import DEFAULT_URL, FAILED, Json, Key, Url
from deployments.cli.session import complete_node, connect
from deployments.cli.validate import NodePaths, check_paths, edge_text, problem_json, write_problems
from deployments.cli.waiting import Waiting, wait_ready

if TYPE_CHECKING:
    from deployments.client import Client
    from graph.spec import NodeSpec

NodeName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the node.", autocompletion=complete_node, show_default=False)
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the node is ready or has failed.")]
WaitSeconds = Annotated[float, typer.Option("--wait-s", min=0.1, help="Longest wait, in seconds.")]


def build_nodes_app() -> typer.Typer:
    """Return the group of commands about nodes."""
    app = typer.Typer(no_args_is_help=True, help="List, add, change and remove the nodes of a running service.")
    app.command("list")(list_nodes)
    app.command()(show)
    app.command()(add)
    app.command()(remove)
    app.command()(history)
    app.command()(promote)
    app.command()(rollback)
    return app


def list_nodes(url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """List the nodes with their state."""
    with connect(url, key, as_json) as client:
        nodes = client.nodes()
    if as_json:
        write_json({"nodes": nodes})
        return
    columns = ["name", "kind", "version", "state", "description", "edges"]
    rows = [
        [
            styled(node.get("name"), "bold"),
            styled(node.get("kind")),
            styled(node.get("version", "")),
            state_text(node.get("state")),
            styled(node.get("description")),
            styled(edge_text(node.get("edges"))),
        ]
        for node in nodes
    ]
    if any(node.get("rollout") for node in nodes):
        columns.append("rollout")
        for row, node in zip(rows, nodes, strict=True):
            row.append(styled(rollout_text(node.get("rollout"))))
    if any(node.get("error") for node in nodes):
        columns.append("error")
        for row, node in zip(rows, nodes, strict=True):
            row.append(styled(_error_text(node.get("error")), "red"))
    write_table(console(), columns, rows)


def show(name: NodeName, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Show one node: its state and its declaration."""
    with connect(url, key, as_json) as client:
        node = client.node(name)
    if as_json:
        write_json(node)
    else:
        typer.echo(clean(yaml.safe_dump(node, sort_keys=False, allow_unicode=True)).rstrip())


def add(
    paths: NodePaths,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, and show what the gate says.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Add the nodes even if the gate refuses them.")] = False,
    wait: Wait = True,
    wait_s: WaitSeconds = 600.0,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Add nodes to a running service, or new versions of them.

    The files are checked here first, every one of them; nothing is sent if there is any problem. The service then
    measures what a node would do to the others' requests, and refuses one that would do harm.
    """
    with connect(url, key, as_json) as client:
        specs = _checked(paths, as_json, known=[str(node.get("name")) for node in client.nodes()])
        results = [_put(client, spec, dry_run=dry_run, force=force) for spec in specs]
        results = _settled(client, results, wait_s if wait and not dry_run else None, as_json)
    _finish(results, as_json, done="checked" if dry_run else "added")


def remove(name: NodeName, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """Remove a node; calls that it is answering end first."""
    with connect(url, key, as_json) as client:
        result = client.delete_node(name)
    write_json(result) if as_json else console().print(styled(f"removed {name}"), soft_wrap=True)


def history(name: NodeName, url: Url = DEFAULT_URL, key: Key = None, as_json: Json = False) -> None:
    """List every version of a node, in the service's order: newest first."""
    with connect(url, key, as_json) as client:
        versions = client.history(name)
    if as_json:
        write_json({"name": name, "versions": versions})
        return
    rows = [
        (
            styled(version.get("version"), "bold"),
            state_text("removed") if "spec" in version and version["spec"] is None else styled("declared"),
            styled(_when(version.get("created_at"))),
            styled(version.get("source", "")),
            styled(version.get("author", "")),
            styled(str(version.get("sha256", ""))[:12], "dim"),
        )
        for version in versions
    ]
    write_table(console(), ("version", "change", "created", "source", "author", "sha256"), rows)


def promote(
    name: NodeName,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Let a node's newest version, which takes a share of the calls, take all of them."""
    with connect(url, key, as_json) as client:
        result = client.promote(name)
    line = f"{name} version {result.get('version')} takes all calls"
    write_json(result) if as_json else console().print(styled(line), soft_wrap=True)


def rollback(
    name: NodeName,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Version to return to; the one before the present if left out.")
    ] = None,
    wait: Wait = True,
    wait_s: WaitSeconds = 600.0,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Return a node to an earlier version."""
    with connect(url, key, as_json) as client:
        results = _settled(client, [client.rollback(name, to) | {"name": name}], wait_s if wait else None, as_json)
    _finish(results, as_json, done="rolled back")


def _checked(paths: Sequence[Path], as_json: bool, known: Iterable[str]) -> list[NodeSpec]:
    """Return the specs of the files, targets of edges first; end the command if there is any problem."""
    loaded, problems = check_paths(paths, as_json=as_json, known=known)
    if problems:
        if as_json:
            write_json({"ok": False, "problems": [problem_json(p) for p in problems]})
        else:
            write_problems(problems)
        raise typer.Exit(FAILED)
    return _targets_first(loaded.specs)


def _targets_first(specs: Sequence[NodeSpec]) -> list[NodeSpec]:
    """Order nodes so that an edge's target is there before the edge, as far as cycles allow."""
    by_name = {spec.name: spec for spec in specs}
    ordered: dict[str, NodeSpec] = {}
    visited: set[str] = set()

    def visit(spec: NodeSpec) -> None:
        visited.add(spec.name)
        for _, targets in spec.edges:
            for target in targets:
                if target in by_name and target not in visited:
                    visit(by_name[target])
        ordered[spec.name] = spec

    for spec in specs:
        if spec.name not in visited:
            visit(spec)
    return list(ordered.values())


def add_specs(client: Client, specs: Sequence[NodeSpec], *, force: bool) -> list[dict[str, Any]]:
    """Register nodes that are known to be valid; return what the service says of each, a refusal included."""
    return [_put(client, spec, dry_run=False, force=force) for spec in _targets_first(specs)]


def _put(client: Client, spec: NodeSpec, *, dry_run: bool, force: bool) -> dict[str, Any]:
    """Register one node; a refusal is a result of its own, so that the other files still get theirs."""
    from deployments.client import ServiceError
    from graph.loader import dump_yaml

    try:
        result = client.put_node(spec.name, dump_yaml(spec), dry_run=dry_run, force=force) | {"name": spec.name}
    except ServiceError as error:
        if error.unreachable or error.status in (401, 403):
            raise
        message = error.message.replace("force=true", "--force") if error.gate else error.message
        failed = {"name": spec.name, "state": "failed", "error": {"message": message, "code": error.code}}
        return failed | ({"gate": error.gate} if error.gate else {})
    refused = dry_run and not force and result.get("gate", {}).get("verdict") == "refuse"
    return result | ({"state": "failed", "error": {"message": "the gate would refuse it"}} if refused else {})


def _settled(
    client: Client, results: list[dict[str, Any]], wait_s: float | None, as_json: bool
) -> list[dict[str, Any]]:
    """Return the results as they are once their nodes are ready or have failed; at once without a time to wait."""
    if wait_s is None:
        return results
    return wait_ready(client, [_waiting(result) for result in results], wait_s, show=not as_json)


def _waiting(result: Mapping[str, Any]) -> Waiting:
    version = result.get("version")
    return Waiting(str(result["name"]), version if isinstance(version, int) else None, dict(result))


def _finish(results: Sequence[Mapping[str, Any]], as_json: bool, done: str) -> None:
    failed = [result for result in results if result.get("state") == "failed"]
    if as_json:
        write_json({"ok": not failed, "nodes": list(results)})
    else:
        rows = [
            (
                styled(result["name"], "bold"),
                styled(result.get("version", "")),
                state_text(result.get("state", done)),
                styled(_error_text(result.get("error"))),
            )
            for result in results
        ]
        out = console()
        write_table(out, ("name", "version", "state", "error"), rows)
        for result in results:
            write_report(out, str(result["name"]), result.get("gate"))
        for line in (line for result in results for line in result.get("changes") or ()):
            out.print(styled(line, {"+": "green", "-": "red"}.get(line[:1], "dim")), soft_wrap=True)
    if failed:
        raise typer.Exit(FAILED)


def rollout_text(rollout: Mapping[str, Any] | None) -> str:
    """Return how a version on trial does, on one line."""
    if not rollout:
        return ""
    line = f"v{rollout['version']} {float(rollout['share']):.0%}: {rollout['flips']}/{rollout['answers']} flips"
    rated = rollout.get("rated")
    return f"{line}, {float(rollout['rated_flip_share']):.0%} of {rated} ratings" if rated else line


def _error_text(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error or "")


def _when(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return clean(seconds or "")
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
