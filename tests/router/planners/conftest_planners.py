from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Message, Modality, Payload, text_payload
from router.planners.toolset import Output, Parameter, Tool
from router.types import Scores

ROOT = Path(__file__).parents[3]

WORDS = {
    "legal": "legal law contract clause liable liability court tort enforceable tenant risk statute",
    "code": "python function code script bash sql regex class program",
    "medical": "symptom symptoms dose drug medical disease fever treatment medication",
    "speech": "transcribe transcript recording",
    "weather": "weather forecast temperature",
    "vision": "image picture photo",
}


def example_specs() -> list[NodeSpec]:
    return [NodeSpec(**yaml.safe_load(path.read_text())) for path in sorted((ROOT / "examples/nodes").glob("*.yaml"))]


def spec(
    name: str, accepts: Sequence[str] = ("text",), produces: Sequence[str] = ("text",), **more: object
) -> NodeSpec:
    return NodeSpec.model_validate(
        {"name": name, "kind": "openai", "description": f"The {name} node.", "accepts": accepts, "produces": produces}
        | more
    )


def keyword_score(labels: Sequence[str]):
    """Score texts by words: a stand-in for the learned scorer that a reader can follow."""

    async def score(texts: Sequence[str]) -> Scores:
        counts = np.array(
            [
                [sum(w in text.lower().split() for w in WORDS.get(name, "").split()) for name in labels]
                for text in texts
            ],
            dtype=np.float32,
        ).reshape(len(texts), len(labels))
        counts += np.array(
            [[sum(word in text.lower() for word in WORDS.get(n, "").split()) for n in labels] for text in texts]
        )
        total = counts.sum(axis=1, keepdims=True)
        even = np.full_like(counts, 1 / max(len(labels), 1))
        probabilities = np.where(total > 0, counts / np.maximum(total, 1), even)
        return Scores(tuple(labels), probabilities.astype(np.float32), np.where(total[:, 0] > 0, 0.95, 0.1))

    return score


def call_of(text: str, audio: int = 0, image: int = 0) -> Call:
    parts = [Payload(Modality.AUDIO, b"RIFF", "audio/wav")] * audio + [
        Payload(Modality.IMAGE, b"PNG", "image/png")
    ] * image
    return Call((Message("user", (text_payload(text), *parts)),)) if parts else Call((Message("user", text),))


@pytest.fixture
def graph() -> ModelGraph:
    return ModelGraph(
        [
            spec("legal"),
            spec("code"),
            spec("medical"),
            spec("general", default=True),
            spec("speech", accepts=["audio"], edges={"feeds": ["legal", "medical", "general"]}),
            spec("vision", accepts=["text", "image"]),
            spec(
                "weather",
                arguments={
                    "city": {"type": "string", "description": "City"},
                    "days": {"type": "integer", "required": False},
                    "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
                },
            ),
        ]
    )


def tool(name: str, description: str, outputs: str = "", /, **parameters: str) -> Tool:
    """Build a tool; `!` before a type makes the parameter optional."""
    taken = tuple(Parameter(key, kind.strip("!"), "", not kind.startswith("!")) for key, kind in parameters.items())
    return Tool(name, description, taken, tuple(Output((field,), "string") for field in outputs.split()))
