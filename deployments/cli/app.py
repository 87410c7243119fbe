"""Puts the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.evaluate import build_eval_app
from deployments.cli.graphs import graph
from deployments.cli.imports import build_import_app
from deployments.cli.keys import audit, build_keys_app
from deployments.cli.mcp import mcp
from deployments.cli.nodes import build_nodes_app
from deployments.cli.router import build_router_app
from deployments.cli.routing import plan, route
from deployments.cli.runs import run
from deployments.cli.traces import trace
from deployments.cli.train import build_train_app
from deployments.cli.up import build_up
from deployments.cli.validate import kinds, validate

HELP = """Many specialist models behind one endpoint: routed, planned and traced.

Exit codes:

- 0: all is well

- 1: the request was refused or failed, or validation found problems

- 2: wrong usage

- 3: the service cannot be reached

Colours and progress appear on a terminal only, and no colour where NO_COLOR is set.
With --json, a failure is a JSON object on standard error.
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("modelyard"))
        raise typer.Exit


def build_app() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        help=HELP,
        pretty_exceptions_show_locals=False,  # locals may hold the API key
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    here, there = "Without a service", "With a running service"
    app.command("up", rich_help_panel=here)(build_up())
    app.command(rich_help_panel=here)(validate)
    app.command(rich_help_panel=here)(kinds)
    app.add_typer(build_import_app(), name="import", rich_help_panel=here)
    app.add_typer(build_train_app(), name="train", rich_help_panel=here)
    app.add_typer(build_eval_app(), name="eval", rich_help_panel=here)
    app.add_typer(build_nodes_app(), name="nodes", rich_help_panel=there)
    app.add_typer(build_router_app(), name="router", rich_help_panel=there)
    app.add_typer(build_keys_app(), name="keys", rich_help_panel=there)
    for command in (route, plan, run, trace, graph, mcp, audit):
        app.command(rich_help_panel=there)(command)
    return app


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take the options that stand before a command."""
