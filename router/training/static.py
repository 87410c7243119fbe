"""Fits stage one: token vectors taken from the sentence encoder, then trained together with a cosine-softmax head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.scorers.static_stage import NgramEncoder, load_tokenizer, pair_numbers, token_ids
from router.training.finetune import SCALE, Report
from router.training.torch_encoder import TorchEncoder
from router.types import Array
from router.vectors import AnyArray, unit

DIMENSIONS = 256
COMMON = 4000
"""Token ids that are known whether or not the rows hold them: vocabularies begin with what is frequent."""
PAIRS_MAX = 60_000
SIF = 1e-3
"""Smooth inverse frequency weight, Arora et al. 2017: a / (a + p(token))."""
BATCH = 64


@dataclass(frozen=True, slots=True)
class StaticTraining:
    """How stage one is trained."""

    epochs: int = 6
    patience: int = 6
    learning_rate: float = 5e-4
    head_rate: float = 2e-3
    dropout: float = 0.25
    """Share of a text's tokens and pairs that are left out at each step."""
    smoothing: float = 0.05
    seed: int = 0


def distil(encoder: TorchEncoder, texts: Sequence[str], *, pairs_min: int) -> NgramEncoder:
    """Return an untrained stage one: each token's vector is what the sentence encoder says of it alone.

    A pair of tokens is known if it stands in at least `pairs_min` texts; its vector begins at zero.
    """
    tokenizer = load_tokenizer(encoder.tokenizer_json)
    found = list(token_ids(tokenizer, texts))
    counts = Counter(int(i) for ids in found for i in ids)
    size = tokenizer.get_vocab_size()
    tokens = np.array(sorted(set(range(min(COMMON, size))) | set(counts)), dtype=np.int64)
    vectors = encoder.encode_tokens(encoder.prepare_ids([np.array([i]) for i in tokens]))
    vectors = _principal(vectors, DIMENSIONS)
    share = np.array([counts.get(int(i), 0) for i in tokens]) / max(1, sum(counts.values()))
    vectors *= (SIF / (SIF + share))[:, None].astype(np.float32)
    pairs = Counter(int(n) for ids in found for n in set(pair_numbers(ids).tolist()))
    kept = sorted(n for n, count in pairs.most_common(PAIRS_MAX) if count >= pairs_min)
    zeros = np.zeros((len(kept), vectors.shape[1]), dtype=np.float32)
    return NgramEncoder(tokenizer, tokens, np.array(kept, dtype=np.int64), np.concatenate([vectors, zeros]))


def fit_static(
    start: NgramEncoder,
    train: tuple[Sequence[str], AnyArray],
    held: tuple[Sequence[str], AnyArray],
    how: StaticTraining,
    report: Report,
) -> tuple[NgramEncoder, Array]:
    """Train vectors and head on (texts, classes). Returns the encoder and (classes, dimensions) unit weights."""
    import torch

    torch.manual_seed(how.seed)
    features = [rows for rows, _ in start.features(train[0])]
    targets = train[1]
    classes = int(targets.max()) + 1
    table = torch.nn.Parameter(torch.from_numpy(start.vectors.copy()))
    head = torch.nn.Parameter(torch.from_numpy(_centroids(start.encode(train[0]), targets, classes)))
    sparse: Any = torch.optim.SparseAdam([table], lr=how.learning_rate)
    dense = torch.optim.AdamW([head], lr=how.head_rate, weight_decay=0.01)
    rng = np.random.default_rng(how.seed)
    best, best_state, since = -1.0, (start.vectors, unit(head.detach().numpy())), 0
    for epoch in range(1, how.epochs + 1):
        _fade(sparse, dense, how, epoch)
        order = rng.permutation(len(features))
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            vectors = _bag(table, [_drop(features[i], how.dropout, rng) for i in rows])
            logits = SCALE * vectors @ torch.nn.functional.normalize(head, dim=-1).T
            goal = torch.from_numpy(targets[rows])
            loss: Any = torch.nn.functional.cross_entropy(logits, goal, label_smoothing=how.smoothing)
            sparse.zero_grad()
            dense.zero_grad()
            loss.backward()
            sparse.step()
            dense.step()
        weights = unit(head.detach().numpy())
        now = start.with_vectors(table.detach().numpy())
        accuracy = float(((now.encode(held[0]) @ weights.T).argmax(axis=1) == held[1]).mean()) if len(held[1]) else 0.0
        report(f"static epoch {epoch}/{how.epochs}: held-out accuracy {accuracy:.4f}")
        since += 1
        if accuracy > best or not len(held[1]):
            best, best_state, since = accuracy, (now.vectors.copy(), weights), 0
        if since >= how.patience:
            break
    return start.with_vectors(best_state[0]), best_state[1]


def _fade(sparse: Any, dense: Any, how: StaticTraining, epoch: int) -> None:
    left = 1.0 - (epoch - 1) / how.epochs
    for group in sparse.param_groups:
        group["lr"] = how.learning_rate * left
    for group in dense.param_groups:
        group["lr"] = how.head_rate * left


def _drop(rows: AnyArray, share: float, rng: np.random.Generator) -> AnyArray:
    kept = rows[rng.random(len(rows)) >= share]
    return kept if len(kept) else rows


def _bag(table: Any, bags: Sequence[AnyArray]) -> Any:
    import torch

    offsets = np.cumsum([0, *map(len, bags[:-1])])
    sums = torch.nn.functional.embedding_bag(
        torch.from_numpy(np.concatenate(bags)), table, torch.from_numpy(offsets), mode="sum", sparse=True
    )
    return torch.nn.functional.normalize(sums, dim=-1)


def _principal(vectors: Array, dimensions: int) -> Array:
    """Return the vectors in their principal components, which also take off what all have in common."""
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(-values)[:dimensions]
    return np.asarray(centred @ directions[:, order], dtype=np.float32)


def _centroids(vectors: Array, targets: AnyArray, classes: int) -> Array:
    sums = np.zeros((classes, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, targets, vectors)
    return unit(sums)
