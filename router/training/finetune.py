"""Fine-tunes the sentence encoder with a cosine-softmax head (NormFace, Wang et al. 2017, scale 20)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.training.torch_encoder import Tokens, TorchEncoder
from router.types import Array
from router.vectors import AnyArray, unit

SCALE = 20.0
BATCH = 64
POOLS = 16
"""Batches that are sorted by length together: less padding, and still a shuffle."""
AVERAGED = 0.99
"""Decay of the running mean of the weights, which is what is kept."""
REPORT_EVERY = 50
"""Batches between two lines of progress."""
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How the encoder is fine-tuned."""

    epochs: int = 3
    patience: int = 2
    learning_rate: float = 2e-4
    head_rate: float = 4e-3
    smoothing: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What came of it; the encoder itself holds its new weights."""

    weights: Array
    """(classes, dimensions) of length 1."""
    epochs: int
    accuracy: float
    """On the rows kept for stopping."""


def finetune(
    encoder: TorchEncoder,
    train: tuple[Sequence[Tokens], AnyArray],
    held: tuple[Sequence[Tokens], AnyArray],
    how: FineTuning,
    report: Report,
) -> FineTuned:
    """Train the encoder's upper layers and a head on (tokens, classes); stop when the held rows get no better."""
    import torch

    torch.manual_seed(how.seed)
    tokens, targets = train
    classes = int(targets.max()) + 1
    head = torch.nn.Parameter(torch.from_numpy(_centroids(encoder.encode_tokens(tokens), targets, classes)))
    parameters = encoder.parameters()
    groups = [{"params": parameters, "lr": how.learning_rate}, {"params": [head], "lr": how.head_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = math.ceil(len(tokens) / BATCH) * how.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    average = Average([*parameters, head])
    rng = np.random.default_rng(how.seed)
    best, best_state, best_epoch = -1.0, average.state(), 0
    for epoch in range(1, how.epochs + 1):
        encoder.train()
        total = 0.0
        batches = shuffled(tokens, rng)
        for number, rows in enumerate(batches, 1):
            vectors = encoder.forward([tokens[i] for i in rows])
            logits = SCALE * vectors @ torch.nn.functional.normalize(head, dim=-1).T
            goal = torch.from_numpy(targets[rows])
            loss: Any = torch.nn.functional.cross_entropy(logits, goal, label_smoothing=how.smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            average.update()
            total += float(loss.detach()) * len(rows)
            if number % REPORT_EVERY == 0:
                report(f"encoder epoch {epoch}/{how.epochs}: batch {number} of {len(batches)}")
        with average:
            accuracy = _accuracy(encoder, head, held)
        report(f"encoder epoch {epoch}/{how.epochs}: loss {total / len(tokens):.3f}, held-out accuracy {accuracy:.4f}")
        if accuracy > best:
            best, best_state, best_epoch = accuracy, average.state(), epoch
        elif epoch - best_epoch >= how.patience:
            break
    average.load(best_state)
    return FineTuned(unit(head.detach().numpy()), best_epoch, best)


class Average:
    """A running mean of parameters; inside `with`, the parameters have its values."""

    def __init__(self, parameters: Sequence[Any]) -> None:
        self._live = list(parameters)
        self._mean = [p.detach().clone() for p in self._live]
        self._kept: list[Any] = []
        self._steps = 0

    def update(self) -> None:
        """Take in the weights of one more step."""
        import torch

        self._steps += 1
        decay = min(AVERAGED, self._steps / (self._steps + 10))
        with torch.no_grad():
            for mean, live in zip(self._mean, self._live, strict=True):
                mean.mul_(decay).add_(live, alpha=1 - decay)

    def state(self) -> list[Any]:
        """Return a copy of the mean."""
        return copy.deepcopy(self._mean)

    def load(self, state: Sequence[Any]) -> None:
        """Set the weights to a mean that was returned."""
        for live, values in zip(self._live, state, strict=True):
            live.data.copy_(values)

    def __enter__(self) -> None:
        self._kept = [p.detach().clone() for p in self._live]
        self.load(self._mean)

    def __exit__(self, *error: object) -> None:
        self.load(self._kept)


def rate(step: int, steps: int) -> float:
    """Warm up over a tenth, then fall along a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def shuffled(tokens: Sequence[Tokens], rng: np.random.Generator) -> list[list[int]]:
    """Return the rows of each batch: random, and of about one length."""
    order = rng.permutation(len(tokens))
    batches: list[list[int]] = []
    for start in range(0, len(order), BATCH * POOLS):
        pool = order[start : start + BATCH * POOLS]
        pool = pool[np.argsort([len(tokens[i].ids) for i in pool], kind="stable")]
        batches += [pool[at : at + BATCH].tolist() for at in range(0, len(pool), BATCH)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _accuracy(encoder: TorchEncoder, head: Any, held: tuple[Sequence[Tokens], AnyArray]) -> float:
    tokens, targets = held
    if not len(tokens):
        return 0.0
    predicted = (encoder.encode_tokens(tokens) @ unit(head.detach().numpy()).T).argmax(axis=1)
    return float((predicted == targets).mean())


def _centroids(vectors: Array, targets: AnyArray, classes: int) -> Array:
    sums = np.zeros((classes, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, targets, vectors)
    return unit(sums)
