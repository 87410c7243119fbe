"""`train`: fits artefacts from labelled rows; needs no service."""

from __future__ import annotations

from collections.abc import Callable

import typer

from deployments.cli.train_functional_tokens import functional_tokens
from deployments.cli.train_planner import planner
from deployments.cli.train_router import router

HELP = "Train an artefact from labelled rows, without a service."


def build_train_app() -> typer.Typer:
    """Return the commands of `train`."""
    app = typer.Typer(no_args_is_help=True, help=HELP)
    commands: dict[str, Callable[..., None]] = {
        "router": router,
        "functional-tokens": functional_tokens,
        "planner": planner,
    }
    for name, command in commands.items():
        app.command(name)(command)
    return app
