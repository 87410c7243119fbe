"""Stage one: the mean of static vectors of tokens and token pairs. Needs numpy and a tokenizer; microseconds a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from router.encoders import MAX_TOKENS, shorten
from router.types import Array
from router.vectors import AnyArray, unit

SHIFT = 2**31
"""A pair of tokens a, b is known by the number a * SHIFT + b."""


@dataclass(frozen=True, slots=True, eq=False)
class NgramEncoder:
    """Token vectors distilled from a sentence encoder and fine-tuned; immutable and thread-safe."""

    tokenizer: Any
    tokens: AnyArray
    """(known tokens,) ids, rising."""
    pairs: AnyArray
    """(known pairs,) numbers, rising."""
    vectors: Array
    """(known tokens + known pairs, dimensions)."""
    name: str = "static"

    def encode(self, texts: Sequence[str]) -> Array:
        """Return (texts, dimensions), each row of length 1, or of zeros where no token is known."""
        return self.encode_known(texts)[0]

    def encode_known(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Return unit vectors, and the share of each text's tokens that are known."""
        sums = np.zeros((len(texts), self.vectors.shape[1]), dtype=np.float32)
        known = np.zeros(len(texts), dtype=np.float32)
        for row, (features, share) in enumerate(self.features(texts)):
            sums[row] = self.vectors[features].sum(axis=0)
            known[row] = share
        return unit(sums), known

    def features(self, texts: Sequence[str]) -> Iterator[tuple[AnyArray, float]]:
        """Yield the rows of `vectors` that a text is the sum of, and the share of its tokens that are known."""
        for ids in token_ids(self.tokenizer, texts):
            rows = find(self.tokens, ids)
            pairs = find(self.pairs, pair_numbers(ids))
            known = rows[rows >= 0]
            yield np.concatenate([known, pairs[pairs >= 0] + len(self.tokens)]), len(known) / max(1, len(ids))

    def with_vectors(self, vectors: Array) -> NgramEncoder:
        """Return the same with other vectors."""
        return replace(self, vectors=vectors)


def load_tokenizer(text: str) -> Any:
    """Return a tokenizer of its JSON text, that neither pads nor cuts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_ids(tokenizer: Any, texts: Sequence[str]) -> Iterator[AnyArray]:
    """Yield each text's token ids, special ones left out."""
    for text in texts:
        ids = tokenizer.encode(shorten(text), add_special_tokens=False).ids
        yield np.array(ids[:MAX_TOKENS], dtype=np.int64)


def pair_numbers(ids: AnyArray) -> AnyArray:
    """Return the numbers of the neighbouring pairs of token ids."""
    return np.asarray(ids[:-1] * SHIFT + ids[1:])


def find(known: AnyArray, wanted: AnyArray) -> AnyArray:
    """Return where each wanted number stands in `known` (rising), -1 where it does not."""
    if not len(known):
        return np.full(len(wanted), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, places, -1)
