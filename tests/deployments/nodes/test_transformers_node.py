"""Real transformers code over tiny random models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from recordings import tone

from deployments.nodes.generation import StopCutter
from deployments.nodes.transformers import TransformersNode
from graph.collect import collect
from graph.errors import ContextTooLong, InvalidRequest, InvalidSpec, UnsupportedParameter
from graph.node import NodeEnvironment
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, Reply

Save = Callable[..., Path]


def spec(model: Path | str, task: str, **changes: Any) -> NodeSpec:
    params = {"task": task} | changes.pop("params", {})
    return NodeSpec(name="n", kind="transformers", description="d", model=str(model), params=params, **changes)


async def loaded(model: Path | str, task: str, **changes: Any) -> TransformersNode:
    node = TransformersNode(spec(model, task, **changes), NodeEnvironment(secret=lambda text: text))
    await node.load()
    return node


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_decoder(tmp_path_factory.mktemp("decoder"))


def ask(text: str, **params: Any) -> Call:
    return Call((Message("user", text),), params={"max_tokens": 6} | params)


async def answer(node: TransformersNode, call: Call) -> Reply:
    return await collect(node.run(call), node="n")


async def test_text_generation_streams(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation")
    deltas = [delta async for delta in node.run(ask("hello world", max_tokens=12))]
    assert len([d for d in deltas if d.text]) > 5  # one for each token that is a word
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == 12
    await node.aclose()


async def test_chat_template_and_system_prompt_shape_the_prompt(decoder: Path, tmp_path: Path) -> None:
    templated = await loaded(decoder, "text-generation", system_prompt="law", template="the {input}")
    plain = await loaded(tiny_models.save_decoder(tmp_path / "plain", chat_template=None), "text-generation")
    with_template = (await answer(templated, ask("hello"))).usage
    without = (await answer(plain, ask("hello"))).usage
    assert with_template and without
    # <|system|> law <|user|> the hello <|assistant|>: 3 tokens for each marker, and 3 words
    assert (with_template.prompt_tokens, without.prompt_tokens) == (12, 1)


async def test_sampling_is_seeded(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation")
    texts = [(await answer(node, ask("hello", temperature=1.9, seed=seed, max_tokens=12))).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    greedy = [(await answer(node, ask("hello", temperature=0))).text for _ in range(2)]
    assert greedy[0] == greedy[1] == (await answer(node, ask("hello", temperature=2, top_p=1e-6))).text


async def test_stop_string_ends_the_answer(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation", params={"repetition_penalty": 3.0})
    whole = (await answer(node, ask("hello", max_tokens=12))).text
    cut = await answer(node, ask("hello", max_tokens=12, stop=whole[5:8]))
    assert cut.text == whole[: whole.index(whole[5:8])]
    assert cut.finish_reason == "stop"


def test_stop_cutter_holds_back_only_what_may_be_a_stop() -> None:
    cutter = StopCutter(["END", "\n\n"])
    shown = [cutter.feed(piece) for piece in ("one E", "N two\n", "three EN", "D four")]
    assert shown == ["one ", "EN two", "\nthree ", ""]
    assert cutter.stopped
    open_end = StopCutter(["END"])
    assert open_end.feed("the EN") + open_end.rest() == "the EN"


async def test_prompt_beyond_the_context(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation", context_window=32)
    with pytest.raises(ContextTooLong, match="context of 32"):
        await answer(node, ask("hello " * 40))
    bounded = await answer(node, ask("hello", max_tokens=100))
    assert bounded.usage is not None
    assert bounded.usage.prompt_tokens + bounded.usage.completion_tokens == 32


async def test_cancelled_generation_stops(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await loaded(decoder, "text-generation")
    steps = []
    model = node._model.model  # type: ignore[union-attr]
    forward = model.forward

    def counted(*args: Any, **options: Any) -> Any:
        steps.append(1)
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", counted)
    async with aclosing(node.run(ask("hello", max_tokens=2000))) as stream:
        await anext(stream)
    await answer(node, ask("hello", max_tokens=1))  # one thread: this runs once the first call has ended
    assert len(steps) < 1000


async def test_text2text(tmp_path: Path) -> None:
    node = await loaded(tiny_models.save_encoder_decoder(tmp_path), "text2text-generation")
    reply = await answer(node, ask("hello world"))
    assert reply.text
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (2, 6)


@pytest.mark.parametrize(("task", "key"), [("text-classification", "label"), ("token-classification", "entity_group")])
async def test_classification_gives_json(task: str, key: str, tmp_path: Path) -> None:
    model = tiny_models.save_classifier(tmp_path, tokens=task.startswith("token"))
    node = await loaded(model, task, produces=["json"])
    reply = await answer(node, ask("law of risk"))
    assert reply.payload.modality is Modality.JSON
    labels = reply.payload.value
    assert labels
    assert all(isinstance(item["score"], float) and isinstance(item[key], str) for item in labels)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 3
    with pytest.raises(ContextTooLong):
        await answer(node, ask("law " * 80))


async def test_top_k_one_is_still_a_list(tmp_path: Path) -> None:
    model = tiny_models.save_classifier(tmp_path, tokens=False)
    node = await loaded(model, "text-classification", produces=["json"], params={"top_k": 1})
    assert len((await answer(node, ask("law"))).payload.value) == 1


async def test_speech_recognition(tmp_path: Path) -> None:
    model = tiny_models.save_recogniser(tmp_path)
    node = await loaded(model, "automatic-speech-recognition", accepts=["audio"], params={"max_duration_s": 3})
    recording = Payload(Modality.AUDIO, tone(), "audio/wav")
    reply = await answer(node, Call(inputs={"audio": recording}, operation="transcribe"))
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 50
    with pytest.raises(InvalidRequest, match="no recording") as caught:
        await answer(node, Call(inputs={"audio": Payload(Modality.AUDIO, b"nothing")}, operation="transcribe"))
    assert caught.value.param == "file"
    with pytest.raises(InvalidRequest, match="longer than 3 s"):
        await answer(node, Call(inputs={"audio": Payload(Modality.AUDIO, tone(4))}, operation="transcribe"))
    with pytest.raises(UnsupportedParameter):
        await answer(node, Call(inputs={"audio": recording}, params={"language": "de"}, operation="transcribe"))


async def test_only_recognisers_transcribe(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation")
    with pytest.raises(InvalidRequest, match="does not transcribe"):
        await answer(node, Call(ask("x").messages, operation="transcribe"))


async def test_wrong_model_for_the_task_says_so(tmp_path: Path) -> None:
    model = tiny_models.save_classifier(tmp_path, tokens=False)
    with pytest.raises(InvalidSpec, match=r"cannot load .* for task 'text2text-generation'") as caught:
        await loaded(model, "text2text-generation")
    assert caught.value.problems[0].key == "model"


async def test_missing_library_is_named(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(InvalidSpec, match="PIL") as caught:
        await loaded(decoder, "image-to-text", accepts=["image"])
    assert caught.value.problems[0].key == "params.task"


def test_problems(decoder: Path) -> None:
    assert TransformersNode.problems(spec(decoder, "text-generation")) == []
    assert TransformersNode.problems(spec(decoder, "text-classification"))[0][0] == "produces"
    assert TransformersNode.problems(spec(decoder, "automatic-speech-recognition"))[0][0] == "accepts"
    assert TransformersNode.problems(spec("/absent", "text-generation"))[0][0] == "model"


async def test_calls_take_turns(decoder: Path) -> None:
    node = await loaded(decoder, "text-generation")
    replies = await asyncio.gather(*(answer(node, ask("hello")) for _ in range(3)))
    assert len({reply.text for reply in replies}) == 1
