"""Settings of kind `transformers`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graph.node import NodeParams

TaskName = Literal[
    "text-generation",
    "text2text-generation",
    "text-classification",
    "token-classification",
    "automatic-speech-recognition",
    "image-to-text",
]


class TransformersParams(NodeParams):
    """Settings of a transformers model. Code that comes with a model is never run."""

    task: TaskName = "text-generation"
    device: str | None = None
    """Torch device such as `cpu` or `cuda:0`; the CPU by default."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    max_tokens: int = Field(512, ge=1)
    """Length of an answer where the call names none."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Where the call names none; 0 takes the likeliest token."""
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=4)
    top_k: int = Field(5, ge=1, le=1000)
    """Labels that text-classification reports, best first."""
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    """How token-classification joins tokens to entities."""
    max_duration_s: float = Field(1800.0, gt=0, le=86400)
    """Longest recording that automatic-speech-recognition takes."""
