"""Modality as a hard filter: whether, and by what way, the content of a call can reach a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from graph.model_graph import ModelGraph
from graph.spec import NodeSpec
from graph.types import Call, Modality, NodeName


@dataclass(frozen=True, slots=True)
class Reach:
    """How a call gets to a node."""

    via: tuple[NodeName, ...] = ()
    """Nodes that the attachments pass first, in order; none where the node takes them itself."""


DIRECT = Reach()


def reach(spec: NodeSpec, call: Call, graph: ModelGraph, barred: Callable[[NodeName], bool]) -> Reach | str:
    """Return the way of a call to a node, or in words why there is none.

    A node that takes the attachments takes the call; if it does not read text, the text only says what is wanted
    ("transcribe this"). A node that reads text also takes attachments that a model of the graph accepts and passes on
    along `feeds` edges; `barred` says of a node that it must not be used on the way.
    """
    wanted = call.modalities
    attached = wanted - {Modality.TEXT}
    if wanted <= spec.accepts or (attached and attached <= spec.accepts):
        return DIRECT
    missing = attached - spec.accepts
    if not missing:
        return f"does not accept text; it accepts {_names(spec.accepts)}"
    if wanted == attached or Modality.TEXT not in spec.accepts:
        return f"does not accept {_names(missing)}; it accepts {_names(spec.accepts)}"
    via: list[NodeName] = []
    for modality in sorted(missing):
        way = graph.feeds.carry(modality, spec.name, barred)
        if way is None:
            return f"does not accept {modality}, and no ready node that does feeds it"
        via += [name for name in way if name not in via]
    return Reach(tuple(via))


def _names(modalities: Iterable[Modality]) -> str:
    return " and ".join(sorted(modalities))
