"""What a router is trained on: described nodes and labelled requests, read from files and checked."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph.errors import InvalidRequest
from graph.loader import parse_documents
from router.vectors import AnyArray

OUTSIDE = -1
"""Class of a request that no node fits."""
FINER = "subject"
"""Key of a row that names a finer class than its node."""


@dataclass(frozen=True, slots=True)
class LabelledNode:
    """A node as far as routing to it is concerned."""

    name: str
    description: str
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that stands for a node that has said nothing by example."""
        return f"{self.name.replace('_', ' ').replace('-', ' ')}: {self.description}"


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A request, the node that should take it (None: no node should), and the finer class, if the row names one."""

    text: str
    node: str | None
    finer: str | None = None
    rewrite: str | None = None
    """How the node is best asked, if the row says so; functional tokens learn it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Requests with their classes."""

    texts: tuple[str, ...]
    targets: AnyArray
    """(texts,) index of each one's label, `OUTSIDE` where no node fits."""
    finer: AnyArray
    """(texts,) index of each one's finer class."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: AnyArray) -> Rows:
        """Return some of the rows, by index or mask."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Rows(tuple(self.texts[i] for i in rows), self.targets[rows], self.finer[rows])

    def join(self, other: Rows) -> Rows:
        """Return these rows and others."""
        return Rows(
            (*self.texts, *other.texts),
            np.concatenate([self.targets, other.targets]),
            np.concatenate([self.finer, other.finer]),
        )

    @property
    def inside(self) -> AnyArray:
        """(texts,) True where some node fits."""
        return np.asarray(self.targets != OUTSIDE)


@dataclass(frozen=True, slots=True)
class RouterData:
    """Everything a training run learns from."""

    labels: tuple[str, ...]
    """Nodes that have rows, by name."""
    described: tuple[str, ...]
    """Name and description of each label, as one text."""
    bare: tuple[LabelledNode, ...]
    """Nodes without rows, which only their description speaks for."""
    finer_owners: AnyArray
    """(finer classes,) label of each; as many as labels where rows name none."""
    train: Rows
    val: Rows
    """Empty where none was given."""
    anchors: Rows
    """A text of name and description for each label; none where rows name finer classes, which say more."""
    digest: str
    warnings: tuple[str, ...]


def read_nodes(path: Path) -> list[LabelledNode]:
    """Read nodes: JSON lines of `{"name", "description"}` (gzipped or not), or a file or folder of node YAML.

    Raises `InvalidRequest` that names file, line and key.
    """
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        found = list(_yaml_nodes(path))
    else:
        found = [_node(item, where) for where, item in _lines(path)]
    if not found:
        raise InvalidRequest(f"{path} declares no node", param="nodes")
    names = [node.name for node in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequest(f"{path} declares {_some(twice)} more than once", param="nodes")
    return found


def read_requests(path: Path) -> list[LabelledRow]:
    """Read JSON lines of `{"text", "node"}`, gzipped or not; node null is out of scope.

    Raises `InvalidRequest` that names file, line and key.
    """
    rows = [_row(item, where) for where, item in _lines(path)]
    if not rows:
        raise InvalidRequest(f'{path} holds no rows; one is a line like {{"text": "…", "node": "name"}}', param="data")
    return rows


def make_data(
    nodes: Sequence[LabelledNode], train: Sequence[LabelledRow], val: Sequence[LabelledRow] = ()
) -> RouterData:
    """Put nodes and rows together. Raises `InvalidRequest` for labels that no node has, and for too few."""
    names = {node.name for node in nodes}
    check_labels([*train, *val], names)
    own = [LabelledRow(text, node.name) for node in nodes for text in node.examples]
    train = list({(row.text, row.node): row for row in [*own, *train]}.values())
    labels = tuple(sorted({row.node for row in train if row.node is not None}))
    if len(labels) < 2:
        raise InvalidRequest(
            f"a router needs rows of two nodes at least; there are rows of {len(labels)}", param="train"
        )
    bare = tuple(node for node in nodes if node.name not in labels)
    warnings = []
    if bare:
        named = _some([node.name for node in bare])
        warnings.append(f"nodes without training rows, known by their description only: {len(bare)} ({named})")
    unknown = [row for row in val if row.node is not None and row.node not in labels]
    if unknown:
        warnings.append(f"validation rows left out, of nodes without training rows: {len(unknown)}")
        val = [row for row in val if row.node is None or row.node in labels]
    finer, owners = _finer_classes([*train, *val], labels)
    described = {node.name: node.text for node in nodes}
    anchors = [LabelledRow(node.text, node.name) for node in nodes if node.name in labels]
    if any(row.finer is not None for row in (*train, *val)):
        anchors = []
    return RouterData(
        labels,
        tuple(described[label] for label in labels),
        bare,
        owners,
        _rows(train, labels, finer),
        _rows(val, labels, finer),
        _rows(anchors, labels, finer),
        _digest(nodes, train, val),
        tuple(warnings),
    )


def check_labels(rows: Sequence[LabelledRow], known: set[str]) -> None:
    """Raise `InvalidRequest` if a row's node is none of those known."""
    strange = sorted({row.node for row in rows if row.node is not None} - known)
    if strange:
        raise InvalidRequest(
            f"{len(strange)} labels in the data are no known node: {_some(strange)}; there are {_some(sorted(known))}",
            param="node",
        )


def _finer_classes(
    rows: Sequence[LabelledRow], labels: Sequence[str]
) -> tuple[Mapping[tuple[str, str | None], int], AnyArray]:
    """Return an index of (node, finer class) pairs, and the label of each."""
    pairs = sorted({(row.node, row.finer) for row in rows if row.node is not None}, key=lambda p: (p[0], p[1] or ""))
    place = {label: index for index, label in enumerate(labels)}
    return {pair: index for index, pair in enumerate(pairs)}, np.array([place[node] for node, _ in pairs])


def _rows(rows: Sequence[LabelledRow], labels: Sequence[str], finer: Mapping[tuple[str, str | None], int]) -> Rows:
    place = {label: index for index, label in enumerate(labels)}
    targets = [OUTSIDE if row.node is None else place[row.node] for row in rows]
    classes = [OUTSIDE if row.node is None else finer[row.node, row.finer] for row in rows]
    return Rows(tuple(row.text for row in rows), np.array(targets, dtype=np.int64), np.array(classes, dtype=np.int64))


def _digest(nodes: Sequence[LabelledNode], train: Sequence[LabelledRow], val: Sequence[LabelledRow]) -> str:
    hashed = hashlib.sha256()
    for node in nodes:
        hashed.update(repr((node.name, node.description)).encode())
    for row in (*train, *val):
        hashed.update(repr((row.text, row.node, row.finer)).encode())
    return hashed.hexdigest()


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `file:line` and the object of each line."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", param="path") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"{where} is no JSON: {error}", param="path") from None
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object; got {type(item).__name__}", param="path")
        yield where, item


def _row(item: Mapping[str, Any], where: str) -> LabelledRow:
    text, node, finer = item.get("text"), item.get("node"), item.get(FINER)
    if not isinstance(text, str):
        raise InvalidRequest(f"{where}: text must be a string; got {text!r}", param="text")
    if "node" not in item or not (node is None or (isinstance(node, str) and node)):
        got = repr(node) if "node" in item else "no such key"
        raise InvalidRequest(f"{where}: node must be a node's name, or null for out of scope; got {got}", param="node")
    rewrite = item.get("rewrite")
    if not (rewrite is None or isinstance(rewrite, str)):
        raise InvalidRequest(f"{where}: rewrite must be a string; got {rewrite!r}", param="rewrite")
    return LabelledRow(text, node, finer if isinstance(finer, str) else None, rewrite)


def _node(item: Mapping[str, Any], where: str) -> LabelledNode:
    name, description, examples = item.get("name"), item.get("description", ""), item.get("examples") or ()
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}: name must be a string; got {name!r}", param="name")
    if not isinstance(description, str):
        raise InvalidRequest(f"{where}: description must be a string; got {description!r}", param="description")
    if isinstance(examples, str) or not all(isinstance(text, str) for text in examples):
        raise InvalidRequest(f"{where}: examples must be a list of strings; got {examples!r}", param="examples")
    return LabelledNode(name, description, tuple(examples))


def _yaml_nodes(path: Path) -> Iterator[LabelledNode]:
    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    for file in files:
        try:
            documents, problems = parse_documents(file.read_bytes(), str(file))
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {error}", param="nodes") from error
        if problems:
            raise InvalidRequest(f"{problems[0].where}: {problems[0].key}: {problems[0].message}", param="nodes")
        for where, document in documents:
            if not isinstance(document, dict):
                raise InvalidRequest(f"{where} declares no node", param="nodes")
            yield _node(document, where)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
