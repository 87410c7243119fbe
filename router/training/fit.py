"""`train_router`: from labelled rows to an artefact folder."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from router.artifact import ENCODER, TOKENIZER, RouterArtifact, load_artifact, save_artifact
from router.encoders import OnnxEncoder
from router.scorers.trained import TrainedScorer
from router.scorers.two_stage import Stage, TwoStage
from router.training.calibrate import (
    FIRST_PRIOR,
    IN_SCOPE,
    OUTSIDE_MIN,
    SECOND_PRIOR,
    TOLERANCE,
    TOLERANCE_FEW,
    Held,
    Wanted,
    choose_escalation,
    fit_stage,
    join,
    kin,
    probabilities,
)
from router.training.data import OUTSIDE, RouterData, Rows
from router.training.export import export_int8
from router.training.finetune import FineTuning, Report, finetune
from router.training.newcomers import Play, fit_lift, play, show
from router.training.parts import Parts, fit_parts
from router.training.splits import FOLDS, deal_out, hold_out
from router.training.static import StaticTraining, distil
from router.training.torch_encoder import TorchEncoder
from router.types import Encoder
from router.vectors import AnyArray

ENOUGH_ROWS = 2500
ENOUGH_EACH = 25
"""Rows, and rows a label in the median, from which the encoder is fine-tuned; with fewer it stays as it is."""
TRAINED_LAYERS = 2
KIN = 0.1
"""Share of the labels that is hidden together with a row's own, to make a stranger of it."""
Looks: TypeAlias = tuple[Held, Held]
"""What stage one and stage two see of the same rows."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a router is trained."""

    seed: int = 0
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Parts fitted to all training rows, and what parts that did not see them say of the held rows."""

    parts: Parts
    seen: Looks
    targets: AnyArray
    made: Looks
    """In-scope rows as they would look if their node, and its nearest kin, did not exist; of stages one and two."""
    plays: Sequence[tuple[Play, Play]]
    """What is seen of held rows while labels play newcomers."""
    details: dict[str, Any]


def train_router(data: RouterData, encoder: Path, folder: Path, how: Training, report: Report) -> RouterArtifact:
    """Train on data and write the artefact to `folder`, whose old artefact stays until the new one is whole."""
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".training-") as work:
        fitted, served = _fit(data, encoder, Path(work), how, report)
        first, second, escalate_below = _calibrate(fitted, how, report)
        parts = fitted.parts
        model = TwoStage(
            parts.static,
            parts.head,
            parts.outside,
            parts.words,
            served,
            parts.space,
            first,
            second,
            escalate_below,
            np.zeros(len(data.labels), dtype=np.int64),
        ).extend([[node.text] for node in data.bare])
        labels = (*data.labels, *(node.name for node in data.bare))
        card = _card(data, encoder, how, fitted, model, served, time.perf_counter() - began)
        for name in (ENCODER, TOKENIZER):
            shutil.move(Path(work) / name, folder / name)
        save_artifact(TrainedScorer(labels, model), card, folder)
    return load_artifact(folder)


def enough(data: RouterData) -> bool:
    """Say whether there are rows enough to fine-tune the encoder."""
    counts = np.bincount(data.train.targets[data.train.inside])
    return len(data.train) >= ENOUGH_ROWS and float(np.median(counts)) >= ENOUGH_EACH


def _fit(data: RouterData, path: Path, work: Path, how: Training, report: Report) -> tuple[_Fitted, OnnxEncoder]:
    large = enough(data)
    encoder = TorchEncoder(path, trained=TRAINED_LAYERS)
    report(
        f"{len(data.train)} training rows (the nodes' examples with them, none twice), {len(data.val)} validation rows"
    )
    report("fine-tuning the encoder" if large else "too few rows to fine-tune the encoder: it stays as it is")
    start = distil(encoder, data.train.texts, pairs_min=2 if large else 1)
    (work / TOKENIZER).write_text(encoder.tokenizer_json, encoding="utf-8")
    if large:
        return _fit_large(data, encoder, start, work, how, report)
    export_int8(encoder, work / ENCODER)
    served = OnnxEncoder(work / ENCODER, max_tokens=encoder.max_tokens)
    return _fit_small(data, start, served, how, report), served


def _fit_large(
    data: RouterData, encoder: TorchEncoder, start: Any, work: Path, how: Training, report: Report
) -> tuple[_Fitted, OnnxEncoder]:
    """Fine-tune on the training rows; the validation rows, or a slice of the training rows, are held out."""
    train, held = hold_out(data, how.seed)
    report(f"running the frozen layers over {len(train) + len(held)} texts")
    inside = held.take(held.inside)
    tokens, held_tokens = encoder.prepare(train.texts), encoder.prepare(inside.texts)
    tuned = finetune(encoder, (tokens, train.targets), (held_tokens, inside.targets), FineTuning(seed=how.seed), report)
    vectors = encoder.encode_tokens(tokens)
    export_int8(encoder, work / ENCODER)
    served = OnnxEncoder(work / ENCODER, max_tokens=encoder.max_tokens)
    parts = fit_parts(train, data.finer_owners, vectors, start, _static(how), tuned.weights, inside, report)
    report(f"calibrating on {len(held)} rows")
    shown = show(data.described, served.encode(data.described), train, vectors)
    vectors = served.encode(held.texts)
    plays = [play(parts, shown, held, vectors, how.seed)]
    details = {"epochs": tuned.epochs, "fine_tuned": True}
    seen, whole = _look_apart(parts, held, vectors)
    return _Fitted(whole, seen, held.targets, _made_strangers(parts, held, vectors), plays, details), served


def _look_apart(parts: Parts, held: Rows, vectors: AnyArray) -> tuple[Looks, Parts]:
    """Return what is seen of held rows, none of them being known to fit no label while it is looked at.

    Beside it the parts that know all those that do not.
    """
    outside = np.flatnonzero(~held.inside)
    if len(outside) < OUTSIDE_MIN:
        return parts.look(held.texts, vectors), parts
    fold = np.full(len(held), -1)
    fold[outside] = np.arange(len(outside)) % FOLDS
    order, seen = [], []
    for number in range(-1, FOLDS):
        own, known = np.flatnonzero(fold == number), outside[fold[outside] != number]
        order.append(own)
        seen.append(parts.know(held, vectors, known).look(held.take(own).texts, vectors[own]))
    back = np.argsort(np.concatenate(order))
    first, second = _joined(seen)
    return (first.take(back), second.take(back)), parts.know(held, vectors, outside)


def _fit_small(data: RouterData, start: Any, served: Encoder, how: Training, report: Report) -> _Fitted:
    """Fit the heads to all rows; what is said of a row for calibration comes from a fit without it."""
    rows = data.train.join(data.val)
    fold = np.concatenate([deal_out(rows, how.seed), np.full(len(data.anchors), -1)])
    rows = rows.join(data.anchors)
    report(f"encoding {len(rows)} texts: rows and descriptions of nodes")
    vectors = served.encode(rows.texts)
    described = served.encode(data.described)
    outside = np.flatnonzero(~rows.inside)
    order, seen, made, plays = [], [], [], []
    for number in range(FOLDS):
        kept, own = (fold != number) & rows.inside, np.flatnonzero(fold == number)
        if not len(own):
            continue
        report(f"cross-validation {number + 1}/{FOLDS}")
        parts = fit_parts(rows.take(kept), data.finer_owners, vectors[kept], start, _static(how), None, None, _silent)
        parts = parts.know(rows, vectors, outside[fold[outside] != number])
        order.append(own)
        seen.append(parts.look(rows.take(own).texts, vectors[own]))
        made.append(_made_strangers(parts, rows.take(own), vectors[own]))
        shown = show(data.described, described, rows.take(kept), vectors[kept])
        plays.append(play(parts, shown, rows.take(own), vectors[own], how.seed))
    report("fitting to all rows")
    inside = rows.inside
    parts = fit_parts(rows.take(inside), data.finer_owners, vectors[inside], start, _static(how), None, None, _silent)
    targets = rows.targets[np.concatenate(order)]
    parts = parts.know(rows, vectors, outside)
    return _Fitted(parts, _joined(seen), targets, _joined(made), plays, {"epochs": 0, "fine_tuned": False})


def _joined(looks: Sequence[Looks]) -> Looks:
    first, second = (join([look[stage] for look in looks]) for stage in (0, 1))
    return first, second


def _calibrate(fitted: _Fitted, how: Training, report: Report) -> tuple[Stage, Stage, float]:
    outside = fitted.targets == OUTSIDE
    strangers = [held.take(outside) for held in fitted.seen]
    if outside.sum() < OUTSIDE_MIN:
        report("no out-of-scope rows: strangers are made by hiding nodes from their own rows")
        strangers = list(fitted.made)
    stages = [
        fit_stage(held, fitted.targets, far, prior, how.wanted)
        for held, far, prior in zip(fitted.seen, strangers, (FIRST_PRIOR, SECOND_PRIOR), strict=True)
    ]
    scored = [probabilities(stage, held) for stage, held in zip(stages, fitted.seen, strict=True)]
    tolerance = TOLERANCE if fitted.details["fine_tuned"] else TOLERANCE_FEW
    asked = choose_escalation(scored[0], scored[1], fitted.targets, how.wanted.escalated, tolerance)
    first, second = (replace(s, lift=fit_lift(fitted.plays, s.weights, i)) for i, s in enumerate(stages))
    return first, second, asked


def _made_strangers(parts: Parts, held: Rows, vectors: AnyArray) -> Looks:
    """Return what is seen of in-scope rows as if their node, and its nearest kin, did not exist."""
    inside = np.flatnonzero(held.inside)
    rows = held.take(inside)
    return parts.look(rows.texts, vectors[inside], kin(parts.space.weights, rows.targets, KIN))


def _static(how: Training) -> StaticTraining:
    return StaticTraining(seed=how.seed)


def _silent(message: str) -> None:
    """Report nothing."""


def _card(
    data: RouterData,
    encoder: Path,
    how: Training,
    fitted: _Fitted,
    model: TwoStage,
    served: OnnxEncoder,
    seconds: float,
) -> dict[str, Any]:
    return {
        "escalate_below": model.escalate_below,
        "encoder": str(encoder),
        "max_tokens": served.max_tokens,
        "seed": how.seed,
        "data": {
            "sha256": data.digest,
            "train_rows": len(data.train),
            "val_rows": len(data.val),
            "untrained_labels": [node.name for node in data.bare],
        },
        "training": fitted.details,
        "metrics": _metrics(fitted, model),
        "evidence": {"first": model.first.weights.round(4).tolist(), "second": model.second.weights.round(4).tolist()},
        "lift": {"first": model.first.lift.round(3).tolist(), "second": model.second.lift.round(3).tolist()},
        "versions": {name: version(name) for name in ("numpy", "torch", "sentence-transformers", "onnxruntime")}
        | {"python": platform.python_version()},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def _metrics(fitted: _Fitted, model: TwoStage) -> dict[str, float]:
    """Return figures on the rows that calibration looked at: optimistic by its few numbers only."""
    first = probabilities(model.first, fitted.seen[0])
    second = probabilities(model.second, fitted.seen[1])
    sure = first[0].max(axis=1) * first[1] >= model.escalate_below
    inside = fitted.targets != OUTSIDE
    right = [(scored[0].argmax(axis=1) == fitted.targets)[inside] for scored in (first, second)]
    found = {
        "rows": float(len(inside)),
        "accuracy_stage_one": float(right[0].mean()),
        "accuracy_stage_two": float(right[1].mean()),
        "accuracy": float(np.where(sure[inside], right[0], right[1]).mean()),
        "share_escalated": float(1 - sure.mean()),
    }
    if (~inside).any():
        found["oos_recall"] = float((np.where(sure, first[1], second[1])[~inside] < IN_SCOPE).mean())
    return {name: round(value, 4) for name, value in found.items()}
