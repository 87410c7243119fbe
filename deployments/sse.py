"""Server-sent events, read as they arrive: bytes in, whole events out.

Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream". Bytes are decoded only once an event is whole, so a
character split between two reads cannot come apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_EVENT_BYTES = 4 * 2**20
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event grew past its bound."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream."""

    data: bytes
    """The data lines, joined by newlines, still encoded."""
    event: str = "message"
    id: str | None = None


class SseParser:
    """Incremental parser of one stream. Comments and unknown fields are passed over."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._rest = bytearray()
        self._scanned = 0
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._id: str | None = None
        self._begun = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises `EventTooLarge` when an unfinished event exceeds the bound.
        """
        self._rest += data
        if not self._begun:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            self._begun = True
            if self._rest.startswith(_BOM):
                del self._rest[: len(_BOM)]
        events = [event for line in self._lines() if (event := self._take(line)) is not None]
        if len(self._rest) + self._size > self._max:
            raise EventTooLarge(f"an event is larger than {self._max} bytes")
        return events

    def end(self) -> list[ServerSentEvent]:
        """Return what the stream left unfinished when it ended; a lenient server omits the last blank line."""
        line = bytes(self._rest).rstrip(b"\r\n")
        self._rest.clear()
        events = [self._take(line) if line else None, self._take(b"")]
        return [event for event in events if event is not None]

    def _lines(self) -> list[bytes]:
        """Cut the whole lines off the front of what is waiting."""
        rest = self._rest
        if b"\r" not in rest:
            end = rest.rfind(b"\n", self._scanned)
            self._scanned = len(rest) if end < 0 else len(rest) - end - 1
            if end < 0:
                return []
            lines = bytes(rest[:end]).split(b"\n")
            del rest[: end + 1]
            return lines
        self._scanned = 0
        # A carriage return at the very end may be the first half of a CRLF.
        limit = len(rest) - 1 if rest.endswith(b"\r") else len(rest)
        lines, start = [], 0
        for match in _LINE_END.finditer(bytes(rest), 0, limit):
            lines.append(bytes(rest[start : match.start()]))
            start = match.end()
        del rest[:start]
        return lines

    def _take(self, line: bytes) -> ServerSentEvent | None:
        """Take one line; return the event that a blank one completes."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self._max:
                raise EventTooLarge(f"an event is larger than {self._max} bytes")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._size, self._event = [], 0, ""
        if not data:
            return None
        return ServerSentEvent(b"\n".join(data), event or "message", self._id)
