"""llama.cpp's server inside this process: starting it, asking it, and translating its errors."""

from __future__ import annotations

import http.client
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deployments.nodes.signals import signals_kept
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, ModelyardError, NodeUnavailable, Problem

Chunk = Mapping[str, Any]
_FIELD = re.compile(r"[Ff]ield '([a-z_]+)'|^'([a-z_]+)'")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server is started with; a `None` leaves llama.cpp's default."""

    model: Path
    slots: int
    context: int
    """Tokens of all slots together."""
    threads: int | None = None
    gpu_layers: int | None = None
    batch: int = 512
    chat_template: str | None = None
    flash_attention: bool | None = None


class LlamaServer:
    """A loaded model with continuous batching over a fixed number of slots."""

    def __init__(self, options: ServerOptions, *, node: str) -> None:
        """Load the model: takes seconds, and raises `InvalidSpec` if llama.cpp cannot."""
        self._node = node
        key = secrets.token_hex(32)
        with signals_kept():
            self._server = _start(options, key)
        # The constructor returns before the loop of llama.cpp runs, and destroying a server whose loop has yet to
        # begin waits for ever. This question is answered by the loop.
        self._server.handle_metrics()
        properties = _properties(self._server.listening_address, key)
        self.takes_tools = bool(properties.get("chat_template_caps", {}).get("supports_tools"))
        """Whether the chat template shows tools to the model; without it llama.cpp drops them silently."""

    def chat(self, body: Mapping[str, Any], on_chunk: Callable[[Chunk], bool]) -> None:
        """Answer a chat request, blocking. `on_chunk` gets each piece and returns whether to stop.

        Stopping frees the slot at the next token, or the next batch of the prompt. Raises `ContextTooLong`,
        `InvalidRequest` or `NodeUnavailable` as llama.cpp reports it.
        """
        failure: list[ModelyardError] = []

        def receive(chunk: Chunk) -> bool:
            if "error" in chunk:
                failure.append(self._translate(chunk["error"]))
                return True
            return on_chunk(chunk)

        try:
            self._server.handle_chat_completions(dict(body), receive)
        except (ValueError, RuntimeError) as error:  # how the binding reports a request that could not be parsed
            raise self._refused(str(error)) from error
        if failure:
            raise failure[0]

    def _translate(self, error: Mapping[str, Any]) -> ModelyardError:
        message = str(error.get("message", "llama.cpp failed"))
        if error.get("type") == "exceed_context_size_error":
            return ContextTooLong(
                f"the request takes {error.get('n_prompt_tokens')} tokens; node {self._node!r} has a context of "
                f"{error.get('n_ctx')}",
                param="messages",
                node=self._node,
            )
        if error.get("code") == 400:
            return self._refused(message)
        return NodeUnavailable(message, status=error.get("code"), node=self._node)

    def _refused(self, message: str) -> InvalidRequest:
        found = _FIELD.search(message)
        param = next(filter(None, found.groups()), None) if found else None
        if param is None:
            param = "response_format" if re.search("schema|grammar|response_format", message.lower()) else "messages"
        return InvalidRequest(message, param=param, node=self._node)


def _start(options: ServerOptions, key: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.model.stem}
    params.n_parallel = options.slots
    params.n_ctx = options.context
    params.n_batch = options.batch
    params.fit_params = False  # the context is what the spec says, or loading fails
    params.verbosity = 0
    # Waiting threads sleep rather than spin: several models share the cores, and spinning ones starve each other.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    if options.threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.gpu_layers is not None:
        params.n_gpu_layers = options.gpu_layers
    if options.chat_template is not None:
        params.chat_template = options.chat_template
    if options.flash_attention is not None:
        kinds = xllamacpp.llama_flash_attn_type
        on, off = kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED, kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = on if options.flash_attention else off
    # The library always opens a port on loopback. Nobody is told its key, and what shows prompts is off.
    params.api_keys = [key]
    params.endpoint_slots = False
    params.endpoint_metrics = True
    params.ui = False
    params.n_threads_http = 1
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise InvalidSpec([Problem("node", "model", _why_not_loaded(options))]) from error


def _why_not_loaded(options: ServerOptions) -> str:
    with options.model.open("rb") as file:
        if file.read(4) != b"GGUF":
            return f"{options.model.name} is not a GGUF file, which is what llama.cpp loads"
    reasons = ["the file is damaged or of an architecture it does not know", "memory does not suffice"]
    if options.chat_template is not None:
        reasons.append("params.chat_template is no valid Jinja template")
    return f"llama.cpp cannot load {options.model.name}: {', or '.join(reasons)}"


def _properties(address: str, key: str) -> dict[str, Any]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=30)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {key}"})
        data: dict[str, Any] = json.loads(connection.getresponse().read())
        return data
    finally:
        connection.close()
