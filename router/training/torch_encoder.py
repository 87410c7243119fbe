"""A sentence-transformers model opened up for training: frozen lower layers run once, upper layers are trained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph.errors import InvalidRequest
from router.encoders import MAX_TOKENS, shorten
from router.progress_bars import without_bars
from router.types import Array
from router.vectors import AnyArray

BATCH_TOKENS = 2048
"""Tokens, padding included, that go through the model at once."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text for the model: token ids, and what the frozen layers make of them (tokens, width)."""

    ids: AnyArray
    hidden: Any = None


class TorchEncoder:
    """A sentence encoder of `trained` trainable layers on top of frozen ones. Uses torch; one thread at a time.

    Raises `InvalidRequest` if the folder holds no such model.
    """

    def __init__(self, path: Path, *, trained: int) -> None:
        if not any((path / name).is_file() for name in ("modules.json", "config.json")):
            raise InvalidRequest(
                f"{path} is no sentence-transformers model: it has neither modules.json nor config.json",
                param="encoder",
            )
        import torch
        from sentence_transformers import SentenceTransformer

        # An encoder loaded to serve leaves the process with fewer. Sums, so weights, depend on their number in the end.
        torch.set_num_threads(os.cpu_count() or 1)
        with without_bars():
            self.model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
        self.model.max_seq_length = min(self.model.max_seq_length or MAX_TOKENS, MAX_TOKENS)
        self._body = self.model[0].auto_model
        self._tokenizer = self.model[0].tokenizer
        self._freeze(trained)

    @property
    def tokenizer_json(self) -> str:
        """The fast tokenizer, as its library writes it."""
        return str(self._tokenizer.backend_tokenizer.to_str())

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model reads."""
        return int(self.model.max_seq_length)

    def parameters(self) -> list[Any]:
        """Return the parameters that are trained."""
        return [p for p in self._body.parameters() if p.requires_grad]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the token ids of texts; long texts are cut as in serving."""
        found = self._tokenizer([shorten(t) for t in texts], truncation=True, max_length=self.max_tokens)
        return [Tokens(np.array(ids, dtype=np.int64)) for ids in found["input_ids"]]

    def prepare(self, texts: Sequence[str]) -> list[Tokens]:
        """Return tokens with the output of the frozen layers, if the model can be split; just tokens if not."""
        return self._prepare(self.tokenize(texts))

    def prepare_ids(self, ids: Sequence[AnyArray]) -> list[Tokens]:
        """Return the same of token ids, each row set between the special tokens."""
        return self._prepare([Tokens(self._framed(own)) for own in ids])

    def _framed(self, ids: AnyArray) -> AnyArray:
        start, end = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        frame = [[i] if i is not None else [] for i in (start, end)]
        return np.array([*frame[0], *ids.tolist(), *frame[1]], dtype=np.int64)

    def _prepare(self, tokens: list[Tokens]) -> list[Tokens]:
        if self._split is None:
            return tokens
        import torch

        done: list[Tokens] = list(tokens)
        with torch.no_grad():
            for rows in by_length(tokens):
                ids, mask = self.pad([tokens[i].ids for i in rows])
                hidden = self._lower(ids, mask).half()
                for row, values in zip(rows, hidden, strict=True):
                    done[row] = Tokens(tokens[row].ids, values[: len(tokens[row].ids)].clone())
        return done

    def forward(self, batch: Sequence[Tokens]) -> Any:
        """Return (texts, dimensions) unit vectors as a tensor that remembers its gradient."""
        ids, mask = self.pad([item.ids for item in batch])
        if self._split is None:
            return self.forward_ids(ids, mask)
        return self.pool(self._upper([item.hidden for item in batch], mask), mask)

    def forward_tokens(self, batch: Sequence[Tokens]) -> tuple[Any, Any]:
        """Return (texts, tokens, width) vectors of the tokens themselves, and their mask (texts, tokens)."""
        ids, mask = self.pad([item.ids for item in batch])
        if self._split is None:
            return self.hidden_ids(ids, mask), mask
        return self._upper([item.hidden for item in batch], mask), mask

    def hidden_ids(self, ids: Any, mask: Any) -> Any:
        """Return (texts, tokens, width) vectors of padded token ids, by the whole model."""
        return self._body(input_ids=ids, attention_mask=mask).last_hidden_state

    def forward_ids(self, ids: Any, mask: Any) -> Any:
        """Return unit vectors of padded token ids, by the whole model."""
        return self.pool(self.hidden_ids(ids, mask), mask)

    def pool(self, hidden: Any, mask: Any) -> Any:
        """Return unit vectors of token vectors (texts, tokens, width), as the model pools them."""
        import torch

        features = {"token_embeddings": hidden, "attention_mask": mask}
        for module in list(self.model)[1:]:
            features = module(features)
        return torch.nn.functional.normalize(features["sentence_embedding"], dim=-1)

    def encode_tokens(self, tokens: Sequence[Tokens]) -> Array:
        """Return (texts, dimensions) unit vectors, without gradients."""
        import torch

        self._body.eval()
        vectors: list[Any] = [None] * len(tokens)
        with torch.no_grad():
            for rows in by_length(tokens):
                for row, vector in zip(rows, self.forward([tokens[i] for i in rows]).numpy(), strict=True):
                    vectors[row] = vector
        return np.stack(vectors).astype(np.float32)

    def eval(self) -> None:
        """Switch dropout off."""
        self._body.eval()

    def train(self) -> None:
        """Switch dropout on."""
        self._body.train()

    def _freeze(self, trained: int) -> None:
        layers = _layers(self._body)
        kept = layers[len(layers) - trained :] if layers is not None else None
        for parameter in self._body.parameters():
            parameter.requires_grad_(kept is None)
        for parameter in (p for layer in kept or () for p in layer.parameters()):
            parameter.requires_grad_(True)
        self._split = len(layers) - trained if layers is not None else None

    def pad(self, ids: Sequence[AnyArray]) -> tuple[Any, Any]:
        """Return token ids and mask as tensors (texts, tokens)."""
        import torch

        width = max(map(len, ids))
        padded = np.full((len(ids), width), self._tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((len(ids), width), dtype=np.int64)
        for row, own in enumerate(ids):
            padded[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return torch.from_numpy(padded), torch.from_numpy(mask)

    def _lower(self, ids: Any, mask: Any) -> Any:
        """Run the embeddings and the frozen layers: the model itself, its trained layers taken off."""
        encoder = self._body.encoder
        every = encoder.layer
        self._body.eval()
        encoder.layer = every[: self._split]
        try:
            return self._body(input_ids=ids, attention_mask=mask).last_hidden_state
        finally:
            encoder.layer = every

    def _upper(self, hidden: Sequence[Any], mask: Any) -> Any:
        """Run the trained layers: the model itself, its embeddings and frozen layers taken off."""
        import torch

        padded = torch.nn.utils.rnn.pad_sequence([h.float() for h in hidden], batch_first=True)
        encoder, embeddings = self._body.encoder, self._body.embeddings
        every = encoder.layer
        encoder.layer, self._body.embeddings = every[self._split :], _pass_through()
        try:
            return self._body(inputs_embeds=padded, attention_mask=mask).last_hidden_state
        finally:
            encoder.layer, self._body.embeddings = every, embeddings


def by_length(tokens: Sequence[Tokens]) -> Iterator[list[int]]:
    """Yield batches of rows of about the same length, of at most `BATCH_TOKENS` tokens."""
    batch: list[int] = []
    for row in sorted(range(len(tokens)), key=lambda row: len(tokens[row].ids)):
        if batch and (len(batch) + 1) * len(tokens[row].ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _layers(body: Any) -> Any:
    """Return the layers of a BERT-like model, or None for one of another build, which is trained as a whole."""
    encoder = getattr(body, "encoder", None)
    return getattr(encoder, "layer", None) if hasattr(body, "embeddings") else None


def _pass_through() -> Any:
    import torch

    class PassThrough(torch.nn.Module):
        def forward(self, *unused: Any, inputs_embeds: Any, **ignored: Any) -> Any:
            return inputs_embeds

    return PassThrough()
