"""Pictures of how a router did: risk against coverage, reliability, in and out of scope, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from router.evaluation.router_report import BINS, Judged
from router.evaluation.svg import Series, line_chart, page
from router.vectors import AnyArray

POINTS = 200
CONFUSED = 20
"""Labels in the table of confusion: those with the most mistakes."""
CELL, MARGIN = 18, 190


def router_page(judged: Judged, figures: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """Return one page of HTML that needs nothing else."""
    shown = {name: "-" if value is None else value for name, value in figures.items()}
    charts = [_risk(judged), _reliability(judged)]
    if (judged.truth < 0).any():
        charts.append(_scope(judged))
    charts.append(_confusion(judged))
    return page("Router", {**shown, "data of training": str(card.get("data", {}).get("sha256", ""))[:16]}, charts)


def _risk(judged: Judged) -> str:
    """Share of wrong answers among the most probable ones; an out-of-scope request that is answered is wrong."""
    order = np.argsort(-judged.probability, kind="stable")
    wrong = np.cumsum(~judged.right[order]) / np.arange(1, len(order) + 1)
    best = np.cumsum(np.sort(~judged.right)) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    series = [
        Series("this router", _thin(coverage, wrong)),
        Series("perfect order", _thin(coverage, best), dashed=True),
    ]
    return line_chart("Risk against coverage", "share of requests answered", "share of answers wrong", series)


def _reliability(judged: Judged) -> str:
    accepted = ~judged.refused
    probability, right = judged.probability[accepted], judged.right[accepted]
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    points = [(float(probability[bins == b].mean()), float(right[bins == b].mean())) for b in np.unique(bins)]
    series = [Series("requests given a node", points), Series("honest", [(0.0, 0.0), (1.0, 1.0)], dashed=True)]
    return line_chart("Reliability", "probability", "share right", series)


def _scope(judged: Judged) -> str:
    """How many in-scope and out-of-scope requests a threshold accepts."""
    inside, outside = judged.in_scope[judged.truth >= 0], judged.in_scope[judged.truth < 0]
    levels = np.unique(np.quantile(judged.in_scope, np.linspace(0, 1, POINTS)))
    roc = [
        (float((outside >= level).mean()), float((inside >= level).mean()) if len(inside) else 0.0) for level in levels
    ]
    return line_chart(
        "Accepting requests",
        "share of out-of-scope accepted",
        "share of in-scope accepted",
        [Series("this router", roc)],
    )


def _confusion(judged: Judged) -> str:
    """Return a table of the labels with the most mistakes, as SVG: rows are right, columns what was answered."""
    names = [*judged.labels, "(out of scope)"]
    last = len(judged.labels)
    truth = np.where(judged.truth < 0, last, judged.truth)
    answered = np.where(judged.refused, last, judged.predicted)
    wrong = truth != answered
    mistakes = np.bincount(truth[wrong], minlength=last + 1) + np.bincount(answered[wrong], minlength=last + 1)
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[: min(CONFUSED, int((mistakes > 0).sum()) or 1)])
    counts = np.array([[int(((truth == row) & (answered == column)).sum()) for column in chosen] for row in chosen])
    return _table([names[i] for i in chosen], counts, "Confusion of the labels with the most mistakes")


def _table(names: list[str], counts: AnyArray, title: str) -> str:
    size = MARGIN + CELL * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        f'role="img" font-family="sans-serif" font-size="10"><title>{escape(title)}</title>',
        f'<text x="4" y="16" font-size="12" font-weight="bold">{escape(title)}</text>',
    ]
    for row, name in enumerate(names):
        middle = MARGIN + CELL * row + 12
        parts.append(f'<text x="{MARGIN - 6}" y="{middle}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text transform="translate({middle} {MARGIN - 6}) rotate(-60)">{escape(name)}</text>')
        most = max(1, int(counts[row].sum()))
        for column, count in enumerate(counts[row]):
            colour = "#0b6bcb" if row == column else "#d1495b"
            x, y = MARGIN + CELL * column, MARGIN + CELL * row
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{colour}" '
                f'fill-opacity="{0.05 + 0.75 * count / most:.2f}"/>'
            )
            if count:
                parts.append(f'<text x="{x + CELL / 2 - 0.5}" y="{y + 12}" text-anchor="middle">{count}</text>')
    return "".join([*parts, "</svg>"])


def _thin(x: AnyArray, y: AnyArray) -> list[tuple[float, float]]:
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    return [(float(x[i]), float(y[i])) for i in rows]
