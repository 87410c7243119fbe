"""How text reaches the terminal, or the pipe: consoles, tables, JSON, errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 500
"""Columns when the output is no terminal: wide enough that nothing is wrapped or cut."""
_MARKS = [0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
"""What turns the direction of writing, so that a line reads otherwise than it is, and further ends of lines."""
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *_MARKS, *range(0xD800, 0xE000)])
_ESCAPED = {code: f"\\u{code:04x}" for code in [*range(127, 160), *_MARKS, *range(0xD800, 0xE000)]}
"""For JSON, which escapes the other control characters by itself."""

STATE_STYLES = {
    "ready": "green",
    "ok": "green",
    "loading": "yellow",
    "running": "cyan",
    "draining": "magenta",
    "partial": "yellow",
    "skipped": "yellow",
    "unknown": "yellow",
    "failed": "red",
    "error": "red",
    "removed": "magenta",
    "waiting": "dim",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console: colours on a terminal (unless NO_COLOR is set), plain text otherwise."""
    found = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = PIPED_WIDTH
    return found


def clean(value: object) -> str:
    """Return text without control characters and marks of direction: what a model wrote must not steer the terminal."""
    return str(value).translate(_CONTROL)


def state_text(state: object) -> Text:
    """Return a state or status in its colour."""
    return Text(clean(state), style=STATE_STYLES.get(str(state), ""))


def styled(value: object, style: str = "") -> Text:
    """Return clean text in a style."""
    return Text(clean(value), style=style)


def write_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2).translate(_ESCAPED))


def write_json_line(value: Any, target: TextIO | None = None) -> None:
    """Write JSON on one line, for streams of events; to standard output unless another place is given."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str).translate(_ESCAPED), file=target)


def write_table(
    target: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str = ""
) -> None:
    """Write a table: ruled on a terminal; bare aligned columns, one row a line, in a pipe."""
    cells = [[cell if isinstance(cell, Text) else styled(cell) for cell in row] for row in rows]
    if target.is_terminal:
        target.print(rich_table(columns, cells, title=title))
        return
    lines = [[name.upper() for name in columns]]
    lines += [[" ".join(cell.plain.splitlines()) for cell in row] for row in cells]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        target.print(padded.rstrip(), soft_wrap=True)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], *, title: str = "") -> Table:
    """Return a table for a terminal."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def write_warning(message: str) -> None:
    """Write what should be looked at, though the command goes on, to standard error."""
    console(stderr=True).print(styled(f"warning: {message}", "yellow"), soft_wrap=True)


def write_error(message: str, *, as_json: bool = False, code: str = "error", param: str | None = None) -> None:
    """Write what went wrong to standard error."""
    if as_json:
        error = {"error": {"message": message, "type": "client_error", "param": param, "code": code}}
        typer.echo(json.dumps(error, ensure_ascii=False).translate(_ESCAPED), err=True)
        return
    text = Text("error: ", style="bold red")
    console(stderr=True).print(text.append(clean(message), style="not bold default"), soft_wrap=True)
