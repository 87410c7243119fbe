"""`Usage`: the tokens that a call took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a call took. `estimated` marks counts that the model did not report itself."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    cost: float | None = None
    """Cost units, where the node says so itself because it asked others; None leaves it to the node's price."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.estimated or other.estimated,
            None if self.cost is other.cost is None else (self.cost or 0.0) + (other.cost or 0.0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the OpenAI `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            **({"estimated": True} if self.estimated else {}),
        }

    def to_record(self) -> dict[str, Any]:
        """Return a JSON form that `from_record` reads back."""
        return self.to_json() | {"estimated": self.estimated, "cost": self.cost}

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Usage:
        """Read what `to_record` wrote."""
        return cls(data["prompt_tokens"], data["completion_tokens"], data.get("estimated", False), data.get("cost"))
