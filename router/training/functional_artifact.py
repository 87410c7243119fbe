"""Artefacts of functional tokens: trained from a base model, or extended by further nodes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from graph.types import NodeName
from router.causal_model import CausalModel, load_causal_model
from router.functional_card import CARD, FunctionalCard, read_card, read_head, write_artifact_head
from router.scorers.functional_head import FunctionalHead
from router.training.functional_data import Lesson, token_of
from router.training.functional_tokens import Progress, TrainingOptions, train_functional_tokens


def train_artifact(
    base: Path,
    out: Path,
    nodes: Mapping[NodeName, str],
    lessons: Sequence[Lesson],
    validation: Sequence[Lesson] = (),
    *,
    options: TrainingOptions,
    device: str = "cpu",
    reference: str = "",
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> FunctionalCard:
    """Train from the causal model at `base` and write an artefact to `out`; return its card.

    `nodes` maps names to descriptions; `reference` is what the card says of where the base comes from.
    """
    model = load_causal_model(base, device=device)
    trained = train_functional_tokens(nodes, lessons, validation, model, options, on_epoch)
    card = _card(
        model,
        trained.head,
        base=reference or base.name,
        data_hash=_data_hash(nodes, [*lessons, *validation]),
        training=asdict(options) | {"rows": dict(trained.counts), "best_epoch": trained.best.epoch, "device": device},
        free_rewrites=any(lesson.rewrite is not None for lesson in lessons),
        metrics={"held_out_loss": trained.best.held_out_loss, "held_out_accuracy": trained.best.held_out_accuracy},
    )
    _write(out, model, trained.head, card)
    return card


def extend_artifact(
    artifact: Path,
    out: Path,
    nodes: Mapping[NodeName, str],
    lessons: Sequence[Lesson],
    *,
    device: str = "cpu",
) -> FunctionalCard:
    """Add the nodes that an artefact does not know, each with a token of its own, and write the result to `out`.

    Only the new tokens' output rows are trained, on the new nodes' descriptions and rows; everything that the model
    was taught before stays, bit by bit. Raises `ValueError` if there is no new node.
    """
    card = read_card(artifact)
    fresh = {name: text for name, text in sorted(nodes.items()) if name not in card.labels}
    if not fresh:
        raise ValueError(f"{artifact} knows every node already: {', '.join(card.labels[:20])}")
    model = load_causal_model(artifact, device=device)
    ids = model.add_tokens({token_of(name): text for name, text in fresh.items()})
    texts = {name: [text, *(row.text for row in lessons if row.node == name)] for name, text in fresh.items()}
    hidden = {name: model.hidden([model.prompt(text) for text in own]) for name, own in texts.items()}
    head = read_head(artifact, card).with_nodes(dict(zip(fresh, model.rows(ids), strict=True)), hidden)
    model.set_rows(ids, head.rows[-len(fresh) :])
    taught = [row for row in lessons if row.node in fresh]
    card = replace(
        card,
        labels=head.labels,
        tokens={**card.tokens, **dict(zip(fresh, ids, strict=True))},
        base=f"{card.base}, extended by {', '.join(fresh)}",
        data_hash=_data_hash(fresh, taught, card.data_hash),
    )
    _write(out, model, head, card)
    return card


def _card(model: CausalModel, head: FunctionalHead, **facts: Any) -> FunctionalCard:
    tokens = {name: int(model.tokenizer.convert_tokens_to_ids(token_of(name))) for name in head.labels}
    finite = {name: value for name, value in facts["metrics"].items() if np.isfinite(value)}
    return FunctionalCard(
        labels=head.labels,
        tokens=tokens,
        sharpness=head.sharpness,
        scope_bias=head.scope.bias,
        **facts | {"metrics": finite},
    )


def _write(out: Path, model: CausalModel, head: FunctionalHead, card: FunctionalCard) -> None:
    """Write beside what may be there, then file by file in its place; the card comes last, so a new one is whole."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as name:
        new = Path(name)
        model.save(new)
        write_artifact_head(new, card, head)
        for file in sorted(new.iterdir(), key=lambda file: file.name == CARD):
            file.replace(out / file.name)


def _data_hash(nodes: Mapping[NodeName, str], lessons: Sequence[Lesson], earlier: str = "") -> str:
    rows = [[lesson.text, lesson.node, lesson.rewrite] for lesson in lessons]
    content = json.dumps([earlier, sorted(nodes.items()), rows], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
