"""A command's conversation with the service, and how its failures become exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from deployments.cli.console import write_error
from deployments.cli.options import FAILED, UNREACHABLE, USAGE

if TYPE_CHECKING:
    from deployments.client import Client


@contextmanager
def connect(url: str, key: str | None, as_json: bool = False) -> Iterator[Client]:
    """Lend a client; a `ServiceError` inside is written to standard error and ends the command."""
    from deployments.client import Client, ServiceError  # 0.3 s that `--help` and `validate` need not pay

    try:
        with Client(url, key) as client:
            yield client
    except ServiceError as error:
        message = error.message
        if error.code == "unreachable" and not as_json:
            message += "\nStart one with `modelyard up`, or name it with --url or MODELYARD_URL."
        elif error.status in (401, 403) and not as_json:
            message += "\nGive a key with --key or MODELYARD_API_KEY."
        write_error(message, as_json=as_json, code=error.code, param=error.param)
        if error.code in ("bad_url", "bad_key"):
            raise typer.Exit(USAGE) from error
        raise typer.Exit(UNREACHABLE if error.unreachable else FAILED) from error


def complete_node(incomplete: str) -> list[str]:
    """Return names of the service's nodes for the shell; none if it cannot be asked quickly."""
    from deployments.cli.options import DEFAULT_URL
    from deployments.client import Client, ServiceError
    from deployments.settings import client_environment

    url, key = client_environment()
    try:
        with Client(url or DEFAULT_URL, key, timeout_s=1.0, connect_s=0.5) as client:
            names = [str(node.get("name")) for node in client.nodes()]
    except ServiceError:
        return []  # the shell has nowhere to show an error
    return [name for name in names if name.startswith(incomplete)]
