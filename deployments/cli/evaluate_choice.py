"""`eval choice`: how well a model is chosen by quality and cost, on rows where it is known who was right."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.console import console, styled, write_error, write_json, write_table
from deployments.cli.offline import write_lines
from deployments.cli.options import FAILED, Json

if TYPE_CHECKING:
    from router.choice.correctness import Correctness
    from router.evaluation.choice import ChoiceMetrics
    from router.types import Encoder
    from router.vectors import AnyArray

Train = Annotated[
    Path, typer.Option("--train", help='Rows to learn from: JSON lines of {"text", "scores": {model: 0..1}}.')
]
Data = Annotated[Path, typer.Option("--data", help="Rows to measure on, in the same form.")]
Costs = Annotated[
    Path | None,
    typer.Option(
        "--costs",
        help="What an answer of each model costs: one JSON object. Without it, and without costs in the rows, an "
        "answer of the best model of the training rows costs 1 and any other nothing.",
    ),
]
Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Write the chosen model and all expected scores, a line each row.")
]
Report = Annotated[Path | None, typer.Option("--report", help="Write a picture of cost and quality: choice.html.")]
EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="Sentence encoder: hf://…, pkg://… or a folder; the service's by default."),
]
Tokenizer = Annotated[
    str | None, typer.Option("--encoder-tokenizer", help="Its tokenizer's folder, for an ONNX encoder without one.")
]


def choice(
    train: Train,
    data: Data,
    costs: Costs = None,
    predictions: Predictions = None,
    report: Report = None,
    encoder: EncoderOption = None,
    encoder_tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Learn who answers what right, choose a model for each row, and say how good the choice is."""
    from graph.errors import ModelyardError
    from router.choice.correctness import ChoiceDataError

    try:
        metrics, rows = _measure(train, data, costs, report, _encoder(encoder, encoder_tokenizer))
        if predictions is not None:
            predictions.parent.mkdir(parents=True, exist_ok=True)
            write_lines(predictions, rows)
    except (ChoiceDataError, ModelyardError, OSError, ValueError) as error:
        write_error(str(error), as_json=as_json, code="invalid_data")
        raise typer.Exit(FAILED) from None
    if as_json:
        write_json(metrics)
        return
    shown = [(name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in metrics.items()]
    write_table(console(), ("figure", "value"), [(styled(name), styled(value)) for name, value in shown])


def _measure(
    train: Path, data: Path, costs: Path | None, report: Path | None, encoder: Encoder
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from router.choice.correctness import read_correctness, read_costs
    from router.choice.quality import fit_quality
    from router.evaluation.choice import best_available, cost_table, evaluate_choice

    known, asked = read_correctness(train), read_correctness(data)
    given = read_costs(costs) if costs is not None else {}
    _check_models(known, asked, train, data)
    truth = asked.aligned(known.models)
    with console(stderr=True).status("learning who answers what right …"):
        model = fit_quality(known, encoder)
        expected = model.expected(truth.texts)
    price = cost_table(truth, given, int(model.mean.argmax()))
    metrics = evaluate_choice(expected, truth, price, model.mean)
    if report is not None:
        _write_report(report, metrics, expected, truth, price)
    chosen = best_available(expected, truth.scores)
    rows = [
        {
            "text": text,
            "model": truth.models[index],
            "scores": {name: round(float(value), 6) for name, value in zip(truth.models, values, strict=True)},
        }
        for text, index, values in zip(truth.texts, chosen, expected, strict=True)
    ]
    return asdict(metrics), rows


def _check_models(known: Correctness, asked: Correctness, train: Path, data: Path) -> None:
    from router.choice.correctness import ChoiceDataError

    for here, there, have, lack in ((asked, known, data, train), (known, asked, train, data)):
        strangers = sorted(set(here.models) - set(there.models))
        if strangers:
            raise ChoiceDataError(
                f"{have} has scores of {', '.join(strangers)}, but no row of {lack} does; it has "
                f"{', '.join(there.models)}. Both files must be about the same models"
            )


def _encoder(encoder: str | None, tokenizer: str | None) -> Encoder:
    from deployments.models import resolve_model
    from deployments.settings import Settings
    from router.encoders import load_encoder

    settings = Settings.from_env(encoder=encoder, encoder_tokenizer=tokenizer)
    folder = resolve_model(settings.encoder_tokenizer) if settings.encoder_tokenizer else None
    path = resolve_model(settings.encoder_reference())
    return load_encoder(path, tokenizer=folder, threads=os.cpu_count() or 1, cache=0)


def _write_report(
    folder: Path, metrics: ChoiceMetrics, expected: AnyArray, truth: Correctness, costs: AnyArray
) -> None:
    from router.evaluation.choice import choice_charts
    from router.evaluation.svg import page

    figures: Mapping[str, object] = {name: value for name, value in asdict(metrics).items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    html = page("Choice among models", figures, choice_charts(metrics, expected, truth, costs))
    (folder / "choice.html").write_text(html, "utf-8")
