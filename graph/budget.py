"""What a run may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from graph.errors import Problem

COST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on a run; None leaves a quantity unbounded."""

    calls: int | None = None
    """Attempts at nodes, retries and the calls of sub-plans included."""
    tokens: int | None = None
    cost: float | None = None
    """Cost units, by the nodes' `cost`."""
    deadline_s: float | None = None
    """Seconds from the beginning of the run."""

    def to_json(self) -> dict[str, Any]:
        """Return the bounds that are set."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def within(self, other: Budget | None) -> Budget:
        """Return the narrower bound of each quantity."""
        if other is None:
            return self
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Budget(**{name: min((v for v in pair if v is not None), default=None) for name, pair in pairs.items()})

    @classmethod
    def problems(cls, data: Any) -> Iterator[Problem]:
        """Say what is wrong with a budget in JSON."""
        names = [f.name for f in fields(cls)]
        if not isinstance(data, Mapping):
            yield Problem("plan", "budget", f"must be an object with some of {', '.join(names)}; got {data!r:.80}")
            return
        for name in data:
            value = data[name]
            whole = name in ("calls", "tokens")
            if name not in names:
                yield Problem("plan", f"budget.{name!s:.60}", f"unknown key; a budget has {', '.join(names)}")
            elif value is None:
                continue
            elif isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
                what = "a whole number" if whole else "a number"
                yield Problem("plan", f"budget.{name}", f"must be {what} above 0; got {value!r:.80}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Budget:
        """Read what `problems` finds nothing wrong with."""
        return cls(**data)
