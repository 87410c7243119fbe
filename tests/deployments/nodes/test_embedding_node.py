"""Real sentence-transformers code over a tiny random model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from deployments.nodes.embedding import EmbeddingNode
from graph.collect import collect
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, UnsupportedParameter
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, Reply, json_payload, text_payload


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_embedder(tmp_path_factory.mktemp("embedder"))


def make(model: Path | str, **params: Any) -> EmbeddingNode:
    params = {"device": "cpu"} | params
    fields: dict[str, Any] = {"model": str(model), "produces": ["json"], "params": params}
    spec = NodeSpec(name="n", kind="embedding", description="d", **fields)
    return EmbeddingNode(spec, NodeEnvironment(secret=lambda text: text))


@pytest.fixture(scope="module")
def node(model: Path) -> Iterator[EmbeddingNode]:
    made = make(model, batch_size=2)
    asyncio.run(made.load())
    yield made
    asyncio.run(made.aclose())


def embed(value: Any, **params: Any) -> Call:
    payload = text_payload(value) if isinstance(value, str) else json_payload(value)
    return Call(inputs={"input": payload}, params=params, operation="embeddings")


async def answer(node: EmbeddingNode, call: Call) -> Reply:
    return await collect(node.run(call), node="n")


async def test_vectors_in_order_and_of_length_one(node: EmbeddingNode) -> None:
    texts = ["law of contract", "python code", "hello world", "risk", "law of contract"]
    reply = await answer(node, embed(texts))
    vectors = reply.payload.value
    assert [len(vector) for vector in vectors] == [16] * 5
    assert vectors[0] == pytest.approx(vectors[4], abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)
    assert sum(number**2 for number in vectors[0]) == pytest.approx(1, abs=1e-5)
    assert reply.usage is not None
    assert reply.usage.to_json() == {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}


async def test_one_text_and_a_message_are_inputs_too(node: EmbeddingNode) -> None:
    single = (await answer(node, embed("hello world"))).payload.value
    message = (await answer(node, Call((Message("user", "hello world"),), operation="embeddings"))).payload.value
    assert len(single) == 1
    assert single == message


async def test_too_long_is_refused_unless_told_to_cut(model: Path, node: EmbeddingNode) -> None:
    with pytest.raises(ContextTooLong, match="100 tokens"):
        await answer(node, embed("law " * 100))
    cutting = make(model, truncate=True, normalize=False)
    await cutting.load()
    reply = await answer(cutting, embed("law " * 100))
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 64
    assert sum(number**2 for number in reply.payload.value[0]) != pytest.approx(1, abs=1e-3)
    await cutting.aclose()


@pytest.mark.parametrize("value", [[], [""], [1, 2], {"a": 1}, "", ["x"] * 2049])
async def test_bad_input_is_named(node: EmbeddingNode, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await answer(node, embed(value))
    assert caught.value.param == "input"


async def test_other_dimensions_and_recordings_are_refused(node: EmbeddingNode) -> None:
    assert (await answer(node, embed("law", dimensions=16))).payload.value
    with pytest.raises(UnsupportedParameter) as caught:
        await answer(node, embed("law", dimensions=8))
    assert caught.value.param == "dimensions"
    with pytest.raises(InvalidRequest, match="text only"):
        await answer(node, Call(inputs={"audio": Payload(Modality.AUDIO, b"x")}, operation="embeddings"))


async def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidSpec, match="cannot load") as caught:
        await make(tmp_path).load()
    assert caught.value.problems[0].key == "model"


def test_problems(model: Path) -> None:
    assert EmbeddingNode.problems(make(model).spec) == []
    wrong = NodeSpec(name="n", kind="embedding", description="d", model="/absent")
    assert [key for key, _ in EmbeddingNode.problems(wrong)] == ["model", "produces"]
