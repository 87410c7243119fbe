"""`VectorIndex`: nearest unit vectors, among ten or a million, with changes while others search.

A graph of neighbours (HNSW: Malkov and Yashunin 2018) by the library usearch. Up to `EXACT_UP_TO` vectors are all
compared, so a small index never misses a neighbour.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import numpy as np

from router.types import Array
from router.vectors import AnyArray

Storage: TypeAlias = Literal["f16", "i8"]
"""Two bytes a number, or one: half the memory and twice the speed for an error of about 0.002 in a similarity."""

EXACT_UP_TO = 2000
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 12, 48, 160
"""HNSW's M, efConstruction and ef: links of a vector, and candidates kept while adding and while searching."""
CHUNK = 64
"""Vectors added or removed between two releases of the lock, so that a search never waits for a long change."""
THREADED_FROM = 16
"""Texts in one search from which threads are worth their start."""
NO_KEY = -1

_MAGIC = b"MODELYARD-INDEX1"
_BLOCK = 1 << 22


class VectorIndex:
    """Unit vectors under integer keys (0 or more), each key once. Thread-safe."""

    def __init__(self, dimensions: int, storage: Storage = "f16") -> None:
        self.dimensions = dimensions
        self.storage = storage
        # Numbers of a unit vector are small: most of int8's range would be wasted on 1.0.
        self._scale = 127 * max(1.0, dimensions**0.5 / 8)
        self._lock = threading.Lock()
        self._index = self._make()

    def _make(self) -> Any:
        if importlib.util.find_spec("onnxruntime"):
            # usearch 2.26 loaded first makes a later import of onnxruntime 1.32 crash the process (Linux x86-64).
            importlib.import_module("onnxruntime")
        from usearch.index import Index

        return Index(
            ndim=self.dimensions,
            metric="ip",
            dtype=self.storage,
            connectivity=LINKS,
            expansion_add=BUILD_WIDTH,
            expansion_search=SEARCH_WIDTH,
        )

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: int) -> bool:
        with self._lock:
            return key in self._index

    @property
    def memory_bytes(self) -> int:
        """Memory that the vectors and their links take."""
        return int(self._index.memory_usage)

    def add(self, keys: AnyArray, vectors: Array, *, chunk: int = CHUNK) -> None:
        """Add vectors (keys, dimensions) under keys that are not there yet; `chunk` at a time.

        Raises `ValueError` for vectors of other dimensions and for keys that exist.
        """
        if vectors.shape != (len(keys), self.dimensions):
            raise ValueError(
                f"expected vectors of shape ({len(keys)}, {self.dimensions}), one row for each key; got {vectors.shape}"
            )
        stored = self._stored(vectors)
        for start in range(0, len(keys), chunk):
            part = np.asarray(keys[start : start + chunk], dtype=np.uint64)
            with self._lock:
                known = part[self._index.contains(part)]
                if len(known) or len(set(part.tolist())) < len(part):
                    raise ValueError(f"each key is added once; {sorted(known.tolist())[:5] or 'one'} came again")
                self._index.add(part, stored[start : start + chunk])

    def remove(self, keys: AnyArray) -> None:
        """Remove vectors; a key that is not there is ignored."""
        for start in range(0, len(keys), CHUNK):
            with self._lock:
                self._index.remove(np.asarray(keys[start : start + CHUNK], dtype=np.uint64))

    def search(self, vectors: Array, count: int) -> tuple[AnyArray, Array]:
        """Return the nearest: (texts, count) keys, best first, `NO_KEY` where there are fewer, and similarities."""
        keys = np.full((len(vectors), count), NO_KEY, dtype=np.int64)
        similar = np.full((len(vectors), count), -1.0, dtype=np.float32)
        if not len(vectors) or not count:
            return keys, similar
        wanted = self._stored(vectors)
        with self._lock:
            if not len(self._index):
                return keys, similar
            exact = len(self._index) <= EXACT_UP_TO
            threads = 0 if len(vectors) >= THREADED_FROM else 1
            found = self._index.search(np.atleast_2d(wanted), count, exact=exact, threads=threads)
            counts = np.atleast_1d(found.counts) if len(vectors) > 1 else [len(found.keys.reshape(-1))]
        for row, (ids, distances, many) in enumerate(
            zip(np.atleast_2d(found.keys), np.atleast_2d(found.distances), counts, strict=True)
        ):
            keys[row, :many] = ids[:many].astype(np.int64)
            similar[row, :many] = self._similarity(distances[:many])
        return keys, similar

    def vectors(self, keys: AnyArray) -> tuple[AnyArray, Array]:
        """Return (keys,) whether each key is there, and the vectors of those that are, in order."""
        with self._lock:
            rows = self._index.get(np.asarray(keys, dtype=np.uint64)) if len(keys) else ()
        there = np.array([row is not None for row in rows], dtype=bool)
        known = [row for row in rows if row is not None]
        found = np.stack(known).astype(np.float32) if known else np.zeros((0, self.dimensions), np.float32)
        return there, np.asarray(found / self._scale if self.storage == "i8" else found, dtype=np.float32)

    def _stored(self, vectors: Array) -> AnyArray:
        if self.storage == "f16":
            return vectors.astype(np.float16)
        return np.asarray(np.clip(np.rint(vectors * self._scale), -127, 127), dtype=np.int8)

    def _similarity(self, distances: AnyArray) -> Array:
        return np.asarray((1 - distances) / (self._scale**2 if self.storage == "i8" else 1), dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the index to one file, which appears whole or not at all. No pickle: usearch's own form, and a trailer
        with a checksum.
        """
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with self._lock:
                self._index.save(str(partial))
                size = len(self._index)
            card = {"dimensions": self.dimensions, "storage": self.storage, "vectors": size}
            with partial.open("r+b") as file:
                card["crc32"] = _checksum(file)
                written = json.dumps(card).encode()
                file.write(written + len(written).to_bytes(4, "little") + _MAGIC)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> VectorIndex:
        """Read an index that `save` wrote. Raises `ValueError` naming the file if it is none, or damaged."""
        card = _card(path)
        index = cls(card["dimensions"], card["storage"])
        try:
            index._index.load(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path} is damaged: {error}; build the index again") from error
        if len(index) != card["vectors"] or index._index.ndim != index.dimensions:
            raise ValueError(f"{path} is damaged: it says {card['vectors']} vectors and holds {len(index)}")
        return index


def _card(path: Path) -> dict[str, Any]:
    """Read and check the trailer of a file."""
    tail = len(_MAGIC) + 4
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < tail:
            raise ValueError(f"{path} is no index of vectors: it has {size} bytes")
        file.seek(size - tail)
        length = int.from_bytes(file.read(4), "little")
        if file.read() != _MAGIC or length > size - tail:
            raise ValueError(f"{path} is no whole index of vectors: its end is missing; build the index again")
        file.seek(size - tail - length)
        try:
            card = dict(json.loads(file.read(length)))
        except ValueError as error:
            raise ValueError(f"{path} is damaged: its description cannot be read ({error})") from None
        file.seek(0)
        if card.get("crc32") != _checksum(file, size - tail - length) or card.get("storage") not in get_args(Storage):
            raise ValueError(f"{path} is damaged: its checksum does not match; build the index again")
    return card


def _checksum(file: BinaryIO, size: int | None = None) -> int:
    """Return the CRC-32 of the next `size` bytes, or of all, leaving the file after them."""
    crc = 0
    for block in _blocks(file, size):
        crc = zlib.crc32(block, crc)
    return crc


def _blocks(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    left = size
    while block := file.read(_BLOCK if left is None else min(_BLOCK, left)):
        yield block
        if left is not None:
            left -= len(block)
