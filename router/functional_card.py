"""A functional-token artefact on disk: a causal model's folder with `card.json` and `head.safetensors` beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph.types import NodeName
from router.calibration import Scope
from router.scorers.functional_head import FunctionalHead

KIND = "functional_tokens"
FORMAT = 1
CARD, HEAD = "card.json", "head.safetensors"


@dataclass(frozen=True, slots=True)
class FunctionalCard:
    """What an artefact is and how it came to be."""

    labels: tuple[NodeName, ...]
    tokens: Mapping[NodeName, int]
    """Each node's functional token, `<node:NAME>`, in the model's vocabulary."""
    sharpness: float
    scope_bias: float
    base: str
    """The model that it was trained from."""
    data_hash: str
    """SHA-256 of nodes and rows."""
    training: Mapping[str, Any]
    """Options, seed, epochs and counts of rows."""
    metrics: Mapping[str, Any]
    """Measured on held-out rows."""
    free_rewrites: bool
    """Whether rewrites were taught by data; if not, rules taught to leave out courtesies and nothing else."""
    kind: str = KIND
    format: int = FORMAT


def write_artifact_head(folder: Path, card: FunctionalCard, head: FunctionalHead) -> None:
    """Write the card and the head's arrays."""
    from safetensors.numpy import save_file

    arrays = {
        "rows": head.rows,
        "anchors": head.anchors,
        "owners": head.owners,
        "scope_centre": head.scope.centre,
        "scope_scale": head.scope.scale,
        "scope_weights": head.scope.weights,
    }
    if head.nothing is not None:
        arrays["nothing"] = head.nothing
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / HEAD)
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def is_functional(folder: Path) -> bool:
    """Say whether a folder's card is one of functional tokens; false where there is none that can be read."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("kind") == KIND


def read_card(folder: Path) -> FunctionalCard:
    """Read the card. Raises `ValueError` that names the file and what is wrong with it."""
    file = folder / CARD
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.get("kind") != KIND or data.get("format") != FORMAT:
            raise ValueError(
                f"kind {data.get('kind')!r}, format {data.get('format')!r}; expected {KIND!r}, format {FORMAT}"
            )
        return FunctionalCard(**data | {"labels": tuple(data["labels"])})
    except FileNotFoundError:
        raise ValueError(f"{file} does not exist; `modelyard train functional-tokens` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no card of functional tokens: {error}") from error


def read_head(folder: Path, card: FunctionalCard) -> FunctionalHead:
    """Read the head's arrays. Raises `ValueError` that names the file if they do not fit the card."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / HEAD)
        scope = Scope(arrays["scope_centre"], arrays["scope_scale"], arrays["scope_weights"], card.scope_bias)
        rows, anchors, owners = arrays["rows"], arrays["anchors"], arrays["owners"]
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{folder / HEAD} cannot be read: {type(error).__name__}: {error}") from error
    if len(rows) != len(card.labels):
        raise ValueError(f"{folder / HEAD} has {len(rows)} rows for {len(card.labels)} labels")
    gone = (False,) * len(card.labels)
    return FunctionalHead(card.labels, rows, arrays.get("nothing"), card.sharpness, scope, anchors, owners, gone)
