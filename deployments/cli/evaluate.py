"""`eval`: how well routing and choosing work, measured on labelled rows; needs no service."""

from __future__ import annotations

from collections.abc import Callable

import typer

from deployments.cli.evaluate_choice import choice
from deployments.cli.evaluate_planner import planner
from deployments.cli.evaluate_router import router

HELP = "Measure an artefact on labelled rows, without a service."


def build_eval_app() -> typer.Typer:
    """Return the commands of `eval`."""
    app = typer.Typer(no_args_is_help=True, help=HELP)
    commands: dict[str, Callable[..., None]] = {"router": router, "choice": choice, "planner": planner}
    for name, command in commands.items():
        app.command(name)(command)
    return app
