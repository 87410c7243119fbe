"""Line charts as SVG, and pages of HTML that hold them: files that need nothing else to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 64, 48, 36, 16
COLOURS = ("#0b6bcb", "#d1495b", "#3a7d44", "#8a5a9e", "#b8860b", "#444444")
TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one group of points, of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y)."""
    dots: bool = False
    """Whether the points stand alone."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a chart's values lie on the paper."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)


def line_chart(title: str, across: str, up: str, series: Sequence[Series]) -> str:
    """Return a chart as SVG; `across` and `up` name what the axes show. Axes fit the points."""
    points = [point for item in series for point in item.points]
    frame = _Frame(_range([x for x, _ in points]), _range([y for _, y in points]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        *_axes(frame, across, up),
    ]
    for index, item in enumerate(series):
        parts += _drawn(frame, item, COLOURS[index % len(COLOURS)], index)
    return "".join([*parts, "</svg>"])


def page(title: str, figures: Mapping[str, object], charts: Sequence[str]) -> str:
    """Return an HTML page with a table of figures and charts below it."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_shown(value))}</td></tr>" for name, value in figures.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>'
        "body{font-family:sans-serif;max-width:42rem;margin:2rem auto;color:#222}th{text-align:left;padding-right:1rem}"
        f"svg{{max-width:100%;height:auto}}</style><h1>{escape(title)}</h1><table>{rows}</table>"
        f"{''.join(f'<figure>{chart}</figure>' for chart in charts)}</html>\n"
    )


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axes(frame: _Frame, across: str, up: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#888"/>']
    for step in range(TICKS + 1):
        x = frame.x[0] + (frame.x[1] - frame.x[0]) * step / TICKS
        y = frame.y[0] + (frame.y[1] - frame.y[0]) * step / TICKS
        at, _ = frame.place((x, y))
        _, height = frame.place((x, y))
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{x:.3g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{y:.3g}</text>')
        parts.append(f'<path d="M{LEFT} {height:.1f}H{right}" stroke="#eee"/>')
    middle = (TOP + bottom) / 2
    return [
        *parts,
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(up)}</text>',
    ]


def _drawn(frame: _Frame, series: Series, colour: str, index: int) -> list[str]:
    placed = [frame.place(point) for point in series.points]
    y = TOP + 14 + 16 * index
    label = f'<text x="{WIDTH - RIGHT - 8}" y="{y}" text-anchor="end" fill="{colour}">{escape(series.name)}</text>'
    if series.dots:
        return [label, *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dash = ' stroke-dasharray="5 4"' if series.dashed else ""
    return [label, f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
