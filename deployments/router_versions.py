"""Every fit of the router that went live, with a card: what it learned, why it changed, what the gate said.

Gateways fit on their own; the first that has fitted something new gives it the next number by one atomic swap of the
head, and the others find their own fit already numbered there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from deployments.lessons import lessons_hash
from deployments.registration import Skipped
from graph.spec import NodeSpec
from graph.stores.base import StateStore
from graph.types import NodeName
from router.gate import GateReport

LOG = "router-versions"
KEPT = 500
"""Cards that are kept; a card names every node, so they are not kept for ever."""
REPORT_TTL_S = 30 * 86400.0
_TABLE, _HEAD = "router", "head"
_REPORTS = "router-gate"


@dataclass(frozen=True, slots=True)
class RouterCard:
    """One version of the router."""

    version: int
    """Rises by 1 with every fit that differs, from 1."""
    created_at: float
    """Seconds since the epoch."""
    strategy: str
    encoder: str
    labels: tuple[NodeName, ...]
    """Nodes that it knows."""
    examples: int
    """Examples that it learned from, of all nodes."""
    data_sha256: str
    """Of what it learned: names, descriptions and examples, the strategy and the encoder."""
    nodes: Mapping[NodeName, int]
    """Version of each node's declaration."""
    change: tuple[Mapping[str, Any], ...]
    """Which nodes differ from the version before: `node`, `from` and `to`, versions; null where there was none."""
    gate: Mapping[NodeName, Mapping[str, Any]]
    """What the gate said of the changed nodes, where it was asked."""

    def to_json(self) -> dict[str, Any]:
        """Return the native surface's form."""
        return asdict(self)


class RouterVersions:
    """Numbers fits in a store."""

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def keep_report(self, spec: NodeSpec, report: GateReport | Skipped) -> None:
        """Keep what the gate said of a node until the fit that knows the node is numbered."""
        if isinstance(report, GateReport):
            body = orjson.dumps(report.to_json())
            await self._store.put(_REPORTS, lessons_hash([spec]), body, ttl_s=REPORT_TTL_S)

    async def record(
        self, specs: Sequence[NodeSpec], versions: Mapping[NodeName, int], *, strategy: str, encoder: str
    ) -> RouterCard:
        """Return the card of a fit that has gone live; a new one only if nobody has recorded the same before."""
        wanted = lessons_hash(specs, strategy, encoder)
        while True:
            raw = await self._store.get(_TABLE, _HEAD)
            head = _parse(raw) if raw else None
            if head is not None and head.data_sha256 == wanted:
                return head
            change = _change(head.nodes if head else {}, versions)
            card = RouterCard(
                version=head.version + 1 if head else 1,
                created_at=self._clock(),
                strategy=strategy,
                encoder=encoder,
                labels=tuple(sorted(spec.name for spec in specs)),
                examples=sum(len(set(spec.examples)) for spec in specs),
                data_sha256=wanted,
                nodes=dict(versions),
                change=change,
                gate=await self._reports(specs, {str(item["node"]) for item in change}),
            )
            body = orjson.dumps(card.to_json())
            if await self._store.swap(_TABLE, _HEAD, raw, body):
                await self._store.append(LOG, [body], keep=KEPT)
                return card

    async def current(self) -> RouterCard | None:
        """Return the newest version's card; None before the first fit."""
        raw = await self._store.get(_TABLE, _HEAD)
        return _parse(raw) if raw else None

    async def history(self) -> list[RouterCard]:
        """Return the cards that are kept, newest first."""
        cards = {
            card.version: card for card in map(_parse, (raw for _, raw in await self._store.latest(LOG, limit=KEPT)))
        }
        if (head := await self.current()) is not None:
            cards[head.version] = head  # its writer may have died before it added the log's entry
        return [cards[version] for version in sorted(cards, reverse=True)]

    async def _reports(self, specs: Sequence[NodeSpec], changed: set[str]) -> dict[NodeName, Mapping[str, Any]]:
        found = {}
        for spec in specs:
            if spec.name in changed and (raw := await self._store.get(_REPORTS, lessons_hash([spec]))):
                found[spec.name] = orjson.loads(raw)
        return found


def _change(old: Mapping[NodeName, int], new: Mapping[NodeName, int]) -> tuple[dict[str, Any], ...]:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return tuple({"node": name, "from": old.get(name), "to": new.get(name)} for name in names)


def _parse(raw: bytes) -> RouterCard:
    data = orjson.loads(raw)
    return RouterCard(**data | {"labels": tuple(data["labels"]), "change": tuple(data["change"])})
