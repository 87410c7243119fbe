"""Logging of the service's processes: the command's own, the gateway's, the controller's, the nodes'."""

from __future__ import annotations

import json
import logging
import re
import time
from contextvars import ContextVar
from logging.handlers import WatchedFileHandler
from typing import Any

from deployments.settings import Settings

OURS = ("modelyard", "deployments", "graph", "router")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_request: ContextVar[tuple[str, str]] = ContextVar("request", default=("", ""))


def visible(text: str) -> str:
    """Return text in which control characters, marks of direction and what is no character are written as escapes."""
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def speak_of(request_id: str, trace_id: str) -> None:
    """Put a request's ids on every line that is logged from now on in this task and those that it starts."""
    _request.set((request_id, trace_id))


def configure_logging(settings: Settings) -> None:
    """Write what our own loggers say, from `log_level` on, to standard error or the file of a replica."""
    file = _file_of_the_replica()
    handler = WatchedFileHandler(file) if file else logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter(FORMAT))
    logging.basicConfig(handlers=[handler])
    for name in OURS:
        logging.getLogger(name).setLevel(settings.log_level.upper())


def _file_of_the_replica() -> str | None:
    """Return the file of a Serve replica, whose standard error goes no further than its level and a large buffer."""
    targets = (getattr(handler, "target", None) for handler in logging.getLogger("ray.serve").handlers)
    return next((target.baseFilename for target in targets if isinstance(target, logging.FileHandler)), None)


class TextFormatter(logging.Formatter):
    """A line for people, with the request's ids where a request is spoken of."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # the library's name
        """Return the first line of an entry, which is one line whatever it speaks of."""
        request_id, trace_id = _request.get()
        line = visible(super().formatMessage(record))
        return f"{line} request_id={request_id} trace_id={trace_id}" if request_id or trace_id else line

    def formatException(self, ei: Any) -> str:  # the library's name
        """Return a traceback, indented: no line of it, which a message may have made, looks like an entry."""
        return "\n".join(f"  {visible(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """A JSON object on one line, with OpenTelemetry's `trace_id`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return an entry."""
        request_id, trace_id = _request.get()
        seconds, rest = divmod(record.created, 1)
        entry = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(rest * 1000):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = {"request_id": request_id, "trace_id": trace_id}
        entry |= {name: id for name, id in ids.items() if id}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # Written by the standard library, which also takes what is no text, and with nothing but ASCII in it.
        return json.dumps(entry)
