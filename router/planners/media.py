"""Attachments in a plan: what is attached, who can take it, and the tasks that turn it into what an expert reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graph.model_graph import ModelGraph
from graph.plan import REQUEST, Plan, Ref, references
from graph.spec import NodeSpec
from graph.types import Call, Modality, NodeName
from router.planners.lexicon import AUDIO, FILLER, IMAGE, TRANSCRIBE

MEDIA = (Modality.AUDIO, Modality.IMAGE)
_MENTIONS: Mapping[Modality, re.Pattern[str]] = {Modality.AUDIO: AUDIO, Modality.IMAGE: IMAGE}


def attached(call: Call) -> dict[Modality, tuple[Ref, ...]]:
    """Return a reference to each attachment, by modality: `request.audio.0`, …"""
    found: dict[Modality, tuple[Ref, ...]] = {}
    for modality in MEDIA:
        count = sum(part.modality is modality for part in call.attachments)
        if count:
            found[modality] = tuple(Ref(REQUEST, (modality.value, str(index))) for index in range(count))
    return found


def mentioned(text: str, modality: Modality) -> bool:
    """Whether a clause speaks of an attachment of this modality."""
    return _MENTIONS[modality].search(text) is not None or (modality is Modality.AUDIO and transcribes(text))


def transcribes(text: str) -> bool:
    """Whether a clause only wants what is said written down."""
    filler = FILLER.match(text)
    starts = {0, filler.end() if filler else 0}
    return any(TRANSCRIBE.match(text, start) for start in starts) and not re.search(
        r"(?i)\b(?:script|function|program|code|app|tool) (?:that|to|which|for)\b", text
    )


def takes(spec: NodeSpec, modality: Modality) -> bool:
    """Whether a task of this node may carry an attachment of this modality."""
    return modality.value in spec.signature()


def converts(spec: NodeSpec, modality: Modality) -> bool:
    """Whether an attachment of this modality, and perhaps a prompt, is all that a task of this model needs."""
    needed = {name for name, argument in spec.signature().items() if argument.required}
    return not spec.is_tool and takes(spec, modality) and needed <= {modality.value, "prompt"}


@dataclass(frozen=True, slots=True)
class Chain:
    """A way for an attachment to reach a node: the nodes it passes first; none if the node takes it itself."""

    nodes: tuple[NodeName, ...] = ()


def chain_to(
    graph: ModelGraph, modality: Modality, target: NodeName, preferred: Iterable[NodeName] = ()
) -> Chain | None:
    """Find the shortest chain along `feeds` edges on which the attachment becomes something the target takes.

    Only models stand in a chain: what a tool wants besides the attachment cannot be known. `preferred` nodes, best
    first, win among chains of one length. None if there is no way.
    """
    if takes(graph[target], modality):
        return Chain()
    order = {name: rank for rank, name in enumerate(preferred)}
    found: list[tuple[int, bool, int, str, tuple[NodeName, ...]]] = []
    for spec in graph:
        if not converts(spec, modality) or spec.name == target:
            continue
        path = graph.path(spec.name, target)
        if path and not any(graph[name].is_tool or not _passable(graph[name]) for name in path[1:-1]):
            text_too = Modality.TEXT in spec.accepts  # a node for nothing but this modality is its converter
            found.append((len(path), text_too, order.get(spec.name, len(order)), spec.name, path[:-1]))
    return Chain(min(found)[-1]) if found else None


def _passable(spec: NodeSpec) -> bool:
    """Whether a text alone makes a task of this node."""
    return set(spec.signature()) >= {"prompt", "context"}


def absent_attachments(plan: Plan, call: Call) -> tuple[Ref, ...]:
    """Return references of a plan to parts of the request that it does not have."""
    known = {ref for refs in attached(call).values() for ref in refs}
    known |= {
        Ref(REQUEST, (name,))
        for name in ("text", "audio", "image")
        if name == "text" or Modality(name) in attached(call)
    }
    known |= {Ref(REQUEST), *(Ref(REQUEST, ("inputs", name)) for name in call.inputs)}
    used = (ref for task in plan.tasks for ref in references(task.arguments) if ref.task == REQUEST)
    return tuple(ref for ref in used if ref not in known)
