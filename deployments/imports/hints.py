"""Composition hints: whose output has what another one needs, found by the names of shared fields."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.imports.names import singular, words_of
from deployments.imports.schemas import Schemas, Unresolvable
from graph.types import NodeName

MAX_FEEDS: Final = 16
"""Hints of one node; of more, those to the resources nearest to its own are kept."""
MAX_TAKERS: Final = 8
"""A field that more operations need than this says nothing, unless it is an identifier."""
_IDENTIFIERS: Final = frozenset(
    {"id", "uuid", "guid", "key", "slug", "code", "number", "token", "ref", "reference", "sku", "handle"}
)
_COMMON: Final = frozenset(
    "name title description status type state kind value values message limit offset page cursor query q filter sort "
    "order date time url body data items results count total created updated version note tags text content".split()
)
_VERSION: Final = re.compile(r"v\d+")


@dataclass(frozen=True, slots=True)
class Interface:
    """What an operation needs and gives, as names that can be compared."""

    node: NodeName
    resource: str
    needs: frozenset[str]
    gives: frozenset[str]


def interface(node: NodeName, path: str, needed: Mapping[str, str], outputs: Iterable[tuple[str, str]]) -> Interface:
    """Describe an operation.

    `needed` maps the names of required inputs to where they are; `outputs` are pairs of a field and of the schema that
    it belongs to (nothing if it has no name).
    """
    resource = resource_of(path)
    needs = {_canonical(name, _owner(path, name) if where == "path" else resource) for name, where in needed.items()}
    gives = {_canonical(name, owner) for name, schema in outputs for owner in {"_".join(words_of(schema)), resource}}
    return Interface(node, resource, frozenset(needs), frozenset(gives))


def feeds(interfaces: Sequence[Interface]) -> dict[NodeName, tuple[NodeName, ...]]:
    """Return for each node those that need what only it can tell them: fields that it gives and does not need."""
    takers: dict[str, list[Interface]] = defaultdict(list)
    for item in interfaces:
        for name in item.needs:
            takers[name].append(item)
    found = {}
    for giver in interfaces:
        shared = [name for name in sorted(giver.gives - giver.needs) if name in takers and _telling(name, takers[name])]
        ranked = {t.node: t.resource != giver.resource for name in shared for t in takers[name] if t is not giver}
        nodes = sorted(ranked, key=lambda node: ranked[node])[:MAX_FEEDS]
        if nodes:
            found[giver.node] = tuple(nodes)
    return found


def output_fields(schemas: Schemas, schema: Any) -> list[tuple[str, str]]:
    """Return the fields of an answer: of the object itself, of a list's items, and of what one wrapper holds."""
    found: list[tuple[str, str]] = []
    open_: list[tuple[Any, int]] = [(schema, 0)]
    while open_ and len(found) < 500:
        value, depth = open_.pop(0)
        name = str(value.get("$ref", "")).rpartition("/")[2] if isinstance(value, Mapping) else ""
        try:
            merged = schemas.merged(value)
            fields = schemas.fields(merged)
        except Unresolvable:
            continue
        if "items" in merged:
            open_.append((merged["items"], depth))
        for key, inner in fields.items():
            if not (isinstance(inner, Mapping) and inner.get("writeOnly")):
                found.append((key, name))
                if depth < 1 and isinstance(inner, Mapping) and inner.keys() & {"$ref", "items", "properties"}:
                    open_.append((inner, depth + 1))
    return found


def resource_of(path: str) -> str:
    """Return what a path is about: its last step that is no parameter, in the singular."""
    steps = [step for step in path.split("/") if step and "{" not in step and not _VERSION.fullmatch(step)]
    return (
        "_".join([*words_of(steps[-1])[:-1], singular(words_of(steps[-1])[-1])])
        if steps and words_of(steps[-1])
        else ""
    )


def _owner(path: str, name: str) -> str:
    """Return what a parameter of a path belongs to: the step before it."""
    return resource_of(path.partition(f"{{{name}}}")[0])


def _canonical(name: str, owner: str) -> str:
    """Return a name that is the same wherever the field appears: `id` of an order, `orderId`, `order_ids`."""
    words = words_of(name)
    if not words:
        return name
    words[-1] = singular(words[-1])
    if len(words) == 1 and words[0] in _IDENTIFIERS and owner:
        return f"{owner}_{words[0]}"
    return "_".join(words)


def _telling(name: str, takers: Sequence[Interface]) -> bool:
    if name.rpartition("_")[2] in _IDENTIFIERS and "_" in name:
        return True
    return name not in _COMMON | _IDENTIFIERS and len(takers) <= MAX_TAKERS
