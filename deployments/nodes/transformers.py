"""Kind `transformers`: a model of the transformers library in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import ClassVar, Literal

from deployments.models import model_problem, resolve_model
from deployments.nodes.chat import max_tokens, number, stop_strings
from deployments.nodes.generation import Sampling
from deployments.nodes.loaded import LoadedNode
from deployments.nodes.transformers_params import TransformersParams
from deployments.nodes.transformers_tasks import Task, load_task
from deployments.nodes.workers import Emit
from graph.errors import InvalidRequest
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Delta, Modality, Operation

_NEEDS = {
    "text-classification": ("produces", Modality.JSON),
    "token-classification": ("produces", Modality.JSON),
    "automatic-speech-recognition": ("accepts", Modality.AUDIO),
    "image-to-text": ("accepts", Modality.IMAGE),
}


class TransformersNode(LoadedNode[Task]):
    """One task of the transformers library; calls are answered one after another."""

    Params = TransformersParams
    placement: ClassVar[Literal["gateway", "replica"]] = "replica"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat", "transcribe"})
    honours: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"}
    )

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.params = TransformersParams.model_validate(spec.params)
        # One thread: torch spreads one call over its own, and a seed is only worth something if nobody else draws.
        super().__init__(spec, workers=1)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing model, and modalities that do not go with the task."""
        problem = model_problem(spec.model)
        found = [("model", problem)] if problem else []
        task = TransformersParams.model_validate(spec.params).task
        key, modality = _NEEDS.get(task, ("accepts", Modality.TEXT))
        if modality not in getattr(spec, key):
            found.append((key, f"must contain {modality.value} for task {task}"))
        return found

    def _load(self) -> Task:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        return load_task(self.params.task, self.spec, resolve_model(self.spec.model), self.params)

    async def run(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer a call: text as it is generated, or one JSON payload from a classifier."""
        task = self._ready()
        if call.operation == "transcribe" and self.params.task != "automatic-speech-recognition":
            message = f"node {self.spec.name!r} does not transcribe; its task is {self.params.task}"
            raise InvalidRequest(message, param="model", node=self.spec.name)
        sampling = self._sampling(call)

        def work(emit: Emit[Delta]) -> None:
            task.prepare(call, sampling)(emit)

        deltas = self._workers.stream(work)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    def _sampling(self, call: Call) -> Sampling:
        params, given = self.params, call.params
        temperature = number(self.spec, given, "temperature", 0.0, 2.0)
        top_p = number(self.spec, given, "top_p", 0.0, 1.0)
        seed = number(self.spec, given, "seed", -(2**63), 2**63 - 1)
        return Sampling(
            max_tokens=max_tokens(self.spec, given, params.max_tokens) or params.max_tokens,
            temperature=params.temperature if temperature is None else temperature,
            top_p=top_p or params.top_p,
            repetition_penalty=params.repetition_penalty,
            seed=None if seed is None else int(seed),
            stop=stop_strings(self.spec, given),
        )
