"""Durations as people write them: `90d`, `12h`, `30m`."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
MOST_S = 100 * _SECONDS["y"]


def seconds_of(text: str) -> float:
    """Return a duration in seconds. Raises `ValueError` that says what would be right."""
    match = re.fullmatch(r"(\d{1,6})([smhdwy])", text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= MOST_S:
        raise ValueError(
            f"{text!r} is not a duration; give a number and a unit of s, m, h, d, w, y, such as 90d; at most 100y"
        )
    return float(seconds)
