"""Fakes of the seam, and nodes of a few lines, for tests that need neither Ray nor a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from deployments.nodes.plan import PlanNode
from deployments.snapshot import NodeStatus, Snapshot
from graph.errors import ModelyardError, NodeUnavailable, StreamBroken
from graph.node import NodeEnvironment, NodeParams
from graph.registry import Registry
from graph.spec import NodeSpec
from graph.stores.base import StateStore
from graph.types import Call, Delta, Message, Modality, Operation, Payload, Usage, json_payload

Step = Delta | str | float | ModelyardError | BaseException
"""A delta, its text, seconds to wait (inf: forever), or an error to raise."""
DONE = Delta(finish_reason="stop", usage=Usage(3, 2))
HANG = float("inf")


def spec(name: str, **fields: Any) -> NodeSpec:
    """A node of kind `fake`."""
    return NodeSpec(**({"name": name, "kind": "fake", "description": f"Answers as {name}."} | fields))


def chat(text: str = "hello", **fields: Any) -> Call:
    """A call with one user message."""
    return Call((Message("user", text),), **fields)


def answer(text: str) -> list[Step]:
    """The steps of a whole answer, word by word."""
    words = text.split(" ")
    return [*(word if index == 0 else f" {word}" for index, word in enumerate(words)), DONE]


@dataclass
class FakeInvoke:
    """An `Invoke` that plays scripts: for each node a list of attempts, the last of which is repeated."""

    scripts: dict[str, list[list[Step]]]
    calls: list[tuple[str, Call]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    """Most calls that ran at the same time."""

    def asked(self) -> list[str]:
        return [node for node, _ in self.calls]

    async def __call__(self, node: str, call: Call) -> AsyncIterator[Delta]:
        attempts = self.scripts[node]
        steps = attempts[min(self.asked().count(node), len(attempts) - 1)]
        self.calls.append((node, call))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async for delta in play(steps):
                yield delta
        finally:
            self.running -= 1
            self.closed.append(node)


async def play(steps: Iterable[Step]) -> AsyncIterator[Delta]:
    """Stream the steps."""
    for step in steps:
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, (int, float)):
            await (asyncio.Event().wait() if step == HANG else asyncio.sleep(step))
        else:
            yield Delta(text=step) if isinstance(step, str) else step


class FakeNode:
    """A node that answers by what its `model` says: `echo`, `raise`, `hang`, `fail`, `refuse`, `die`, `slow`."""

    class Params(NodeParams):
        """Settings."""

        reply: str = ""

    placement: ClassVar[str] = "gateway"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "tool"})
    honours: ClassVar[frozenset[str]] = frozenset({"temperature", "max_tokens", "max_completion_tokens"})
    calls: ClassVar[list[tuple[str, Call]]] = []
    closed: ClassVar[list[str]] = []
    gates: ClassVar[dict[str, asyncio.Event]] = {}

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.spec = spec
        self.params = self.Params.model_validate(spec.params)
        self.is_closed = False

    async def load(self) -> None:
        if self.spec.model == "unloadable":
            raise RuntimeError("the weights are missing")

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        self.calls.append((self.spec.name, call))
        try:
            async for delta in play(self._steps(call)):
                yield delta
                if self.spec.model == "slow":
                    await self.gates[self.spec.name].wait()
        finally:
            self.closed.append(self.spec.name)

    def _steps(self, call: Call) -> list[Step]:
        text = self.params.reply or f"{self.spec.name}: {call.text}"
        scripts: dict[str, Callable[[], list[Step]]] = {
            "raise": lambda: [RuntimeError("a secret detail")],
            "die_raising": lambda: ["half ", RuntimeError("a secret detail")],
            "hang": lambda: [HANG],
            "stall": lambda: ["half ", HANG],
            "fail": lambda: [NodeUnavailable("the upstream is down", status=503)],
            "die": lambda: ["half ", StreamBroken("the stream was cut")],
            "cut": lambda: ["half "],
        }
        return scripts.get(self.spec.model or "echo", lambda: answer(text))()

    async def check(self) -> None:
        return

    async def aclose(self) -> None:
        self.is_closed = True

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        return []


class FakeSpeech(FakeNode):
    """A node that transcribes."""

    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "transcribe"})

    def _steps(self, call: Call) -> list[Step]:
        return answer("the tenant may end the lease")


class FakeEmbedder(FakeNode):
    """A node that embeds: the length of each text."""

    operations: ClassVar[frozenset[Operation]] = frozenset({"embeddings"})

    def _steps(self, call: Call) -> list[Step]:
        vectors = [[float(len(text)), 1.0] for text in call.inputs["input"].value]
        return [Delta(payload=json_payload(vectors), usage=Usage(5, 0), finish_reason="stop")]


KINDS: dict[str, Any] = {"fake": FakeNode, "speech": FakeSpeech, "embedder": FakeEmbedder, "plan": PlanNode}


class _Remote:
    """A method as a Serve handle offers it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class FakeController:
    """What a gateway asks of a controller: every registered node is ready at once, in the gateway's process."""

    def __init__(self, store: StateStore) -> None:
        self._registry = Registry(store)
        self._changed = asyncio.Condition()
        self._snapshot = Snapshot()
        self.watch = _Remote(self._watch)
        self.look = _Remote(self._look)

    async def _watch(self, after: int) -> Snapshot:
        if not self._snapshot.number:
            await self._look()
        async with self._changed:
            await self._changed.wait_for(lambda: self._snapshot.number > after)
            return self._snapshot

    async def _look(self) -> None:
        current = await self._registry.current()
        nodes = {
            name: NodeStatus(name, found.version, found.spec, "ready", found.spec, found.version)
            for name, found in current.items()
            if found.spec is not None
        }
        async with self._changed:
            self._snapshot = Snapshot(self._snapshot.number + 1, nodes)
            self._changed.notify_all()


def recording() -> Payload:
    """Some audio."""
    return Payload(Modality.AUDIO, b"RIFFaudio", "audio/wav")
