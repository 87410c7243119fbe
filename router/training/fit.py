"""`train_router`: from labelled rows to an artefact folder."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from router.artifact import ENCODER, TOKENIZER, RouterArtifact, load_artifact, save_artifact
from router.encoders import OnnxEncoder
from router.scorers.label_space import FAR
from router.scorers.trained import TrainedScorer
from router.scorers.two_stage import Evidence, Stage, TwoStage
from router.training.calibrate import (
    FIRST_PRIOR,
    IN_SCOPE,
    OUTSIDE_MIN,
    SECOND_PRIOR,
    Held,
    Wanted,
    choose_escalation,
    fit_stage,
    hide,
    kin,
    probabilities,
)
from router.training.data import OUTSIDE, RouterData, Rows
from router.training.export import export_int8
from router.training.finetune import FineTuning, Report, finetune
from router.training.parts import Parts, fit_parts
from router.training.static import StaticTraining, distil
from router.training.torch_encoder import TorchEncoder
from router.types import Encoder
from router.vectors import AnyArray

ENOUGH_ROWS = 2500
ENOUGH_EACH = 25
"""Rows, and rows a label in the median, from which the encoder is fine-tuned; with fewer it stays as it is."""
TRAINED_LAYERS = 2
FOLDS = 5
HELD_SHARE = 0.1
HELD_MAX = 3000
KIN = 0.05
"""Share of the labels that is hidden together with a row's own, to make a stranger of it."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a router is trained."""

    seed: int = 0
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Parts fitted to all training rows, and what parts that did not see them say of the held rows."""

    parts: Parts
    first: Evidence
    second: Held
    targets: AnyArray
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
            parts.static, parts.head, parts.words, served, parts.space, first, second, escalate_below
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
    report(f"{len(data.train)} training rows, {len(data.val)} validation rows, {len(data.labels)} nodes")
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
    train, held = _split(data, how.seed)
    report(f"running the frozen layers over {len(train) + len(held)} texts")
    inside = held.take(held.inside)
    tokens, held_tokens = encoder.prepare(train.texts), encoder.prepare(inside.texts)
    tuned = finetune(encoder, (tokens, train.targets), (held_tokens, inside.targets), FineTuning(seed=how.seed), report)
    vectors = encoder.encode_tokens(tokens)
    export_int8(encoder, work / ENCODER)
    served = OnnxEncoder(work / ENCODER, max_tokens=encoder.max_tokens)
    parts = fit_parts(train, data.finer_owners, vectors, start, _static(how), tuned.weights, inside, report)
    report(f"calibrating on {len(held)} rows")
    first, second = parts.look(held.texts, served.encode(held.texts))
    return _Fitted(parts, first, second, held.targets, {"epochs": tuned.epochs, "fine_tuned": True}), served


def _split(data: RouterData, seed: int) -> tuple[Rows, Rows]:
    """Return in-scope rows to train on, and rows held out; every out-of-scope row is held out."""
    strangers = data.train.take(~data.train.inside)
    train = data.train.take(data.train.inside)
    if len(data.val):
        return train, data.val.join(strangers)
    order = np.random.default_rng(seed).permutation(len(train))
    share = min(HELD_MAX, int(HELD_SHARE * len(train)))
    counts = np.bincount(train.targets)
    chosen = np.zeros(len(train), dtype=bool)
    for row in order:
        if chosen.sum() >= share:
            break
        if counts[train.targets[row]] > 2:
            chosen[row] = True
            counts[train.targets[row]] -= 1
    return train.take(~chosen), train.take(chosen).join(strangers)


def _fit_small(data: RouterData, start: Any, served: Encoder, how: Training, report: Report) -> _Fitted:
    """Fit the heads to all rows; what is said of a row for calibration comes from a fit without it."""
    rows = data.train.join(data.val)
    fold = np.concatenate([_folds(rows, how.seed), np.full(len(data.anchors), -1)])
    rows = rows.join(data.anchors)
    report(f"encoding {len(rows)} texts")
    vectors = served.encode(rows.texts)
    seen: list[tuple[AnyArray, Evidence, Held]] = []
    for number in range(FOLDS):
        kept, out = (fold != number) & rows.inside, fold == number
        if not out.any():
            continue
        report(f"cross-validation {number + 1}/{FOLDS}")
        parts = fit_parts(rows.take(kept), data.finer_owners, vectors[kept], start, _static(how), None, None, _silent)
        own = np.flatnonzero(out)
        seen.append((own, *parts.look([rows.texts[row] for row in own], vectors[own])))
    report("fitting to all rows")
    inside = rows.inside
    parts = fit_parts(rows.take(inside), data.finer_owners, vectors[inside], start, _static(how), None, None, _silent)
    order = np.concatenate([own for own, _, _ in seen])
    first = Evidence(np.concatenate([f.kinds for _, f, _ in seen]), np.concatenate([f.scope for _, f, _ in seen]))
    second = Held(np.concatenate([s.evidence for _, _, s in seen]), np.concatenate([s.features for _, _, s in seen]))
    return _Fitted(parts, first, second, rows.targets[order], {"epochs": 0, "fine_tuned": False})


def _folds(rows: Rows, seed: int) -> AnyArray:
    """Return each row's fold, so that every class is spread evenly; the first of a class is never held out."""
    fold = np.full(len(rows), -1)
    order = np.random.default_rng(seed).permutation(len(rows))
    for target in np.unique(rows.targets):
        own = order[rows.targets[order] == target]
        own = own if target == OUTSIDE else own[np.argsort(rows.finer[own], kind="stable")]
        places = (np.arange(len(own)) + target) % FOLDS
        if target != OUTSIDE:
            places[0] = -1
        fold[own] = places
    return fold


def _calibrate(fitted: _Fitted, how: Training, report: Report) -> tuple[Stage, Stage, float]:
    first, second = Held(fitted.first.kinds, fitted.first.scope), fitted.second
    outside = fitted.targets == OUTSIDE
    strangers = first.take(outside), second.take(outside)
    if outside.sum() < OUTSIDE_MIN:
        report("no out-of-scope rows: strangers are made by hiding nodes from their own rows")
        strangers = _made_strangers(fitted)
    stages = [
        fit_stage(held, fitted.targets, far, prior, how.wanted)
        for held, far, prior in zip((first, second), strangers, (FIRST_PRIOR, SECOND_PRIOR), strict=True)
    ]
    scored = [probabilities(stage, held) for stage, held in zip(stages, (first, second), strict=True)]
    return stages[0], stages[1], choose_escalation(scored[0], scored[1], fitted.targets, how.wanted.escalated)


def _made_strangers(fitted: _Fitted) -> tuple[Held, Held]:
    """Return in-scope rows as they would look if their node, and its nearest kin, did not exist."""
    rows = fitted.targets != OUTSIDE
    hidden = kin(fitted.parts.space.weights, fitted.targets[rows], KIN)
    first = hide(Held(fitted.first.kinds[rows], fitted.first.scope[rows]), hidden, FAR)
    first.features[:, 0] = first.evidence[:, :, 0].max(axis=1)
    return first, hide(fitted.second.take(rows), hidden, FAR)


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
        "versions": {name: version(name) for name in ("numpy", "torch", "sentence-transformers", "onnxruntime")}
        | {"python": platform.python_version()},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }


def _metrics(fitted: _Fitted, model: TwoStage) -> dict[str, float]:
    """Return figures on the rows that calibration looked at: optimistic by its few numbers only."""
    first = probabilities(model.first, Held(fitted.first.kinds, fitted.first.scope))
    second = probabilities(model.second, fitted.second)
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
