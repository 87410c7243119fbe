"""`VectorIndex`: nearest unit vectors, among ten or a million, with changes while others search.

Vectors are grouped around centres, and a search compares those of the nearest groups only (inverted lists: Jégou et al.
2011, by the library faiss). Up to `EXACT_UP_TO` vectors there is one group, so a small index never misses a neighbour.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from router.types import Array
from router.vectors import AnyArray

EXACT_UP_TO = 2000
GROWTH = 4
"""Times as many vectors as the groups were made for, from which they are made anew."""
PROBES = 64
"""Groups that a search looks into."""
SAMPLE, ROUNDS = 48, 8
"""Vectors of each group that its centre is found by, and rounds of k-means."""
CHUNK = 256
"""Vectors added or removed between two releases of the lock, so that a search never waits for a long change."""
NO_KEY = -1

_MAGIC = b"MODELYARD-INDEX2"
_BLOCK = 1 << 22
_PLACE_BYTES = 48
"""Memory that a vector's key and place take, about."""


class VectorIndex:
    """Unit vectors under integer keys (0 or more), each key once, kept in half precision. Thread-safe."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._made_for = EXACT_UP_TO
        self._highest = NO_KEY
        self._index = self._make(1, np.zeros((1, dimensions), np.float32))

    def _make(self, groups: int, sample: Array) -> Any:
        faiss = _library()
        centres = faiss.IndexFlatIP(self.dimensions)
        storage = faiss.ScalarQuantizer.QT_fp16
        made = faiss.IndexIVFScalarQuantizer(
            centres, self.dimensions, groups, storage, faiss.METRIC_INNER_PRODUCT, False
        )
        made.cp.niter, made.cp.spherical = ROUNDS, True
        made.cp.min_points_per_centroid, made.cp.max_points_per_centroid = 1, SAMPLE
        if groups == 1:
            centres.add(sample[:1])
        made.train(sample)
        made.set_direct_map_type(faiss.DirectMap.Hashtable)
        return made

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def __contains__(self, key: int) -> bool:
        with self._lock:
            return self._has(key)

    def _has(self, key: int) -> bool:
        try:
            return bool(self._index.direct_map.get(int(key)) >= 0)
        except RuntimeError:  # how faiss says that there is no such key
            return False

    @property
    def memory_bytes(self) -> int:
        """Memory that the vectors and their places take, about."""
        return len(self) * (2 * self.dimensions + _PLACE_BYTES) + 4 * self.dimensions * int(self._index.nlist)

    def add(self, keys: AnyArray, vectors: Array) -> None:
        """Add vectors (keys, dimensions) under keys that are not there yet.

        Raises `ValueError` for vectors of other dimensions and for keys that exist.
        """
        if vectors.shape != (len(keys), self.dimensions):
            raise ValueError(
                f"expected vectors of shape ({len(keys)}, {self.dimensions}), one row for each key; got {vectors.shape}"
            )
        keys = np.asarray(keys, dtype=np.int64)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._changing:
            known = [key for key in keys[keys <= self._highest].tolist() if key in self]
            if known or len(np.unique(keys)) < len(keys):
                raise ValueError(f"each key is added once; {known[:5] or 'one'} came again")
            self._regroup(vectors)
            for start in range(0, len(keys), CHUNK):
                with self._lock:
                    self._index.add_with_ids(vectors[start : start + CHUNK], keys[start : start + CHUNK])
            self._highest = max(self._highest, int(keys.max(initial=NO_KEY)))

    def _regroup(self, coming: Array) -> None:
        """Make groups anew where there will be many more vectors than they were made for; searches go on meanwhile."""
        total = len(self) + len(coming)
        if total <= EXACT_UP_TO or (total <= GROWTH * self._made_for and self._index.nlist > 1):
            return
        keys, vectors = self._contents()
        groups = max(1, int(2 * (2 * total) ** 0.5))  # for twice as many, since more will come
        both = np.concatenate([vectors, coming])
        made = self._make(groups, both[np.linspace(0, total - 1, min(total, SAMPLE * groups)).astype(np.int64)])
        if len(keys):
            made.add_with_ids(vectors, keys)
        with self._lock:
            self._index, self._made_for = made, total

    def _contents(self) -> tuple[AnyArray, Array]:
        """Return all keys and their vectors, in no order that matters."""
        faiss = _library()
        lists = self._index.invlists
        keys, rows = [np.zeros(0, np.int64)], [np.zeros((0, self.dimensions), np.float16)]
        for group in range(self._index.nlist):
            if size := lists.list_size(group):
                keys.append(faiss.rev_swig_ptr(lists.get_ids(group), size).copy())
                codes = faiss.rev_swig_ptr(lists.get_codes(group), size * 2 * self.dimensions)
                rows.append(codes.copy().view(np.float16).reshape(size, self.dimensions))
        return np.concatenate(keys), np.concatenate(rows).astype(np.float32)

    def remove(self, keys: AnyArray) -> None:
        """Remove vectors; a key that is not there is ignored."""
        faiss = _library()
        keys = np.asarray(keys, dtype=np.int64)
        with self._changing:
            for start in range(0, len(keys), CHUNK):
                with self._lock:
                    self._index.remove_ids(faiss.IDSelectorArray(keys[start : start + CHUNK]))

    def search(self, vectors: Array, count: int) -> tuple[AnyArray, Array]:
        """Return the nearest: (texts, count) keys, best first, `NO_KEY` where there are fewer, and similarities."""
        faiss = _library()
        if not len(vectors) or not count:
            return np.full((len(vectors), count), NO_KEY, np.int64), np.full((len(vectors), count), -1.0, np.float32)
        with self._lock:
            groups = int(self._index.nlist)
            enough = 2 * count * groups // max(1, len(self)) + 1  # groups that hold twice as many as are asked for
            probes = faiss.SearchParametersIVF()
            probes.nprobe = min(groups, max(PROBES, enough))
            wanted = np.ascontiguousarray(vectors, dtype=np.float32)
            similar, keys = self._index.search(wanted, count, params=probes)
        return keys, np.where(keys == NO_KEY, np.float32(-1.0), similar)

    def vectors(self, keys: AnyArray) -> tuple[AnyArray, Array]:
        """Return (keys,) whether each key is there, and the vectors of those that are, in order."""
        keys = np.asarray(keys, dtype=np.int64)
        there = np.ones(len(keys), dtype=bool)
        with self._lock:
            try:
                found = self._index.reconstruct_batch(keys) if len(keys) else np.zeros((0, self.dimensions))
            except RuntimeError:  # how faiss says that some of the keys are gone
                there = np.array([self._has(key) for key in keys.tolist()])
                found = self._index.reconstruct_batch(keys[there]) if there.any() else np.zeros((0, self.dimensions))
        return there, np.asarray(found, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write the index to one file, which appears whole or not at all. No pickle: faiss' own form, and a trailer
        with a checksum.
        """
        faiss = _library()
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with self._changing:
                faiss.write_index(self._index, str(partial))
                card = {"dimensions": self.dimensions, "vectors": len(self), "made_for": self._made_for}
                card["highest"] = self._highest
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
        faiss = _library()
        card = _card(path)
        index = cls(card["dimensions"])
        try:
            index._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path} is damaged: {error}; build the index again") from error
        index._made_for, index._highest = card["made_for"], card["highest"]
        if len(index) != card["vectors"] or index._index.d != index.dimensions:
            raise ValueError(f"{path} is damaged: it says {card['vectors']} vectors and holds {len(index)}")
        return index


def _library() -> Any:
    """Return faiss. Its own types lack half of what it has."""
    return importlib.import_module("faiss")


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
        if card.get("crc32") != _checksum(file, size - tail - length):
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
