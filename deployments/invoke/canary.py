"""Sends a share of a node's calls to its newer version, and asks the older one where that does worse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from deployments.invoke.cascade import as_asked, unsure, with_logprobs
from deployments.invoke.fallback import may_pass_elsewhere
from deployments.snapshot import Canary
from graph.collect import Gathered
from graph.errors import ModelyardError, NodeNotFound
from graph.node import Invoke, closing_stream
from graph.spec import Checks
from graph.types import Call, Delta, NodeName

Verdict: TypeAlias = Literal["ok", "flip", "bad"]
"""`flip`: the older version answered acceptably, and the newer did not; `bad`: neither did."""


class CanaryWatch(Protocol):
    """Told of every call to a node in a rollout."""

    def asked(self, canary: Canary, call: Call, new: bool) -> None:
        """Note which version a call went to."""

    def judged(self, canary: Canary, call: Call, verdict: Verdict, failed: str) -> None:
        """Note how the newer version did; `failed` is the check or the error that says so."""


def on_trial(
    invoke: Invoke, canaries: Callable[[], Mapping[NodeName, Canary]], watch: CanaryWatch, *, max_attempts: int
) -> Invoke:
    """Let the newer version of a node in a rollout take its share of the calls.

    A call that it fails, or whose answer fails the declared check, is asked of the older version, whose answer is the
    caller's then: a newer version costs time, not answers.
    """

    def run(node: NodeName, call: Call) -> AsyncIterator[Delta]:
        canary = canaries().get(node)
        if canary is None:
            return invoke(node, call)  # nothing on trial: not even a generator is added
        new = canary.takes(call.context.request_id)
        watch.asked(canary, call, new)
        return _Trial(invoke, canary, watch, max_attempts).run(node, call) if new else invoke(node, call)

    return run


@dataclass(slots=True)
class _Trial:
    """One call to the newer version."""

    invoke: Invoke
    canary: Canary
    watch: CanaryWatch
    max_attempts: int
    failed: str = ""
    spent: int = 0
    sent: bool = False

    async def run(self, node: NodeName, call: Call) -> AsyncIterator[Delta]:
        rollout = self.canary.spec.rollout
        check = rollout.check if rollout and call.operation == "chat" else None
        held: list[Delta] = []
        error: ModelyardError | None = None
        try:
            async with closing_stream(self._new(call, check, held)) as deltas:
                async for delta in deltas:
                    yield delta
            if not self.failed:
                self.watch.judged(self.canary, call, "ok", "")
                return
        except ModelyardError as failure:
            error = failure
            self.failed, self.spent = failure.code, failure.attempts
            gone = isinstance(failure, NodeNotFound)  # the rollout has just ended
            if not gone and not may_pass_elsewhere(failure, call):
                raise
            if self.sent and not call.resets:
                self.watch.judged(self.canary, call, "bad", self.failed)
                raise
        left = (call.context.attempts or self.max_attempts) - self.spent
        if left <= 0 and error is not None:
            raise error
        async with closing_stream(self._old(node, call, check, held, left)) as deltas:
            async for delta in deltas:
                yield delta

    async def _new(self, call: Call, check: Checks | None, held: list[Delta]) -> AsyncIterator[Delta]:
        """Answer with the newer version; with a check, only if the answer passes, and else hold it."""
        gathered = Gathered(self.canary.spec.name)
        asked = with_logprobs(call, check) if check else call
        async with closing_stream(self.invoke(self.canary.place, asked)) as deltas:
            async for delta in deltas:
                gathered.add(delta)
                if check is None:
                    self.sent = True
                    yield delta
                else:
                    held[:] = [] if delta.reset else held
                    held.append(as_asked(replace(delta, reset=False), call, check))
        reply = gathered.reply()  # raises if the answer was cut
        self.spent = gathered.attempts
        self.failed = (unsure(reply, check) or "") if check else ""
        for delta in () if self.failed else held:
            yield delta

    async def _old(
        self, node: NodeName, call: Call, check: Checks | None, held: list[Delta], left: int
    ) -> AsyncIterator[Delta]:
        """Answer with the older version, and say who did better; with what is held if it fails."""
        gathered, begun = Gathered(node), False
        try:
            if left <= 0:
                raise NodeNotFound("no attempt is left", node=node)
            async with closing_stream(self.invoke(node, call.with_context(attempts=left))) as deltas:
                async for delta in deltas:
                    gathered.add(delta)
                    if self.sent and not begun:
                        yield Delta(reset=True)
                    begun = True
                    if delta.finish_reason:
                        self._compare(call, check, gathered)  # before it is passed on: the caller may leave then
                        delta = replace(delta, attempt=self.spent + (delta.attempt or 1))
                    yield delta
        except ModelyardError as error:
            self.watch.judged(self.canary, call, "bad", self.failed)
            error.attempts += self.spent
            if begun or not held or self.sent:
                raise
            for delta in held:
                yield delta

    def _compare(self, call: Call, check: Checks | None, gathered: Gathered) -> None:
        good = check is None or unsure(gathered.reply(), check) is None
        if self.failed != NodeNotFound.code:
            self.watch.judged(self.canary, call, "flip" if good else "bad", self.failed)
