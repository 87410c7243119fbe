"""Which regular expressions a spec may have: those that Python takes, and that stay small when they are compiled."""

from __future__ import annotations

import re

MOST = 10_000
"""Most characters and sets of an expression, each as often as it is repeated at least."""
_COUNT = re.compile(r"\{(\d*),?\d*\}")
_SET = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_COMMENTS = re.compile(r"\(\?(?:#|[a-zA-Z]*x)")


def check_pattern(pattern: str) -> None:
    """Raise `ValueError` that says what would be right, if an expression may not stand in a spec."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression as Python's `re` takes them: {error}") from None
    if _COMMENTS.search(pattern):
        raise ValueError("must be a regular expression without comments and without the flag x")
    if _size(pattern) > MOST:
        message = f"must be a smaller regular expression: at most {MOST} characters and sets, repeated ones counted"
        raise ValueError(f"{message}, and `+` counts what is before it twice")


def _size(pattern: str) -> int:
    """Return how many parts a compiler that writes repetitions out makes of a valid expression."""
    groups, last, at = [0], 0, 0
    while at < len(pattern):
        sign, end = pattern[at], at + 1
        if sign == "(":
            groups.append(1)
        elif sign == ")":
            last = groups.pop()
            groups[-1] += last
        elif sign == "+":
            groups[-1] += last
        elif sign == "{" and (count := _COUNT.match(pattern, at)):
            end = count.end()
            groups[-1] += last * int(count[1] or 0)
        elif sign not in "*?|":
            found = _SET.match(pattern, at) if sign == "[" else None
            end = found.end() if found else at + 1 + (sign == "\\")
            last = 1
            groups[-1] += last
        at = end
    return groups[0]
