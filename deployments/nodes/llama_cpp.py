"""Kind `llama_cpp`: a GGUF model in this process, through llama.cpp."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from deployments.models import model_problem, resolve_model
from deployments.nodes.chat import chat_messages, max_tokens, number, stop_strings
from deployments.nodes.llama_server import Chunk, LlamaServer, ServerOptions
from deployments.nodes.loaded import LoadedNode
from deployments.nodes.schema_bounds import check_schema
from deployments.nodes.tool_calls import call_instructions, call_schema, forced_functions, functions_of, tool_call
from deployments.nodes.workers import Emit
from graph.errors import InvalidRequest, InvalidSpec, Problem, UnsupportedParameter
from graph.node import NodeEnvironment, NodeParams
from graph.spec import NodeSpec
from graph.types import Call, Delta, Operation, Usage

DEFAULT_CONTEXT = 4096
_PASSED: Mapping[str, Any] = {"seed": int, "logit_bias": Mapping, "response_format": Mapping}
_NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


class LlamaCppParams(NodeParams):
    """Settings of a GGUF model."""

    n_parallel: int = Field(4, ge=1, le=256)
    """Calls answered at the same time, batched together."""
    n_ctx: int | None = Field(None, ge=64)
    """Tokens of all calls together; by default the context window times `n_parallel`."""
    n_batch: int = Field(512, ge=32, le=16384)
    """Prompt tokens read at a time; also how soon a cancelled prompt stops."""
    n_threads: int | None = Field(None, ge=1, le=1024)
    n_gpu_layers: int | None = Field(None, ge=0)
    """Layers on the GPU; by default as many as llama.cpp finds room for."""
    flash_attention: bool | None = None
    chat_template: str | None = Field(None, max_length=200_000)
    """Jinja template in place of the one in the GGUF."""
    max_tokens: int | None = Field(None, ge=1)
    """Length of an answer where the call names none; by default what the context holds."""
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=4)


class LlamaCppNode(LoadedNode[LlamaServer]):
    """A GGUF model with continuous batching, its chat template, tools and constrained output."""

    Params = LlamaCppParams
    placement: ClassVar[Literal["gateway", "replica"]] = "replica"
    operations: ClassVar[frozenset[Operation]] = frozenset({"chat"})
    honours: ClassVar[frozenset[str]] = frozenset(
        {*_NUMBERS, *_PASSED, "max_tokens", "max_completion_tokens", "stop", "logprobs", "top_logprobs"}
        | {"tools", "tool_choice", "parallel_tool_calls"}
    )

    def __init__(self, spec: NodeSpec, environment: NodeEnvironment) -> None:
        self.params = LlamaCppParams.model_validate(spec.params)
        super().__init__(spec, workers=self.params.n_parallel)

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        """Report a missing model, and a context that does not suffice."""
        found = []
        problem = model_problem(spec.model)
        if problem is not None:
            found.append(("model", problem))
        params = LlamaCppParams.model_validate(spec.params)
        if params.n_ctx and spec.context_window and params.n_ctx < spec.context_window * params.n_parallel:
            wanted = spec.context_window * params.n_parallel
            found.append(
                ("params.n_ctx", f"{params.n_ctx} is less than context_window times n_parallel; leave out or {wanted}")
            )
        return found

    def _load(self) -> LlamaServer:
        params = self.params
        window = self.spec.context_window or DEFAULT_CONTEXT
        options = ServerOptions(
            model=_gguf_file(resolve_model(self.spec.model)),
            slots=params.n_parallel,
            context=params.n_ctx or window * params.n_parallel,
            threads=params.n_threads,
            gpu_layers=params.n_gpu_layers,
            batch=params.n_batch,
            chat_template=params.chat_template,
            flash_attention=params.flash_attention,
        )
        return LlamaServer(options, node=self.spec.name)

    async def run(self, call: Call) -> AsyncGenerator[Delta, None]:
        """Answer a chat call, token by token. Closing the iterator frees the slot."""
        server = self._ready()
        body, forced = self._request(server, call)

        def work(emit: Emit[Chunk]) -> None:
            server.chat(body, emit)

        chunks = self._workers.stream(work)
        answer = _Answer(body, forced, call.params.get("parallel_tool_calls") is not False)
        async with aclosing(chunks):
            async for chunk in chunks:
                delta = answer.delta(chunk)
                if delta is not None:
                    yield delta
        yield answer.last()

    def _request(self, server: LlamaServer, call: Call) -> tuple[dict[str, Any], bool]:
        """Return the request for llama.cpp, and whether the answer is a forced tool call."""
        name, given = self.spec.name, call.params
        body: dict[str, Any] = {"messages": chat_messages(self.spec, call), "stream": True, "return_progress": True}
        body["stream_options"] = {"include_usage": True}
        body |= self.params.model_dump(include={"temperature", "top_p", "repeat_penalty"}, exclude_none=True)
        for param in ("response_format", "tools"):
            check_schema(given.get(param), param, name)
        body |= _passed_on(given, name)
        numbers = {key: number(self.spec, given, key, *bounds) for key, bounds in _NUMBERS.items()}
        body |= {key: value for key, value in numbers.items() if value is not None}
        body |= {"stop": stop_strings(self.spec, given), "max_tokens": max_tokens(self.spec, given, self._length)}
        if given.get("logprobs"):
            # llama.cpp lists twenty alternatives unless told; one is the least it takes.
            top = number(self.spec, given, "top_logprobs", 0, 20)
            body |= {"logprobs": True, "top_logprobs": int(top) if top else 1, "show_top": bool(top)}
        functions = functions_of(given, node=name)
        choice = given.get("tool_choice")
        forced = forced_functions(functions, choice, node=name)
        if forced:
            _add_instructions(body["messages"], call_instructions(forced))
            body["response_format"] = {"type": "json_schema", "json_schema": {"schema": call_schema(forced)}}
        elif functions and choice != "none":
            if not server.takes_tools:
                raise UnsupportedParameter(
                    f"the chat template of node {name!r} shows the model no tools; ask with tool_choice 'required' or "
                    "a function's name, which any model can follow, or set params.chat_template",
                    param="tools",
                    node=name,
                )
            body |= {"tools": given["tools"], "tool_choice": "auto"}
        return body, bool(forced)

    @property
    def _length(self) -> int:
        return self.params.max_tokens or -1


class _Answer:
    """Turns llama.cpp's chunks into deltas; usage and finish reason come together at the end."""

    def __init__(self, body: Mapping[str, Any], forced: bool, parallel: bool) -> None:
        self._show_top = bool(body.get("show_top"))
        self._forced = forced
        self._parallel = parallel
        self._buffer = ""
        self._finish: Any = "stop"
        self._usage = Usage()
        self._model: str | None = None

    def delta(self, chunk: Chunk) -> Delta | None:
        """Return what a chunk adds to the answer, or None for one that only reports progress."""
        self._model = chunk.get("model", self._model)
        if usage := chunk.get("usage"):
            self._usage = Usage(usage["prompt_tokens"], usage["completion_tokens"])
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            return self._choice(choice)
        return None

    def _choice(self, choice: Mapping[str, Any]) -> Delta | None:
        piece = choice.get("delta") or {}
        text = piece.get("content") or ""
        if self._forced:
            self._buffer += text
            return None
        calls = tuple(c for c in piece.get("tool_calls") or () if self._parallel or not c.get("index"))
        logprobs = self._logprobs(choice.get("logprobs"))
        if text or calls or logprobs or piece.get("reasoning_content"):
            return Delta(text, tool_calls=calls, logprobs=logprobs, model=self._model)
        return None

    def _logprobs(self, given: Any) -> Any:
        if not given:
            return None
        return {"content": [self._token(item) for item in given.get("content") or ()]}

    def _token(self, item: Mapping[str, Any]) -> dict[str, Any]:
        top = item.get("top_logprobs", []) if self._show_top else []
        fields = ("token", "logprob", "bytes")
        return {key: item.get(key) for key in fields} | {"top_logprobs": [{k: t.get(k) for k in fields} for t in top]}

    def last(self) -> Delta:
        """Return the end of the answer, a forced tool call included."""
        if not self._forced:
            return Delta(usage=self._usage, finish_reason=self._finish, model=self._model)
        try:
            calls = (tool_call(self._buffer),)
        except ValueError:  # cut by the token limit in the middle of the arguments
            return Delta(self._buffer, usage=self._usage, finish_reason="length", model=self._model)
        return Delta(tool_calls=calls, usage=self._usage, finish_reason="tool_calls", model=self._model)


def _passed_on(given: Mapping[str, Any], node: str) -> dict[str, Any]:
    found = {key: given[key] for key in _PASSED if given.get(key) is not None}
    for key, value in found.items():
        if not isinstance(value, _PASSED[key]):
            wanted = "a whole number" if _PASSED[key] is int else "an object"
            raise InvalidRequest(f"{key} must be {wanted}; got {value!r}", param=key, node=node)
    return found


def _add_instructions(messages: list[dict[str, Any]], text: str) -> None:
    if messages[0]["role"] == "system":
        messages[0]["content"] += f"\n\n{text}"
    else:
        messages.insert(0, {"role": "system", "content": text})


def _gguf_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.rglob("*.gguf"))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(file.name for file in found[:8]) or "none"
    raise InvalidSpec([Problem("node", "model", f"names a folder; name one *.gguf file in it (found: {listed})")])
