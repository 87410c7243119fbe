"""Choosing a model by learned quality, beside random, one model always, a table by kind, neighbours and linear models.

    python -m benchmarks.choice --data DATA/choice/routellm/mmlu_dev.jsonl.gz --data DATA/choice/mmlu_pro/dev.jsonl.gz

Each file is halved several times at random: one half is learned from, the other measured on. Printed are means over the
halves: APGR where there are two models (random 0.50), else the accuracy of the model chosen. Nothing is tuned on the
halves that are measured on. --out FOLDER gets every half's figure as choice.json, and of files with two models a
picture: mean score against the share of requests that go to the better model, in the first half.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deployments.models import resolve_model
from deployments.settings import Settings
from router.choice.correctness import Correctness, read_correctness
from router.choice.features import Featurizer
from router.choice.members import MEMBERS
from router.choice.quality import fill_gaps, fit_quality, rank_models
from router.encoders import load_encoder
from router.evaluation.choice import apgr, best_available, mean_of_chosen
from router.evaluation.svg import Series, line_chart
from router.types import Encoder
from router.vectors import AnyArray


def main() -> None:
    """Measure every file that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how often the rows are halved")
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--encoder-tokenizer", default=None)
    parser.add_argument("--out", type=Path, default=None, help="folder for choice.json and pictures")
    options = parser.parse_args()
    settings = Settings.from_env(encoder=options.encoder, encoder_tokenizer=options.encoder_tokenizer)
    tokenizer = resolve_model(settings.encoder_tokenizer) if settings.encoder_tokenizer else None
    encoder = load_encoder(resolve_model(settings.encoder_reference()), tokenizer=tokenizer, threads=2)
    found = {
        "encoder": encoder.name,
        "files": [measure(path, encoder, options.seeds, options.out) for path in options.data],
    }
    if options.out is not None:
        (options.out / "choice.json").write_text(json.dumps(found, indent=1) + "\n")


def measure(path: Path, encoder: Encoder, seeds: int, out: Path | None) -> dict[str, Any]:
    """Print one table and return its figures."""
    data = read_correctness(path)
    began = time.perf_counter()
    encoder.encode(sorted(data.texts, key=len))  # once: the encoder remembers
    encoded = time.perf_counter() - began
    found: dict[str, list[float]] = {}
    for inside, outside in halves(len(data), seeds):
        known, asked = data.take(inside), data.take(outside)
        ways = estimates(known, asked, encoder)
        if out is not None and not found and len(data.models) == 2:
            (out / f"choice-{path.name.partition('.')[0]}.svg").write_text(picture(path.parent.name, ways, asked))
        for name, value in compare(ways, known, asked).items():
            found.setdefault(name, []).append(value)
    of = "apgr" if len(data.models) == 2 else "accuracy"
    print(f"\n{path.name}: {len(data)} rows, {len(data.models)} models; {of}, mean of {2 * seeds} halves")
    for name, values in found.items():
        print(f"{name:24} {np.mean(values):.4f}  +- {np.std(values):.4f}")
    print(f"encoding took {encoded:.0f} s", flush=True)
    facts = {"file": f"{path.parent.name}/{path.name}", "rows": len(data), "models": len(data.models), "figure": of}
    return facts | {"halves": {name: [round(value, 4) for value in values] for name, values in found.items()}}


def halves(count: int, seeds: int) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Yield (rows to learn from, rows to measure on)."""
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(count)
        first, second = order[: count // 2], order[count // 2 :]
        yield first, second
        yield second, first


def estimates(known: Correctness, asked: Correctness, encoder: Encoder) -> dict[str, AnyArray]:
    """Return what each way expects of each model on the rows that are asked."""
    model = fit_quality(known, encoder)
    features = Featurizer.fit(known.texts, encoder)
    inside, outside, scores = features.of(known.texts), features.of(asked.texts), fill_gaps(known.scores)
    random = np.random.default_rng(0).random(asked.scores.shape)
    ways = {name: MEMBERS[name](inside, scores)(outside) for name in MEMBERS}
    return {"random": random} | ways | {"modelyard": model.expected(asked.texts)}


def compare(ways: dict[str, AnyArray], known: Correctness, asked: Correctness) -> dict[str, float]:
    """Return the figure of each way to choose."""
    found: dict[str, float] = {}
    if len(asked.models) > 2:
        best = int(rank_models(known.scores)[0])
        found["best single model"] = mean_of_chosen(asked.scores, np.full(len(asked), best))
        found["oracle"] = float(np.nanmax(asked.scores, axis=1).mean(dtype=np.float64))
    return found | {name: figure(way, asked) for name, way in ways.items()}


def picture(title: str, ways: dict[str, AnyArray], truth: Correctness) -> str:
    """Return a chart of the mean score against the share of requests that go to the better of two models."""
    strong, weak = rank_models(truth.scores)
    series = []
    for name in ("modelyard", "meaning", "table", "random"):
        order = np.argsort(ways[name][:, weak] - ways[name][:, strong], kind="stable")
        won = np.concatenate([[0.0], np.cumsum((truth.scores[:, strong] - truth.scores[:, weak])[order])])
        mean = (truth.scores[:, weak].sum() + won) / len(truth)
        at = np.linspace(0, len(truth), 41).astype(int)
        points = tuple((float(place / len(truth)), float(mean[place])) for place in at)
        series.append(Series(name, points, dashed=name == "random"))
    return line_chart(title, "share of requests to the better model", "mean score", series)


def figure(expected: AnyArray, truth: Correctness) -> float:
    """Return APGR of two models, the accuracy of the one chosen of more."""
    if len(truth.models) == 2:
        strong, weak = rank_models(truth.scores)
        gain = expected[:, strong] - expected[:, weak]
        return apgr(gain, truth.scores[:, strong], truth.scores[:, weak]) or 0.5
    return mean_of_chosen(truth.scores, best_available(expected, truth.scores))


if __name__ == "__main__":
    main()
