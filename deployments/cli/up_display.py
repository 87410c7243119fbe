"""What `up` shows: a line per node while models load, then where everything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deployments.cli.console import clean, state_text, styled, write_json_line

if TYPE_CHECKING:
    from deployments.service import ServiceEvent


class JsonDisplay:
    """Writes every event as one line of JSON."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def __enter__(self) -> JsonDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def handle(self, event: ServiceEvent) -> None:
        """Write one event."""
        fields = {"kind": event.kind, "message": event.message, "node": event.node, "state": event.state}
        write_json_line(fields | {"data": dict(event.data)}, self._target)


class UpDisplay:
    """A live list of nodes until the service is ready, and lines after that; only lines in a pipe."""

    def __init__(self, target: Console) -> None:
        self._console = target
        self._status = "starting"
        self._spinner = Spinner("dots")
        self._nodes: dict[str, tuple[str, str]] = {}
        self._live: Live | None = None

    def __enter__(self) -> UpDisplay:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self.renderable,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,  # `up` has taken it from Ray already
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def handle(self, event: ServiceEvent) -> None:
        """Show one event. May be called from any thread."""
        if event.kind == "node" and event.node:
            self._node(event)
        elif event.kind == "ready":
            self.close()
            self._ready(event)
        elif event.kind in ("warning", "error"):
            style = "yellow" if event.kind == "warning" else "bold red"
            self._print(Text.assemble((f"{event.kind}: ", style), clean(event.message)))
        else:
            if event.kind == "stopped":
                self.close()  # nobody may be left to do it
            self._status = event.message or event.kind
            if self._live is None:
                self._print(styled(self._status))

    def renderable(self) -> RenderableType:
        """Return what a terminal shows until the service is ready."""
        self._spinner.update(text=styled(self._status))
        table = Table.grid(padding=(0, 2))
        for name, (state, message) in list(self._nodes.items()):
            table.add_row(f"  {name}", state_text(state), styled(message, "dim"))
        return Group(self._spinner, table)

    def _node(self, event: ServiceEvent) -> None:
        state = event.state or "loading"
        message = event.message if event.message != state else ""
        self._nodes[str(event.node)] = (state, message)
        if self._live is None or state == "failed":
            line = Text.assemble("node ", (clean(event.node), "bold"), " ", state_text(state))
            self._print(line.append(f": {clean(message)}") if message else line)

    def _ready(self, event: ServiceEvent) -> None:
        rows = [(name.replace("_", " "), _value(value)) for name, value in event.data.items()]
        title = clean(event.message or "ready")
        if not self._console.is_terminal:
            self._print(Text(title))
            for name, value in rows:
                self._print(Text(f"{name}: {value}"))
            return
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            style = f"cyan link {value}" if value.startswith(("http://", "https://")) else ""
            table.add_row(styled(name, "bold"), Text(value, style=style))
        for name, (state, message) in self._nodes.items():
            if state != "ready":
                table.add_row(styled(name, "bold"), state_text(state).append(f" {clean(message)}"))
        well = title == "ready"
        if not well:  # a sentence, which the frame of the panel would cut
            self._print(Text(title, style="bold red"))
        style = "green" if well else "red"
        self._console.print(Panel(table, title=title if well else None, border_style=style, expand=False))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(name)} ({clean(state)})" for name, state in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(clean(item) for item in value)
    return clean(value)
