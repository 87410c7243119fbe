"""Options that many commands share, and the exit codes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

OK = 0
FAILED = 1
"""The request was refused or failed, or validation found problems."""
USAGE = 2
"""Wrong usage; typer's own."""
UNREACHABLE = 3
"""The service cannot be reached."""

DEFAULT_URL = "http://127.0.0.1:8000"
SERVICE = "Service"

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Url: TypeAlias = Annotated[
    str, typer.Option("--url", envvar="MODELYARD_URL", help="Address of the service.", rich_help_panel=SERVICE)
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="MODELYARD_API_KEY",
        show_default=False,
        help="API key, sent as a bearer token. Prefer the variable: arguments show in the process list.",
        rich_help_panel=SERVICE,
    ),
]
