"""What the commands share that need no service: options, how a failure ends them, and files of predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from deployments.cli.console import write_error
from deployments.cli.options import FAILED
from graph.errors import InvalidSpec, ModelyardError

Tools: TypeAlias = Annotated[
    Path, typer.Option("--tools", help='Tools: JSON lines of {"name", "description", "parameters", …}; or gzipped.')
]
Links: TypeAlias = Annotated[
    Path | None, typer.Option("--links", help='Links: JSON lines of ["from", "to"]; without them any may follow any.')
]
TrainedEncoder: TypeAlias = Annotated[
    str | None,
    typer.Option("--encoder", help="sentence-transformers model: hf://…, pkg://… or a folder; a MiniLM by default."),
]


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Write a `ModelyardError` inside to standard error, and end the command."""
    try:
        yield
    except ModelyardError as error:
        write_error(error.message, as_json=as_json, code=error.code, param=error.param)
        raise typer.Exit(FAILED) from error


@contextmanager
def writing(as_json: bool) -> Iterator[None]:
    """End the command where a file that it is to write cannot be written, and say which."""
    try:
        yield
    except OSError as error:
        write_error(f"{error.filename} cannot be written: {error.strerror}", as_json=as_json, code="not_written")
        raise typer.Exit(FAILED) from error


def encoder_path(encoder: str | None) -> Path:
    """Return where a sentence encoder is, by default the service's. Raises `InvalidSpec` of the option `encoder`."""
    from deployments.models import resolve_model
    from deployments.settings import Settings

    try:
        return resolve_model(encoder or Settings.from_env().encoder_reference())
    except InvalidSpec as error:
        error.message, error.param = error.problems[0].message, "encoder"
        raise


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
