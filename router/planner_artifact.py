"""The folder of a trained planner: `card.json`, `planner.safetensors`, `tokenizer.json`, `encoder.onnx`. No pickle."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph.errors import InvalidRequest
from router.encoders import shorten
from router.planners.decoder import Decoder
from router.planners.rerank import Memory
from router.planners.toolset import Toolset
from router.planners.trained import Ranker, TrainedPlanner
from router.tool_cards import from_card, to_card
from router.types import Array

FORMAT = 1
CARD, ARRAYS, TOKENIZER, ENCODER = "card.json", "planner.safetensors", "tokenizer.json", "encoder.onnx"


@dataclass(frozen=True, slots=True, eq=False)
class PlannerArtifact:
    """A trained planner and its card."""

    planner: TrainedPlanner
    card: Mapping[str, Any]


class OnnxTokens:
    """Token vectors of an ONNX encoder; thread-safe."""

    def __init__(self, folder: Path, max_tokens: int, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / ENCODER), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._lock = threading.Lock()

    def tokens(self, text: str) -> Array:
        """Return (tokens, width)."""
        ids = np.array([self._tokenizer.encode(shorten(text)).ids], dtype=np.int64)
        with self._lock:
            (found, *_) = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return np.asarray(found[0], dtype=np.float32)


def save_planner(
    decoder: Decoder,
    memory: Memory,
    ranker: tuple[Array, Array, Array],
    tools: Toolset,
    card: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write the artefact; the encoder and the tokenizer are in the folder already. The card comes last."""
    from safetensors.numpy import save_file

    width = max(len(sequence) for sequence in memory.sequences)
    padded = np.full((len(memory.sequences), width), -1, dtype=np.int32)
    for row, sequence in enumerate(memory.sequences):
        padded[row, : len(sequence)] = sequence
    arrays: dict[str, Any] = {f"decoder.{name}": value for name, value in decoder.arrays.items()}
    arrays |= {"memory.vectors": memory.vectors.astype(np.float16), "memory.sequences": padded}
    arrays |= {f"ranker.{name}": value for name, value in zip(("centre", "scale", "weights"), ranker, strict=True)}
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    whole = {"format": FORMAT, "lengths": list(decoder.lengths), **card, "labels": list(tools.names), **to_card(tools)}
    _replace(folder / ARRAYS, lambda path: save_file(arrays, path))
    text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    _replace(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))


def read_card(folder: Path) -> dict[str, Any]:
    """Read and check the card alone. Raises `InvalidRequest` that says what is wrong with the folder."""
    missing = [name for name in (CARD, ARRAYS, TOKENIZER, ENCODER) if not (folder / name).is_file()]
    if missing:
        why = f"has no {', '.join(missing)}; a trained planner is a folder that `modelyard train planner` writes"
        raise _broken(folder, why)
    try:
        card = json.loads((folder / CARD).read_bytes())
    except ValueError as error:
        raise _broken(folder, f"{CARD} is no JSON: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise _broken(folder, f"{CARD} has format {found!r}; this version reads format {FORMAT}")
    for name, kind in (("labels", list), ("tools", list), ("lengths", list), ("max_tokens", int)):
        if not isinstance(card.get(name), kind):
            raise _broken(folder, f"{CARD} has no {name}")
    return card


def load_planner(folder: Path, *, threads: int = 1) -> PlannerArtifact:
    """Load an artefact and plan once with it, so that a broken one shows here. Raises `InvalidRequest`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    card = read_card(folder)
    try:
        arrays = load_file(folder / ARRAYS)
    except (SafetensorError, ValueError, OSError) as error:
        raise _broken(folder, f"{ARRAYS} cannot be read: {error}") from error
    try:
        encoder = OnnxTokens(folder, card["max_tokens"], threads)
    except Exception as error:  # tokenizers and onnxruntime raise classes of their own for a corrupt file
        raise _broken(folder, f"{TOKENIZER} or {ENCODER} cannot be read: {error}") from error
    try:
        planner = _planner(card, arrays, encoder)
        planner.sequence("a")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _broken(folder, f"{CARD}, {ARRAYS} and {ENCODER} do not belong together: {error}") from error
    return PlannerArtifact(planner, card)


def check_tools(trained: Toolset, tools: Toolset, folder: Path) -> None:
    """Raise `InvalidRequest` if a planner knows tools that are not there: its plans would name them."""
    unknown = [name for name in trained.names if name not in tools.tools]
    if unknown:
        some = ", ".join(unknown[:5])
        raise InvalidRequest(f"{folder} plans over {len(unknown)} tools that are not given: {some}", param="artifact")


def _planner(card: Mapping[str, Any], arrays: Mapping[str, Array], encoder: OnnxTokens) -> TrainedPlanner:
    tools = from_card(card)
    decoder = Decoder(
        {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith("decoder.")},
        _allowed(tools),
        (int(card["lengths"][0]), int(card["lengths"][1])),
    )
    if decoder.size != len(tools):
        raise ValueError(f"{decoder.size} node vectors for {len(tools)} tools")
    sequences = [tuple(int(node) for node in row if node >= 0) for row in arrays["memory.sequences"]]
    memory = Memory.of(arrays["memory.vectors"].astype(np.float32), sequences)
    ranker = Ranker(arrays["ranker.centre"], arrays["ranker.scale"], arrays["ranker.weights"])
    return TrainedPlanner(tools, encoder, decoder, memory, ranker)


def _allowed(tools: Toolset) -> Array | None:
    if tools.links is None:
        return None
    index = {name: number for number, name in enumerate(tools.names)}
    allowed = np.zeros((len(tools), len(tools)), dtype=np.float32)
    for source, target in tools.links:
        if source in index and target in index:
            allowed[index[source], index[target]] = 1
    return allowed


def _replace(path: Path, write: Any) -> None:
    new = path.with_name(f".{path.name}.new")
    write(new)
    new.replace(path)


def _broken(folder: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"{folder} is no trained planner: {why}", param="planner_artifact")
