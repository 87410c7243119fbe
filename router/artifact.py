"""The folder of a trained router: `card.json`, `router.safetensors`, `tokenizer.json`, `encoder.onnx`. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph.errors import InvalidRequest
from router import functional_card
from router.calibration import Scope
from router.encoders import OnnxEncoder
from router.scorers.functional_token import FunctionalTokenScorer
from router.scorers.label_space import LabelSpace
from router.scorers.static_stage import NgramEncoder, load_tokenizer
from router.scorers.trained import TrainedScorer
from router.scorers.two_stage import Stage, TwoStage, WordHead
from router.types import TrainedAhead
from router.vectors import AnyArray

FORMAT = 2
READABLE = (1, 2)
"""Format 1 knows no requests that fit no label."""
CARD, ARRAYS, TOKENIZER, ENCODER = "card.json", "router.safetensors", "tokenizer.json", "encoder.onnx"
HALF = ("static.vectors", "words.table", "space.memory")
"""Large arrays, stored with 16 bits a number."""


@dataclass(frozen=True, slots=True, eq=False)
class RouterArtifact:
    """A trained router and its card."""

    scorer: TrainedAhead
    card: Mapping[str, Any]


def save_artifact(scorer: TrainedScorer, card: Mapping[str, Any], folder: Path) -> None:
    """Write the artefact; the encoder and the tokenizer are in the folder already. The card comes last.

    Whoever watches the folder may therefore take a new card for a whole new artefact.
    """
    from safetensors.numpy import save_file

    arrays = {
        name: np.ascontiguousarray(value.astype(np.float16) if name in HALF else value)
        for name, value in _arrays(scorer.model).items()
    }
    _replace(folder / ARRAYS, lambda path: save_file(arrays, path))
    whole = {"format": FORMAT, "labels": list(scorer.labels), **card}
    text = json.dumps(whole, ensure_ascii=False, indent=2) + "\n"
    _replace(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))


def read_card(folder: Path) -> dict[str, Any]:
    """Read and check the card alone. Raises `InvalidRequest` that says what is wrong with the folder."""
    if functional_card.is_functional(folder):
        return _functional_card(folder)
    missing = [name for name in (CARD, ARRAYS, TOKENIZER, ENCODER) if not (folder / name).is_file()]
    if missing:
        raise _broken(
            folder, f"has no {', '.join(missing)}; a trained router is a folder that `modelyard train router` writes"
        )
    try:
        card = json.loads((folder / CARD).read_bytes())
    except ValueError as error:
        raise _broken(folder, f"{CARD} is no JSON: {error}") from None
    if not isinstance(card, dict) or card.get("format") not in READABLE:
        found = card.get("format") if isinstance(card, dict) else None
        raise _broken(folder, f"{CARD} has format {found!r}; this version reads formats {READABLE[0]} to {FORMAT}")
    labels = card.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise _broken(folder, f"{CARD} names no labels")
    for name in ("escalate_below", "max_tokens"):
        if not isinstance(card.get(name), (int, float)):
            raise _broken(folder, f"{CARD} has no {name}")
    return card


def load_artifact(folder: Path, *, threads: int = 1) -> RouterArtifact:
    """Load an artefact; its encoder or language model is loaded too, so that a broken one shows here.

    Raises `InvalidRequest` that says what is missing, unknown or corrupt.
    """
    if functional_card.is_functional(folder):
        return _functional(folder, threads)
    card = read_card(folder)
    arrays = _read_arrays(folder)
    if card["format"] == 1:
        arrays = _upgraded(arrays)
    labels = tuple(card["labels"])
    try:
        tokenizer = load_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"))
        encoder = OnnxEncoder(folder / ENCODER, threads=threads, max_tokens=card["max_tokens"])
        width = encoder.encode(["a"]).shape[1]
    except Exception as error:  # tokenizers and onnxruntime raise classes of their own for a corrupt file
        raise _broken(folder, f"{TOKENIZER} or {ENCODER} cannot be read: {error}") from error
    try:
        model = _model(arrays, tokenizer, encoder, float(card["escalate_below"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(folder, f"{ARRAYS} lacks {error}") from error
    if not len(labels) == len(model.head) == model.space.size or model.space.weights.shape[1] != width:
        raise _broken(folder, f"{CARD}, {ARRAYS} and {ENCODER} do not belong together")
    return RouterArtifact(TrainedScorer(labels, model), card)


def _functional(folder: Path, threads: int) -> RouterArtifact:
    try:
        scorer = FunctionalTokenScorer.load(folder, threads=threads)
        scorer.score(["a"])
    except (ValueError, OSError) as error:
        raise _broken(folder, str(error)) from error
    return RouterArtifact(scorer, read_card(folder))


def _functional_card(folder: Path) -> dict[str, Any]:
    try:
        return asdict(functional_card.read_card(folder))
    except ValueError as error:
        raise _broken(folder, str(error)) from error


def _arrays(model: TwoStage) -> dict[str, AnyArray]:
    found: dict[str, AnyArray] = {
        "static.tokens": model.static.tokens,
        "static.pairs": model.static.pairs,
        "static.vectors": model.static.vectors,
        "static.head": model.head,
        "static.outside": model.outside,
        "words.table": model.words.table,
        "words.squares": model.words.squares,
        "words.bias": model.words.bias,
        "words.owners": model.words.owners,
        "labels.added": model.added,
    }
    found |= {f"space.{name}": value for name, value in model.space.arrays().items()}
    for name, stage in (("first", model.first), ("second", model.second)):
        scope = stage.scope
        found[f"{name}.weights"] = stage.weights
        found[f"{name}.scope"] = np.stack([scope.centre, scope.scale, scope.weights]).astype(np.float32)
        found[f"{name}.bias"] = np.array([scope.bias], dtype=np.float32)
        found[f"{name}.lift"] = stage.lift
    return found


def _model(arrays: Mapping[str, AnyArray], tokenizer: Any, encoder: Any, escalate_below: float) -> TwoStage:
    space = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith("space.")}
    first, second = (
        Stage(
            arrays[f"{name}.weights"],
            Scope(centre=rows[0], scale=rows[1], weights=rows[2], bias=float(arrays[f"{name}.bias"][0])),
            arrays.get(f"{name}.lift", np.zeros(2, np.float32)),  # older artefacts know none
        )
        for name, rows in ((name, arrays[f"{name}.scope"]) for name in ("first", "second"))
    )
    return TwoStage(
        NgramEncoder(tokenizer, arrays["static.tokens"], arrays["static.pairs"], arrays["static.vectors"]),
        arrays["static.head"],
        arrays["static.outside"],
        WordHead(arrays["words.table"], arrays["words.squares"], arrays["words.bias"], arrays["words.owners"]),
        encoder,
        LabelSpace(**space),
        first,
        second,
        escalate_below,
        arrays.get("labels.added", np.zeros(len(arrays["static.head"]), np.int64)),
    )


def _upgraded(arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Return the arrays of format 1 as those of format 2: the last feature of scope has no weight."""
    found = dict(arrays)
    for name in ("first.scope", "second.scope"):
        found[name] = np.concatenate([arrays[name], np.array([[0.0], [1.0], [0.0]], dtype=np.float32)], axis=1)
    for name, like in (("static.outside", "static.head"), ("space.outside", "space.weights")):
        found[name] = arrays[like][:0]
    return found


def _read_arrays(folder: Path) -> dict[str, AnyArray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / ARRAYS)
    except (SafetensorError, ValueError, OSError) as error:
        raise _broken(folder, f"{ARRAYS} cannot be read: {error}") from error
    return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in arrays.items()}


def _replace(path: Path, write: Any) -> None:
    """Write a file beside the old one, then put it in its place: a reader sees the one or the other."""
    new = path.with_name(f".{path.name}.new")
    write(new)
    new.chmod(0o644)  # safetensors lets only its owner read, and a service commonly runs as another user
    new.replace(path)


def _broken(folder: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"{folder} is no trained router: {why}", param="router_artifact")
