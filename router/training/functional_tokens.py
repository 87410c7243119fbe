"""Teaches a small causal language model one token per node (Octopus v4, Chen and Li 2024; Octopus v2 for the tokens).

The model learns to answer a request with the node's functional token, the rewritten request and the end token. First
the new output rows are fitted to the model as it is, then rows and low-rank changes of the upper layers together
(fitting the head first keeps what the model knows, Kumar et al. 2022). The frozen layers run once a text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graph.types import NodeName
from router.calibration import softmax
from router.causal_model import CausalModel
from router.scorers.functional_head import OUT, FunctionalHead, calibrate, fit_rows
from router.training.functional_data import NOTHING_TEXT, Lesson, Taught, batches, hold_out, owners_of, teach, token_of
from router.training.lora import UpperLayers, adapt
from router.vectors import AnyArray

BATCH = 8
REWRITE_WEIGHT = 0.3
"""How much the rewrite counts beside the choice of the node."""
ANCHORS = 24
"""Texts of each node whose hidden states are kept, to hold later nodes apart from it."""
WARM_UP = 0.1
ROWS_RATE = 0.1
"""Share of the learning rate for the rows: they are fitted already."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How long and how much is trained."""

    epochs: int = 4
    seed: int = 0
    layers: int | None = None
    """Upper layers that are adapted; by default a third of them."""
    learning_rate: float = 5e-4
    held_out: float = 0.15
    """Share of the rows that choose the best epoch and calibrate, where there are no rows for validation."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after an epoch; epoch 0 is the model as it was, with fitted rows."""

    epoch: int
    epochs: int
    loss: float
    held_out_loss: float
    held_out_accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model that has learned, the head that reads it, and what was measured on held-out rows on the way."""

    model: CausalModel
    head: FunctionalHead
    best: Progress
    history: tuple[Progress, ...]
    counts: Mapping[str, int]
    """Rows that were learned from and rows that were held out."""


def train_functional_tokens(
    nodes: Mapping[NodeName, str],
    lessons: Sequence[Lesson],
    validation: Sequence[Lesson],
    model: CausalModel,
    options: TrainingOptions,
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Teach `model` the nodes, given by name and description, and return it with its head. Changes `model`.

    The epoch with the least loss on held-out rows is kept. Raises `ValueError` if there are no nodes, or a row names
    a node that is not there.
    """
    import torch

    _check(nodes, [*lessons, *validation])
    torch.manual_seed(options.seed)
    names: list[NodeName | None] = [*sorted(nodes)]
    texts = {token_of(name): nodes[name] for name in sorted(nodes)} | {token_of(None): NOTHING_TEXT}
    ids = model.add_tokens(texts)
    tokens = dict(zip([*names, None], ids, strict=True))
    learn, held = (list(lessons), list(validation)) if validation else hold_out(lessons, options.held_out, options.seed)
    learn += [Lesson(nodes[name], name) for name in sorted(nodes)]
    course = _Course(model, tokens, teach(model, learn, tokens, options.seed), _plain(model, held, tokens), options)
    history = course.run(on_epoch)
    best = min(history, key=lambda progress: progress.held_out_loss)
    head = course.finish()
    return Trained(model, head, best, tuple(history), {"train": len(lessons), "held_out": len(held)})


def _check(nodes: Mapping[NodeName, str], lessons: Sequence[Lesson]) -> None:
    if not nodes:
        raise ValueError("there are no nodes to learn")
    unknown = sorted({lesson.node for lesson in lessons if lesson.node is not None} - set(nodes))
    if unknown:
        raise ValueError(f"rows name nodes that are not declared: {', '.join(map(repr, unknown[:8]))}")


def _plain(model: CausalModel, held: Sequence[Lesson], tokens: Mapping[NodeName | None, int]) -> list[Taught]:
    """Return held-out lessons as they are: prompts alone, no courtesies, no rewrite."""
    owners = owners_of(tokens)
    prompts = [model.prompt(lesson.text) for lesson in held]
    return [
        Taught(tuple(prompt), len(prompt) - 1, owners[lesson.node])
        for prompt, lesson in zip(prompts, held, strict=True)
    ]


class _Course:
    """One training: what is trained, and the lessons with the frozen layers' outputs."""

    def __init__(
        self,
        model: CausalModel,
        tokens: Mapping[NodeName | None, int],
        learn: list[Taught],
        held: list[Taught],
        options: TrainingOptions,
    ) -> None:
        self._model, self._options, self._learn, self._held = model, options, learn, held
        self._names = [name for name in tokens if name is not None]
        self._ids = list(tokens.values())
        depth = int(model.network.config.num_hidden_layers)
        self._upper: UpperLayers = adapt(model.network, options.layers or max(1, depth // 3))
        self._inputs = self._below(learn)
        self._held_inputs = self._below(held)
        self._owners = np.array([taught.owner for taught in learn])
        self._none_learned = bool((self._owners == OUT).any())
        self._best: tuple[list[Any], Any] | None = None

    def _below(self, taught: Sequence[Taught]) -> list[Any]:
        found: list[Any] = [None] * len(taught)
        order = sorted(range(len(taught)), key=lambda row: len(taught[row].ids))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            for row, states in zip(rows, self._upper.below([taught[row].ids for row in rows]), strict=True):
                found[row] = states
        return found

    def _ends(self, taught: Sequence[Taught], inputs: Sequence[Any]) -> AnyArray:
        """Return (lessons, dimensions): the last layer's output at each prompt's end."""
        import torch

        found = np.zeros((len(taught), self._model.width), dtype=np.float32)
        order = sorted(range(len(taught)), key=lambda row: taught[row].end_of_prompt)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ends = [taught[row].end_of_prompt for row in rows]
            with torch.no_grad():
                states = self._upper.above([inputs[row][: end + 1] for row, end in zip(rows, ends, strict=True)])
            found[rows] = states[torch.arange(len(rows)), torch.tensor(ends)].float().cpu().numpy()
        return found

    def run(self, on_epoch: Callable[[Progress], None]) -> list[Progress]:
        """Fit the rows, then rows and layers together; return what each epoch came to, and keep the best."""
        import torch

        rows = torch.nn.Parameter(torch.from_numpy(self._first_rows()).to(self._model.device))
        weights = self._upper.parameters()
        rate = self._options.learning_rate
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": [rows], "lr": ROWS_RATE * rate}]
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)
        steps = self._options.epochs * math.ceil(len(self._learn) / BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, steps))
        dice = random.Random(self._options.seed)  # noqa: S311  # shuffles lessons, guards nothing
        history: list[Progress] = []
        for epoch in range(self._options.epochs + 1):
            losses = []
            for batch in batches([len(t.ids) for t in self._learn], BATCH, dice) if epoch else ():
                loss = self._loss(batch, rows)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_([*weights, rows], 1.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            history.append(self._look(epoch, float(np.mean(losses)) if losses else math.nan, rows))
            if history[-1].held_out_loss <= min(progress.held_out_loss for progress in history):
                self._best = self._upper.state(), rows.detach().clone()
            on_epoch(history[-1])
        return history

    def _first_rows(self) -> AnyArray:
        """Return the rows fitted to the model as it is. The one for none moves only where there are such lessons."""
        rows = self._model.rows(self._ids)
        owners = np.where(self._owners == OUT, len(self._names), self._owners)
        free = np.ones(len(rows), dtype=bool)
        free[-1] = self._none_learned
        return fit_rows(self._ends(self._learn, self._inputs), owners, rows, free)

    def _loss(self, batch: Sequence[int], rows: Any) -> Any:
        """Return the loss of naming the node among all tokens, and of the rewrite that follows."""
        import torch

        taught = [self._learn[row] for row in batch]
        states = self._upper.above([self._inputs[row] for row in batch])
        where = [(i, t.end_of_prompt) for i, t in enumerate(taught)]
        after = [(i, at) for i, t in enumerate(taught) for at in range(t.end_of_prompt + 1, len(t.ids) - 1)]
        spots = torch.tensor([*where, *after], device=states.device)
        wanted = torch.tensor([taught[i].ids[at + 1] for i, at in [*where, *after]], device=states.device)
        logits = self._logits(states[spots[:, 0], spots[:, 1]], rows)
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        chosen, copied = losses[: len(where)].mean(), losses[len(where) :]
        return chosen + REWRITE_WEIGHT * copied.mean() if len(after) else chosen

    def _logits(self, states: Any, rows: Any) -> Any:
        import torch

        frozen = states @ self._model.network.get_output_embeddings().weight.detach().T
        return frozen.index_copy(1, torch.tensor(self._ids, device=states.device), states @ rows.T)

    def _look(self, epoch: int, loss: float, rows: Any) -> Progress:
        """Measure on the held-out lessons that some node fits; without any, the training loss decides."""
        owners = np.array([taught.owner for taught in self._held])
        if not (owners != OUT).any():
            return Progress(epoch, self._options.epochs, loss, math.inf if math.isnan(loss) else loss, math.nan)
        hidden = self._ends(self._held, self._held_inputs)[owners != OUT]
        owners = owners[owners != OUT]
        share = softmax(hidden @ rows.detach().cpu().numpy()[: len(self._names)].T)
        nll = float(-np.log(np.maximum(share[np.arange(len(owners)), owners], 1e-9)).mean())
        right = float((share.argmax(axis=1) == owners).mean())
        return Progress(epoch, self._options.epochs, loss, nll, right)

    def finish(self) -> FunctionalHead:
        """Put the best epoch back, make a plain model of it, calibrate, and return the head."""
        if self._best is not None:
            self._upper.restore(self._best[0])
            self._model.set_rows(self._ids, self._best[1].cpu().numpy())
        kept = _anchor_rows(self._owners)
        anchors = self._ends([self._learn[row] for row in kept], [self._inputs[row] for row in kept])
        held = self._ends(self._held, self._held_inputs)
        self._upper.merge()
        self._model.network.requires_grad_(False)
        rows = self._model.rows(self._ids)
        nothing = rows[-1] if self._none_learned else None
        owners = np.array([taught.owner for taught in self._held], dtype=np.int64)
        sharpness, scope = calibrate(held, owners, rows[:-1], nothing)
        labels = tuple(self._names)
        return FunctionalHead(
            labels, rows[:-1], nothing, sharpness, scope, anchors, self._owners[kept], (False,) * len(labels)
        )


def _anchor_rows(owners: AnyArray) -> list[int]:
    """Return the indices of the first few lessons of each node."""
    return [int(row) for owner in range(int(owners.max()) + 1) for row in np.flatnonzero(owners == owner)[:ANCHORS]]


def _pace(step: int, steps: int) -> float:
    """Return the share of the learning rate: a short warm-up, then down to nothing."""
    warm = max(1, int(WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))
