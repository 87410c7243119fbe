"""Plugin point: how a kind of node runs, and how kinds are found.

A kind is a Python class that whoever installs the service chose by installing a package with an entry point in the
group `modelyard.kinds`. YAML names a kind; it can never name code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Delta, NodeName, Operation

Invoke: TypeAlias = Callable[[NodeName, Call], AsyncIterator[Delta]]
"""The seam. Everything that runs a node is this; policy is functions `Invoke -> Invoke`."""


class NodeParams(BaseModel):
    """Base of a kind's own settings: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class NodeEnvironment:
    """What the service lends to a node."""

    secret: Callable[[str], str]
    """Resolves `${NAME}` references inside a string; raises `InvalidSpec` naming the variable that is not set."""
    allow_private: bool = False
    """Whether upstreams may live on private and loopback addresses."""
    invoke: Invoke | None = None
    """Asks other nodes, with every policy of the service; only for kinds whose placement is `gateway`."""
    graph: Callable[[], ModelGraph] | None = None
    """All nodes as they are now."""
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Programs that the operator lets nodes start, by the name that YAML may use."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What the nodes of one process share, under the name of the kind that put it there."""


class Node(Protocol):
    """One kind of node. Constructed with its spec; heavy work belongs in `load`."""

    Params: ClassVar[type[BaseModel]]
    """Model of `NodeSpec.params` for this kind."""
    placement: ClassVar[Literal["gateway", "replica"]]
    """`gateway`: only does network I/O and runs in the gateway's process. `replica`: has its own Serve application."""
    operations: ClassVar[frozenset[Operation]]
    """What calls the kind can take."""
    honours: ClassVar[frozenset[str]]
    """Fields of a chat request, in OpenAI's names, that the kind really applies; others are refused."""

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None: ...

    async def load(self) -> None:
        """Load the model or open the client. Raise a readable error if that is impossible."""

    def run(self, call: Call) -> AsyncIterator[Delta]:
        """Answer a call. Closing the iterator cancels the work; the last delta carries a finish reason."""

    async def check(self) -> None:
        """Raise if the node can no longer answer. Cheap: it is asked every few seconds."""

    async def aclose(self) -> None:
        """Free what `load` took."""

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Return (key, message) for what the kind dislikes in a spec beyond its params, such as a missing model."""


class closing_stream:  # lower case, for it reads as a verb, like contextlib.aclosing
    """Close a stream at the end of the block, whatever ends it."""

    __slots__ = ("_deltas",)

    def __init__(self, deltas: AsyncIterator[Delta]) -> None:
        self._deltas = deltas

    async def __aenter__(self) -> AsyncIterator[Delta]:
        return self._deltas

    async def __aexit__(self, *_: object) -> None:
        await close_stream(self._deltas)


async def close_stream(deltas: AsyncIterator[Delta]) -> None:
    """Close a stream if it can be closed: that cancels the work behind it."""
    aclose = getattr(deltas, "aclose", None)
    if aclose is not None:
        await aclose()


KindRegistry: TypeAlias = Mapping[str, type[Node]]


def installed_kinds() -> dict[str, type[Node]]:
    """Find every installed kind by its entry point. Called when asked, never at import.

    Raises whatever a kind's module raises at import: a broken kind is the installer's to mend.
    """
    return {point.name: point.load() for point in entry_points(group="modelyard.kinds")}
