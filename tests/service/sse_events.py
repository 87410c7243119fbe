"""Reading a run's server-sent events."""

from __future__ import annotations

import httpx

from deployments.client import ServerEvent, parse_events


def read_events(http: httpx.Client, path: str, *, after: str = "") -> list[ServerEvent]:
    """Return every event until the stream ends; with `after`, those behind that one."""
    headers = {"last-event-id": after} if after else {}
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(parse_events(answer.iter_bytes()))
