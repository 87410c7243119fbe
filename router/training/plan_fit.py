"""Trains the learned planner: encoder and decoder together, then the ranker on rows that neither has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from router.planners.decoder import Decoder
from router.planners.matching import described_as
from router.planners.rerank import Memory, features, fit
from router.planners.toolset import Toolset
from router.planners.trained import TrainedPlanner, worth
from router.training.finetune import REPORT_EVERY, Average, rate, shuffled
from router.training.plan_data import PlanRow
from router.training.plan_examples import Example, composed, examples_of, step_examples
from router.training.plan_net import build
from router.training.torch_encoder import Tokens, TorchEncoder, by_length
from router.types import Array

Report = Callable[[str], None]
HELD_LEAST = 10
"""Plans that are held out at least: fewer say nothing."""


@dataclass(frozen=True, slots=True)
class PlanTraining:
    """How a planner is trained."""

    seed: int = 0
    epochs: int = 14
    patience: int = 3
    held: float = 0.1
    """Share of the plans that stop the training and teach the ranker, when no validation rows are given."""
    trained_layers: int = 2
    """Upper layers of the encoder that are trained; 0 keeps it as it is."""
    encoder_rate: float = 2e-4
    decoder_rate: float = 2e-3
    made: float = 0.4
    """Requests made of steps, for each written one."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training came to."""

    decoder: Decoder
    memory: Memory
    ranker: tuple[Array, Array, Array]
    epochs: int


def split(rows: Sequence[PlanRow], how: PlanTraining) -> tuple[list[PlanRow], list[PlanRow]]:
    """Part the rows into those to learn from and those held out, of which there are `HELD_LEAST` at least."""
    order = np.random.default_rng(how.seed).permutation(len(rows))
    cut = max(HELD_LEAST, round(how.held * len(rows)))
    return [rows[i] for i in order[cut:]], [rows[i] for i in order[:cut]]


def known_shapes(rows: Sequence[PlanRow]) -> set[tuple[str, ...]]:
    """Return the node sequences of the rows' plans."""
    return {tuple(task.node for task in row.gold.tasks) for row in rows if row.gold is not None}


def train(
    rows: Sequence[PlanRow],
    val: Sequence[PlanRow],
    tools: Toolset,
    encoder: TorchEncoder,
    how: PlanTraining,
    report: Report,
) -> Fitted:
    """Train on rows, choose on `val`, and return what came of it; the encoder holds its new weights."""
    import torch

    torch.manual_seed(how.seed)
    rng = np.random.default_rng(how.seed)
    written, held = examples_of(rows, tools), examples_of(val, tools, least=1)
    steps = step_examples(rows, tools)
    report(f"{len(written)} plans to learn from, {len(held)} held out, {len(steps)} described steps")
    described = encoder.encode_tokens(encoder.prepare([described_as(tool) for tool in tools.tools.values()]))
    net = build(described)
    extra = _extra(steps, _pairs(written, tools), round(how.made * len(written)), rng)
    tokens = encoder.prepare([example.text for example in (*written, *extra)])
    held_tokens = encoder.prepare([example.text for example in held])
    rules = _rules(written, tools)
    epochs = _run(net, encoder, [*written, *extra], tokens, (held, held_tokens), rules, how, rng, report)
    decoder = Decoder(net.arrays(), *rules)
    memory = Memory.of(vectors(encoder, tokens[: len(written)]), [example.nodes for example in written])
    return Fitted(decoder, memory, _ranker(decoder, memory, encoder, held, held_tokens), epochs)


def _pairs(written: Sequence[Example], tools: Toolset) -> list[tuple[int, int]]:
    """Return the pairs that may follow each other: the plans' own, and those of the links."""
    index = {name: number for number, name in enumerate(tools.names)}
    own = {pair for example in written for pair in zip(example.nodes, example.nodes[1:], strict=False)}
    linked = {(index[a], index[b]) for a, b in tools.links or () if a in index and b in index}
    return sorted(own | linked)


def _extra(
    steps: Sequence[Example], pairs: Sequence[tuple[int, int]], count: int, rng: np.random.Generator
) -> list[Example]:
    made = composed(steps, pairs, count, rng)
    picked = rng.permutation(len(steps))[: count // 2]
    return [*made, *(steps[i] for i in picked)]


def _rules(written: Sequence[Example], tools: Toolset) -> tuple[Array | None, tuple[int, int]]:
    """Return which node may follow which, and the least and most nodes of a plan."""
    lengths = [len(example.nodes) for example in written]
    allowed = None
    if tools.links is not None:
        allowed = np.zeros((len(tools), len(tools)), dtype=np.float32)
        index = {name: number for number, name in enumerate(tools.names)}
        for source, target in tools.links:
            if source in index and target in index:
                allowed[index[source], index[target]] = 1
    return allowed, (min(lengths), max(lengths) + 1)


def _run(
    net: Any,
    encoder: TorchEncoder,
    examples: Sequence[Example],
    tokens: Sequence[Tokens],
    held: tuple[Sequence[Example], Sequence[Tokens]],
    rules: Any,
    how: PlanTraining,
    rng: np.random.Generator,
    report: Report,
) -> int:
    """Train until the held rows get no better; leave the best weights in place, and return their epoch."""
    import torch

    upper = encoder.parameters()
    groups = [{"params": upper, "lr": how.encoder_rate}] if upper else []
    groups.append({"params": list(net.parameters()), "lr": how.decoder_rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = math.ceil(len(tokens) / 64) * how.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    average = Average([*upper, *net.parameters()])
    best, best_state, best_epoch = -1.0, average.state(), 0
    for epoch in range(1, how.epochs + 1):
        encoder.train()
        net.train()
        total = 0.0
        batches = shuffled(tokens, rng)
        for number, batch in enumerate(batches, 1):
            loss = _loss(net, encoder, [examples[i] for i in batch], [tokens[i] for i in batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*upper, *net.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            average.update()
            total += float(loss.detach()) * len(batch)
            if number % REPORT_EVERY == 0:
                report(f"epoch {epoch}/{how.epochs}: batch {number} of {len(batches)}")
        with average:
            exact = _exact(Decoder(net.arrays(), *rules), encoder, *held)
        report(f"epoch {epoch}/{how.epochs}: loss {total / len(tokens):.3f}, held-out plans exact {exact:.4f}")
        if exact > best:
            best, best_state, best_epoch = exact, average.state(), epoch
        elif epoch - best_epoch >= how.patience:
            break
    average.load(best_state)
    net.eval()
    return best_epoch


def _loss(net: Any, encoder: TorchEncoder, examples: Sequence[Example], tokens: Sequence[Tokens]) -> Any:
    import torch

    longest = max(len(example.nodes) for example in examples)
    end = len(net.bias) - 1
    targets = np.full((len(examples), longest + 1), -100, dtype=np.int64)
    wanted = np.zeros((len(examples), end), dtype=np.float32)
    for row, example in enumerate(examples):
        targets[row, : len(example.nodes)] = example.nodes
        targets[row, len(example.nodes)] = end
        wanted[row, list(example.nodes)] = 1
    goal = torch.from_numpy(targets)
    hidden, mask = encoder.forward_tokens(tokens)
    logits, classes = net(hidden, mask, goal)
    spoken = torch.nn.functional.cross_entropy(logits.flatten(0, 1), goal.flatten(), label_smoothing=0.05)
    known = torch.nn.functional.binary_cross_entropy_with_logits(classes, torch.from_numpy(wanted), reduction="sum")
    return spoken + 0.1 * known / len(examples)


def hidden(encoder: TorchEncoder, tokens: Sequence[Tokens]) -> list[Array]:
    """Return the token vectors of each text, without gradients."""
    import torch

    encoder.eval()
    found: list[Any] = [None] * len(tokens)
    with torch.no_grad():
        for rows in by_length(tokens):
            values, _ = encoder.forward_tokens([tokens[i] for i in rows])
            for row, own in zip(rows, values.numpy(), strict=True):
                found[row] = own[: len(tokens[row].ids)]
    return found


def vectors(encoder: TorchEncoder, tokens: Sequence[Tokens]) -> Array:
    """Return (texts, width) means of token vectors, of length 1."""
    pooled = np.stack([own.mean(axis=0) for own in hidden(encoder, tokens)])
    return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)


def _exact(decoder: Decoder, encoder: TorchEncoder, held: Sequence[Example], tokens: Sequence[Tokens]) -> float:
    found = [decoder.search(own, 3) for own in hidden(encoder, tokens)]
    right = [bool(got) and got[0].nodes == example.nodes for got, example in zip(found, held, strict=True)]
    return float(np.mean(right)) if right else 0.0


def _ranker(
    decoder: Decoder, memory: Memory, encoder: TorchEncoder, held: Sequence[Example], tokens: Sequence[Tokens]
) -> tuple[Array, Array, Array]:
    groups = []
    for own, example in zip(hidden(encoder, tokens), held, strict=True):
        candidates = decoder.search(own)
        pooled = own.mean(axis=0)
        table = features(candidates, decoder.classify(own), pooled / np.linalg.norm(pooled), memory)
        if len(candidates) > 1:
            groups.append((table, np.array([worth(c.nodes, example.nodes) for c in candidates])))
    return fit(groups)


def save(
    fitted: Fitted, encoder: TorchEncoder, tools: Toolset, card: dict[str, Any], folder: Path, *, export: bool = True
) -> TrainedPlanner:
    """Write the artefact and return the planner as it will be loaded; without `export` the encoder is there."""
    from router.planner_artifact import ENCODER, TOKENIZER, load_planner, save_planner
    from router.training.export import export_int8

    folder.mkdir(parents=True, exist_ok=True)
    if export:
        export_int8(encoder, folder / ENCODER, tokens=True)
        (folder / TOKENIZER).write_text(encoder.tokenizer_json, encoding="utf-8")
    save_planner(fitted.decoder, fitted.memory, fitted.ranker, tools, {"max_tokens": encoder.max_tokens} | card, folder)
    return load_planner(folder).planner
