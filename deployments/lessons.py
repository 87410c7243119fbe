"""What the router learns of nodes, and a hash by which two fits are known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeAlias

import orjson

from graph.spec import NodeSpec

Lesson: TypeAlias = tuple[str, str, tuple[str, ...], bool]


def lesson(spec: NodeSpec) -> Lesson:
    """Return what the router learns of a node; a change elsewhere in its spec needs no new fit."""
    return spec.name, spec.description, spec.examples, spec.default


def lessons_hash(specs: Iterable[NodeSpec], *more: str) -> str:
    """Return the SHA-256 of the nodes' lessons, in whatever order they come, and of further words."""
    parts = [sorted(map(lesson, specs)), more]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()
