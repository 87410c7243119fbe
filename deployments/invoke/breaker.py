"""Stops asking a node that keeps failing, and asks again after a while."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from graph.errors import (
    ContentRefused,
    DeadlineExceeded,
    InvalidRequest,
    ModelyardError,
    NodeFailed,
    NodeRejected,
    NodeUnavailable,
)
from graph.node import Invoke, closing_stream
from graph.types import Call, Delta, NodeName

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit opens, and for how long."""

    failures: int = 5
    """Calls that fail in a row before the circuit opens."""
    open_s: float = 5.0
    """How long it stays open the first time; twice as long after every probe that fails."""
    longest_open_s: float = 20.0


class CircuitBreaker:
    """One circuit for each node."""

    def __init__(
        self,
        settings: BreakerSettings = BreakerSettings(),  # a frozen value
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[NodeName, State], None] = lambda node, state: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._circuits: dict[NodeName, _Circuit] = {}

    def wrap(self, invoke: Invoke) -> Invoke:
        """Refuse calls at once while a node's circuit is open; let one probe through when it has waited."""

        async def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
            circuit = self._circuits.get(node) or self._circuits.setdefault(node, _Circuit())
            self._admit(node, circuit)
            if circuit.state == "half_open":
                call = call.with_context(attempts=1)  # one is enough to see whether the node is back
            try:
                async with closing_stream(invoke(node, call)) as deltas:
                    async for delta in deltas:
                        yield delta
            except ModelyardError as error:
                self._learn(node, circuit, error)
                raise
            except BaseException:  # raised again: cancelled, so nothing was learned, and the next call may probe
                circuit.probing = False
                raise
            self._succeeded(node, circuit)

        return run

    def forget(self, node: NodeName) -> None:
        """Drop the circuit of a node that was removed; one that comes under its name begins anew."""
        self._circuits.pop(node, None)

    def _admit(self, node: NodeName, circuit: _Circuit) -> None:
        if circuit.state == "closed":
            return
        left = circuit.until - self._clock()
        if left > 0 or circuit.probing:
            wait = max(left, 0.1)
            message = f"node {node!r} failed repeatedly; next try in {wait:.1f} s"
            refusal = NodeUnavailable(message, retry_after=wait, node=node)
            refusal.attempts = 0
            raise refusal
        circuit.probing = True
        self._change(node, circuit, "half_open")

    def _learn(self, node: NodeName, circuit: _Circuit, error: ModelyardError) -> None:
        if _is_nodes_fault(error):
            self._failed(node, circuit)
        elif isinstance(error, (InvalidRequest, ContentRefused, NodeRejected)):
            self._succeeded(node, circuit)  # it answered, if only to refuse
        else:
            circuit.probing = False

    def _failed(self, node: NodeName, circuit: _Circuit) -> None:
        if circuit.state == "open":
            return  # a call from before the circuit opened; what it says is known
        circuit.failures += 1
        circuit.probing = False
        if circuit.state == "half_open" or circuit.failures >= self._settings.failures:
            circuit.open_s = min(circuit.open_s * 2 or self._settings.open_s, self._settings.longest_open_s)
            circuit.until = self._clock() + circuit.open_s
            self._change(node, circuit, "open")

    def _succeeded(self, node: NodeName, circuit: _Circuit) -> None:
        circuit.failures = 0
        circuit.open_s = 0.0
        circuit.probing = False
        self._change(node, circuit, "closed")

    def _change(self, node: NodeName, circuit: _Circuit, state: State) -> None:
        if circuit.state != state:
            circuit.state = state
            self._on_change(node, state)


@dataclass(slots=True)
class _Circuit:
    state: State = "closed"
    failures: int = 0
    until: float = 0.0
    open_s: float = 0.0
    probing: bool = False


def _is_nodes_fault(error: ModelyardError) -> bool:
    if isinstance(error, NodeRejected):
        return False
    if isinstance(error, DeadlineExceeded):
        return error.limit != "deadline"
    return isinstance(error, NodeFailed)
