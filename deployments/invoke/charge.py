"""Counts what calls take, for the callers whose keys have limits on it."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable

from graph.node import Invoke, close_stream
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName, Usage

CHARACTERS = 4
"""Of a token, roughly, in English: for calls whose model did not say how many there were."""
COMPOSED = frozenset({"plan"})
"""Kinds that only ask other nodes: what those take is charged."""
Charge = Callable[[str, int, float], None]
"""Told the caller's id, the tokens of a call, and what they cost."""


def charged(invoke: Invoke, charge: Charge, lookup: Callable[[NodeName], NodeSpec]) -> Invoke:
    """Charge a caller for each call that a node answered, and for what was produced of one that the caller left.

    What a node failed to answer costs nothing.
    """

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        caller = call.context.caller
        if caller is None or not caller.metered or (spec := lookup(node)).kind in COMPOSED:
            return invoke(node, call)
        return _counted(invoke(node, call), spec, call, lambda tokens, cost: charge(caller.id, tokens, cost))

    return run


async def _counted(
    stream: AsyncIterator[Delta], spec: NodeSpec, call: Call, charge: Callable[[int, float], None]
) -> AsyncIterator[Delta]:
    usage: Usage | None = None
    characters, owed = 0, False
    try:
        async for delta in stream:
            usage = delta.usage or usage
            characters = (0 if delta.reset else characters) + _length(delta)
            yield delta
        owed = True
    except (GeneratorExit, CancelledError):
        owed = usage is not None or characters > 0
        raise
    finally:
        if owed:
            usage = usage or estimated(call, characters)
            charge(usage.prompt_tokens + usage.completion_tokens, cost_of(usage, spec))
        await close_stream(stream)


def cost_of(usage: Usage, spec: NodeSpec) -> float:
    """Return what tokens cost at a node, in cost units."""
    cost = spec.cost
    return (usage.prompt_tokens * cost.input_per_million + usage.completion_tokens * cost.output_per_million) / 1e6


def _length(delta: Delta) -> int:
    return len(delta.text) + sum(len(str(part)) for part in delta.tool_calls)


def estimated(call: Call, characters: int) -> Usage:
    """Return roughly what a call took whose model did not say it, having answered with so many characters."""
    asked = sum(len(message.text) for message in call.messages)
    return Usage(-(-asked // CHARACTERS), -(-characters // CHARACTERS), estimated=True)
