"""What the tests of the policies share."""

from __future__ import annotations

from collections.abc import Callable

from fakes import spec

from graph.node import Invoke
from graph.spec import NodeSpec
from graph.types import Call, Delta


def lookup_of(**limits: object) -> Callable[[str], NodeSpec]:
    """A lookup in which every node has these limits."""
    return lambda name: spec(name, limits=limits)


async def deltas_of(invoke: Invoke, call: Call, node: str = "a") -> list[Delta]:
    """Every delta of an answer."""
    return [delta async for delta in invoke(node, call)]


def text_of(deltas: list[Delta]) -> str:
    """The text as a caller that heeds resets ends up with it."""
    text = ""
    for delta in deltas:
        text = delta.text if delta.reset else text + delta.text
    return text
