"""Parameters of one kind that a tool takes side by side: `number1` and `number2`, `start_city` and `end_city`."""

from __future__ import annotations

import re

from router.planners.toolset import Parameter
from router.planners.words import spoken

_ROLES = frozenset(
    """start end begin finish from to first second third one two three source target destination origin base departure
    arrival initial final old new left right lower upper min max minimum maximum a b c d x y z n m p q""".split()
)


def siblings(one: Parameter, other: Parameter) -> bool:
    """Whether two parameters differ only in the part that they play, so that neither is given twice."""
    return one.name != other.name and one.type == other.type and _role(one.name) == _role(other.name) is not None


def _role(name: str) -> frozenset[str] | None:
    """Return the words of a name that say what it holds; None where no word says which of several it is."""
    words = re.sub(r"\d+", " 1 ", spoken(name).lower()).split()
    kept = frozenset(word for word in words if word not in _ROLES and not word.isdigit())
    return kept if len(kept) < len(words) else None
