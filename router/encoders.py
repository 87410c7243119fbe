"""Encoders turn texts into unit vectors: sentence-transformers, ONNX, or a static table of word vectors.

All load on first use, are thread-safe and spend bounded time on a text of any length: a long text is cut to its
beginning and end, where requests say what they want, and then to what the model can read.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from router.progress_bars import without_bars
from router.types import Array, Encoder

HEAD_CHARACTERS = 900
TAIL_CHARACTERS = 300
MAX_TOKENS = 256
REMEMBERED_CHARACTERS = 8000
CHUNK = 16
"""Texts encoded between two releases of an encoder's lock, so that a refit never makes a request wait for long."""


def shorten(text: str) -> str:
    """Return the text, or the beginning and end of a long one."""
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]} … {text[-TAIL_CHARACTERS:]}"


class _LazyEncoder:
    """Loads its model once, when first asked, and encodes in chunks, one thread at a time."""

    name = ""
    chunk = CHUNK

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (texts, dimensions), each row of length 1."""
        rows = []
        for start in range(0, max(len(texts), 1), self.chunk):
            chunk = [shorten(text) for text in texts[start : start + self.chunk]]
            with self._lock:
                if self._model is None:
                    self._model = self._load()
                rows.append(self._encode(chunk))
        vectors = np.concatenate(rows)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)

    def _load(self) -> Any:
        raise NotImplementedError

    def _encode(self, texts: list[str]) -> Array:
        raise NotImplementedError


class SentenceTransformerEncoder(_LazyEncoder):
    """A sentence-transformers folder, run by torch."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        super().__init__()
        self.name = f"sentence-transformers:{_model_name(path)}"
        self._path, self._threads = path, threads

    def _load(self) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(self._threads)
        with without_bars():
            return SentenceTransformer(str(self._path), device="cpu", local_files_only=True)

    def _encode(self, texts: list[str]) -> Array:
        found = self._model.encode(texts, batch_size=CHUNK, show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, dtype=np.float32).reshape(len(texts), -1)


class OnnxEncoder(_LazyEncoder):
    """A folder with `model.onnx` of a BERT-like encoder; needs no torch. Token vectors are mean pooled.

    The tokenizer is `tokenizer.json` beside the model or in the folder given as `tokenizer`.
    """

    def __init__(
        self, path: Path, tokenizer: Path | None = None, *, threads: int = 1, max_tokens: int = MAX_TOKENS
    ) -> None:
        super().__init__()
        self.name = f"onnx:{_model_name(path)}"
        self._file = path if path.suffix == ".onnx" else _onnx_file(path)
        self._tokenizer = (tokenizer or self._file.parent) / "tokenizer.json"
        self._threads, self.max_tokens = threads, max_tokens
        if not self._tokenizer.is_file():
            raise ValueError(
                f"{self._file.parent} has no tokenizer.json; give the folder of the model that it was exported from"
            )

    def _load(self) -> Any:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(self._file), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(self._tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=self.max_tokens)
        return session, tokenizer, {item.name for item in session.get_inputs()}

    def _encode(self, texts: list[str]) -> Array:
        # One text at a time: int8 activations are scaled per batch, so a batch would change a text's vector.
        return np.stack([self._encode_one(text) for text in texts]) if texts else np.zeros((0, 1), np.float32)

    def _encode_one(self, text: str) -> Array:
        session, tokenizer, names = self._model
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (hidden, *_) = session.run(None, {key: value for key, value in inputs.items() if key in names})
        pooled = hidden[0] if hidden.ndim == 2 else hidden[0].mean(axis=0)
        return np.asarray(pooled, dtype=np.float32)


class StaticEncoder(_LazyEncoder):
    """A model2vec folder: the mean of static token vectors. Microseconds a text, at some loss of accuracy."""

    chunk = 512  # still only milliseconds

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.name = f"static:{_model_name(path)}"
        self._path = path

    def _load(self) -> Any:
        from model2vec import StaticModel

        return StaticModel.from_pretrained(str(self._path))

    def _encode(self, texts: list[str]) -> Array:
        found = self._model.encode(texts, show_progress_bar=False, use_multiprocessing=False)
        return np.asarray(found, dtype=np.float32).reshape(len(texts), -1)


class CachedEncoder:
    """Remembers the vectors of the latest texts, so that a refit after one node's change encodes only that node.

    Texts longer than any example may be are not remembered: requests can be megabytes long.
    """

    def __init__(self, encoder: Encoder, size: int = 20_000) -> None:
        self.name = encoder.name
        self._encoder = encoder
        self._size = size
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, Array] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (texts, dimensions), each row of length 1."""
        known = self._known(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing or not texts:
            vectors = self._encoder.encode(missing)
            if not texts:
                return vectors
            known.update(zip(missing, vectors, strict=True))
            self._remember(missing, vectors)
        return np.stack([known[text] for text in texts])

    def _known(self, texts: Sequence[str]) -> dict[str, Array]:
        found = {}
        with self._lock:
            for text in texts:
                if text in self._rows:
                    self._rows.move_to_end(text)
                    found[text] = self._rows[text]
        return found

    def _remember(self, texts: Sequence[str], vectors: Array) -> None:
        with self._lock:
            for text, vector in zip(texts, vectors, strict=True):
                if len(text) <= REMEMBERED_CHARACTERS:
                    self._rows[text] = vector.copy()
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)


class EncoderFactory(Protocol):
    """Makes an encoder of a folder; `tokenizer` is a second folder for models that come without one."""

    def __call__(self, path: Path, *, tokenizer: Path | None, threads: int) -> Encoder: ...  # noqa: D102  # the class says it


_FACTORIES: dict[str, EncoderFactory] = {
    "sentence_transformers": lambda path, *, tokenizer, threads: SentenceTransformerEncoder(path, threads=threads),
    "onnx": lambda path, *, tokenizer, threads: OnnxEncoder(path, tokenizer, threads=threads),
    "static": lambda path, *, tokenizer, threads: StaticEncoder(path),
}


def register_encoder(name: str, factory: EncoderFactory) -> None:
    """Add a backend under a name that `load_encoder` takes."""
    _FACTORIES[name] = factory


def encoder_backends() -> Mapping[str, EncoderFactory]:
    """Return the known backends."""
    return MappingProxyType(_FACTORIES)


def load_encoder(
    path: Path, *, backend: str = "auto", tokenizer: Path | None = None, threads: int = 1, cache: int = 20_000
) -> Encoder:
    """Return an encoder for a model's folder, choosing the backend by what is in it. Loads nothing yet.

    Raises `ValueError` if the folder holds no model that a backend can run, or the backend is unknown.
    """
    chosen = _recognise(path) if backend == "auto" else backend
    if chosen not in _FACTORIES:
        raise ValueError(f"no encoder backend is called {chosen!r}; there is auto, {', '.join(sorted(_FACTORIES))}")
    encoder = _FACTORIES[chosen](path, tokenizer=tokenizer, threads=threads)
    return CachedEncoder(encoder, cache) if cache else encoder


def _recognise(path: Path) -> str:
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("static", lambda: _config(path).get("model_type") == "model2vec"),
        ("onnx", lambda: path.suffix == ".onnx" or (_onnx_file(path).is_file() and not _weights(path))),
        ("sentence_transformers", lambda: _weights(path) and (path / "config.json").is_file()),
    )
    for name, fits in checks:
        if fits():
            return name
    raise ValueError(
        f"{path} is no encoder: expected a sentence-transformers folder (modules.json, model.safetensors), "
        "one with model.onnx, or a model2vec folder"
    )


def _weights(path: Path) -> bool:
    return any((path / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))


def _onnx_file(path: Path) -> Path:
    nested = path / "onnx" / "model.onnx"
    return nested if nested.is_file() else path / "model.onnx"


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _model_name(path: Path) -> str:
    """Return a readable name: folders called `model` say nothing, so their parent's name is used."""
    return path.parent.name if path.name in ("model", "model.onnx", "onnx") else path.name
