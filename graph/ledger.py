"""What a run has taken so far, beside what it may take."""

from __future__ import annotations

from graph.budget import Budget
from graph.run import Outcome
from graph.types import Call


class Ledger:
    """What one run has spent, and what is on its way."""

    def __init__(self, budget: Budget | None) -> None:
        self._budget = budget or Budget()
        self._calls = 0
        self._tokens = 0
        self._cost = 0.0
        self._running = 0

    def exhausted(self) -> str | None:
        """Return which bound leaves no room for one more call, or None."""
        budget = self._budget
        if budget.calls is not None and self._calls + self._running >= budget.calls:
            waiting = f", {self._running} of them in progress" if self._running else ""
            return f"calls: {self._calls + self._running} of {budget.calls} are made{waiting}"
        if budget.tokens is not None and self._tokens >= budget.tokens:
            return f"tokens: {self._tokens} of {budget.tokens} are spent"
        if budget.cost is not None and self._cost >= budget.cost:
            return f"cost: {self._cost:g} of {budget.cost:g} is spent"
        return None

    def begin(self) -> None:
        """Note that a call is on its way."""
        self._running += 1

    def end(self) -> None:
        """Note that a call has ended."""
        self._running -= 1

    def charge(self, outcome: Outcome) -> None:
        """Add what a call has taken."""
        self._calls += outcome.attempts
        usage = outcome.reply.usage if outcome.reply and not outcome.cached else None
        if usage is not None:
            self._tokens += usage.prompt_tokens + usage.completion_tokens
        self._cost += outcome.cost

    def limit(self, call: Call) -> Call:
        """Return a call that has begun, with what it may take itself."""
        budget = self._budget
        if budget.calls is budget.tokens is budget.cost is None:
            return call
        calls = None if budget.calls is None else max(budget.calls - self._calls - self._running + 1, 1)
        left = Budget(
            calls,
            None if budget.tokens is None else max(budget.tokens - self._tokens, 1),
            None if budget.cost is None else max(budget.cost - self._cost, 1e-9),
        )
        attempts = min((n for n in (calls, call.context.attempts) if n is not None), default=None)
        return call.with_context(budget=left, attempts=attempts)
