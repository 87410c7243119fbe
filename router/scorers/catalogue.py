"""`Catalogue`: the vectors of very many described nodes, changed node by node, asked for a shortlist."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from graph.spec import NodeSpec
from graph.types import Modality, NodeName
from router.index import NO_KEY, VectorIndex
from router.scorers.evidence import CENTROID, DESCRIPTION, KINDS, NEAREST, NEAREST_MAX, spread
from router.scorers.head import node_text
from router.types import Array, Encoder
from router.vectors import AnyArray, unit

SHORTLIST = 64
"""Nodes of each intake that a text is compared with exactly."""
STRIDE = 128
"""Keys of the index that belong to one node: its description is the first, its examples follow."""
WIDEST = 4096
"""Most vectors asked of an index where many of the nearest belong to few nodes."""
BATCH = 4096
"""Nodes encoded and added together."""
NODES, TOTALS = "nodes.jsonl", "totals.npy"
SAME = 0.9999
"""Similarity from which an example counts as the text itself."""

Intake: TypeAlias = tuple[bool, frozenset[Modality]]
"""Whether a node is a tool, and what it accepts. Each intake has an index of its own, so that a hundred thousand tools
never crowd the few models that could take a chat out of its shortlist."""


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    """Never used again for another node."""
    lesson: int
    """Digest of all that is learned of the node."""
    intake: Intake


@dataclass(frozen=True, slots=True)
class _Examples:
    count: int
    total: Array
    """Sum of the vectors of the description and all examples."""


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The nodes nearest to one text, and the evidence for each."""

    names: tuple[NodeName, ...]
    evidence: AnyArray
    """(nodes, kinds of evidence)."""
    centroids: Array
    """(nodes, dimensions)."""


class Catalogue:
    """Very many nodes. `update` may run in one thread while others ask for shortlists."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._changing = threading.Lock()
        self._entries: dict[NodeName, _Entry] = {}
        self._names: dict[int, NodeName] = {}
        self._examples: dict[int, _Examples] = {}
        self._indexes: dict[Intake, VectorIndex] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> tuple[NodeName, ...]:
        """Names of all nodes, sorted."""
        return tuple(sorted(self._entries))

    @property
    def memory_bytes(self) -> int:
        """Memory that the indexes take."""
        return sum(index.memory_bytes for index in self._indexes.values())

    def number(self, name: NodeName) -> int | None:
        """Return the number of a node; None if it is not there."""
        entry = self._entries.get(name)
        return None if entry is None else entry.number

    def update(self, specs: Sequence[NodeSpec]) -> int:
        """Make these the nodes, touching only what is new, changed or gone; return how many nodes that were."""
        with self._changing:
            wanted = {spec.name: spec for spec in specs}
            gone = [name for name in self._entries if name not in wanted]
            return self._add(wanted.values()) + self._remove(gone)

    def add(self, *specs: NodeSpec) -> int:
        """Add or change these nodes; return how many were new or changed."""
        with self._changing:
            return self._add(specs)

    def remove(self, *names: NodeName) -> int:
        """Remove these nodes; return how many of them there were."""
        with self._changing:
            return self._remove(name for name in names if name in self._entries)

    def _add(self, specs: Iterable[NodeSpec]) -> int:
        changed = sorted((spec for spec in specs if self._is_new(spec)), key=lambda spec: spec.name)
        for start in range(0, len(changed), BATCH):
            self._put(changed[start : start + BATCH])
        return len(changed)

    def _remove(self, names: Iterable[NodeName]) -> int:
        gone = [self._entries.pop(name) for name in names]
        for entry in gone:
            self._drop(entry)
        return len(gone)

    def save(self, folder: Path) -> None:
        """Write the catalogue to a folder: `nodes.jsonl`, `totals.npy` and an index for each intake. No pickle."""
        with self._changing:
            folder.mkdir(parents=True, exist_ok=True)
            intakes = list(self._indexes)
            for place, intake in enumerate(intakes):
                self._indexes[intake].save(folder / f"{place}.index")
            with (folder / TOTALS).open("wb") as file:
                np.save(file, np.array([own.total for own in self._examples.values()], dtype=np.float32))
            card = {
                "encoder": self._encoder.name,
                "next": self._next,
                "intakes": [[is_tool, sorted(accepts)] for is_tool, accepts in intakes],
                "examples": [[number, own.count] for number, own in self._examples.items()],
            }
            with (folder / NODES).open("w", encoding="utf-8") as file:
                file.write(json.dumps(card) + "\n")
                for name, entry in self._entries.items():
                    row = [name, entry.number, entry.lesson, intakes.index(entry.intake)]
                    file.write(json.dumps(row) + "\n")

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> Catalogue:
        """Read what `save` wrote. Raises `ValueError` that says what is missing, damaged or made with another
        encoder.
        """
        try:
            with (folder / NODES).open(encoding="utf-8") as file:
                card = json.loads(file.readline())
                rows = [json.loads(line) for line in file]
            made = cls(encoder)
            made._next = card["next"]
            intakes = [(is_tool, frozenset(map(Modality, accepts))) for is_tool, accepts in card["intakes"]]
            made._entries = {name: _Entry(number, lesson, intakes[place]) for name, number, lesson, place in rows}
            made._names = {entry.number: name for name, entry in made._entries.items()}
            totals = np.load(folder / TOTALS, allow_pickle=False)
            made._examples = {
                number: _Examples(count, total) for (number, count), total in zip(card["examples"], totals, strict=True)
            }
            made._indexes = {intake: VectorIndex.load(folder / f"{i}.index") for i, intake in enumerate(intakes)}
        except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{folder} is no catalogue of nodes, or damaged: {error}; fit the nodes anew") from error
        if card["encoder"] != encoder.name:
            raise ValueError(
                f"{folder} was made with encoder {card['encoder']!r}; the encoder here is {encoder.name!r}"
            )
        return made

    def _is_new(self, spec: NodeSpec) -> bool:
        known = self._entries.get(spec.name)
        return known is None or known.lesson != _lesson(spec)

    def _put(self, specs: Sequence[NodeSpec]) -> None:
        """Encode first: where that fails, nothing has changed."""
        examples = [sorted(set(spec.examples)) for spec in specs]
        vectors = self._encoder.encode([*map(node_text, specs), *(text for own in examples for text in own)])
        keys: dict[Intake, list[int]] = {}
        rows: dict[Intake, list[int]] = {}
        after = len(specs)
        for row, (spec, own) in enumerate(zip(specs, examples, strict=True)):
            entry = _Entry(self._next, _lesson(spec), _intake(spec))
            self._next += 1
            chosen = [row, *(after + i for i in spread(len(own), NEAREST_MAX).tolist())] if own else [row]
            rows.setdefault(entry.intake, []).extend(chosen)
            keys.setdefault(entry.intake, []).extend(entry.number * STRIDE + i for i in range(len(chosen)))
            if own:
                total = vectors[row] + vectors[after : after + len(own)].sum(axis=0)
                self._examples[entry.number] = _Examples(len(chosen) - 1, total)
            after += len(own)
            self._names[entry.number] = spec.name
            if (old := self._entries.get(spec.name)) is not None:
                self._drop(old)
            self._entries[spec.name] = entry
        for intake, own_keys in keys.items():
            index = self._indexes.setdefault(intake, VectorIndex(vectors.shape[1]))
            index.add(np.array(own_keys), vectors[rows[intake]])

    def _drop(self, entry: _Entry) -> None:
        self._names.pop(entry.number, None)
        count = 1 + self._count(entry.number)
        self._indexes[entry.intake].remove(entry.number * STRIDE + np.arange(count))
        self._examples.pop(entry.number, None)

    def _count(self, number: int) -> int:
        known = self._examples.get(number)
        return known.count if known else 0

    def shortlists(self, vectors: Array, *, unseen: bool = False) -> list[Shortlist]:
        """Return the nearest nodes of every intake for each text, with exact evidence.

        With `unseen`, an example that is the text itself is looked over, as if it had never been given.
        """
        found: list[list[tuple[VectorIndex, list[int]]]] = [[] for _ in vectors]
        for index in list(self._indexes.values()):
            for row, numbers in enumerate(self._nearest(index, vectors)):
                found[row].append((index, numbers))
        return [self._compare(vector, near, unseen) for vector, near in zip(vectors, found, strict=True)]

    def _nearest(self, index: VectorIndex, vectors: Array) -> list[list[int]]:
        count = 2 * SHORTLIST if self._examples else SHORTLIST
        keys, _ = index.search(vectors, min(count, len(index)))
        return [self._owners(index, vectors[row : row + 1], own) for row, own in enumerate(keys)]

    def _owners(self, index: VectorIndex, vector: Array, keys: AnyArray) -> list[int]:
        """Return the nodes that keys belong to, best first; ask for more keys where they belong to too few."""
        while True:
            owners = list(dict.fromkeys((keys[keys != NO_KEY] // STRIDE).tolist()))
            if len(owners) >= SHORTLIST or len(keys) >= min(len(index), WIDEST):
                return owners[:SHORTLIST]
            keys = index.search(vector, min(len(index), WIDEST, 4 * len(keys)))[0][0]

    def _compare(self, vector: Array, near: Iterable[tuple[VectorIndex, list[int]]], unseen: bool) -> Shortlist:
        numbers: list[int] = []
        rows: list[Array] = []
        for index, own in near:
            counts = [1 + self._count(number) for number in own]
            keys = np.array([n * STRIDE + i for n, count in zip(own, counts, strict=True) for i in range(count)])
            there, vectors = index.vectors(keys)
            numbers += (keys[there] // STRIDE).tolist()
            rows.append(vectors)
        if not numbers:
            return Shortlist((), np.zeros((0, KINDS), np.float32), np.zeros((0, len(vector)), np.float32))
        return self._gathered(vector, np.array(numbers), np.concatenate(rows), unseen)

    def _gathered(self, vector: Array, numbers: AnyArray, prototypes: Array, unseen: bool) -> Shortlist:
        starts = np.flatnonzero(np.diff(numbers, prepend=NO_KEY))
        similar = prototypes @ vector
        descriptions = similar[starts]
        if unseen:
            itself = similar > SAME
            itself[starts] = False
            similar = np.where(itself, -1.0, similar)
        owners = numbers[starts].tolist()
        centroids = prototypes[starts].copy()
        for row, number in enumerate(owners):
            if (own := self._examples.get(number)) is not None:
                centroids[row] = own.total
        if unseen:
            mine = np.isin(owners, numbers[itself])
            centroids[mine] -= vector
        centroids = unit(centroids)
        evidence = np.zeros((len(owners), KINDS), dtype=np.float32)
        evidence[:, NEAREST] = np.maximum.reduceat(similar, starts)
        evidence[:, CENTROID] = centroids @ vector
        evidence[:, DESCRIPTION] = descriptions
        names = [self._names.get(number) for number in owners]
        kept = sorted((name, row) for row, name in enumerate(names) if name is not None)
        order = [row for _, row in kept]
        return Shortlist(tuple(name for name, _ in kept), evidence[order], centroids[order])


def _intake(spec: NodeSpec) -> Intake:
    return spec.is_tool, spec.accepts


def _lesson(spec: NodeSpec) -> int:
    """Return a digest of what is learned of a node."""
    said = "\0".join([spec.description, str(spec.is_tool), *sorted(spec.accepts), *sorted(set(spec.examples))])
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")
