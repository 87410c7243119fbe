"""What the registration gate makes of a comparison: thresholds, and reasons in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from router.confusion import CONFIDENCE, Confusion, standard_error

if TYPE_CHECKING:
    from router.gate import GateReport, Recent

Verdict: TypeAlias = Literal["apply", "flag", "refuse"]
ROWS_MIN = 20
"""Held-out requests below which shares of all of them decide nothing: one request would be too much."""
RECENT_MIN = 50
"""Recent requests below which their shares decide nothing."""
OWN_MIN = 3
"""Held-out requests that both of two nodes must have before one is refused for the other's sake."""
FLIPS_MIN = 2
"""Negative flips below which their share decides nothing."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of the gate. Overlaps and flips count as far as they are sure (`CONFIDENCE`)."""

    refuse_overlap: float = 0.5
    """Refuse a node whose requests and an existing node's overlap by more (0: never confused, 1: a toss of a coin)."""
    flag_overlap: float = 0.2
    refuse_flips: float = 0.15
    """Refuse a node that costs more than this share of the held-out requests their right node."""
    flag_flips: float = 0.05
    flag_calibration: float = 0.1
    """Flag a rise of the expected calibration error above this."""
    flag_out_of_scope: float = 0.1
    """Flag a rise of the share of requests that are called out of scope above this."""
    flag_recent: float = 0.1
    """Flag when more than this share of recent requests would move between nodes other than the changed one."""


def judge(report: GateReport, limits: Thresholds) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a comparison and every reason for it, gravest first."""
    found = [*_overlaps(report, limits), *_flips(report, limits), *_figures(report, limits)]
    if report.recent is not None and report.recent.texts >= RECENT_MIN:
        found += _recent(report.recent, limits)
    found.sort(key=lambda item: item[0] != "refuse")
    verdict: Verdict = found[0][0] if found else "apply"
    return verdict, tuple(reason for _, reason in found)


def _overlaps(report: GateReport, limits: Thresholds) -> Iterator[tuple[Verdict, str]]:
    for item in report.confusion:
        enough = min(item.rows, report.own_rows) >= OWN_MIN
        if enough and item.shared > limits.refuse_overlap * report.own_rows:
            said = f"{item.shared} of {report.own_rows} held-out requests of {report.node!r} are {item.node!r}'s, too"
            yield "refuse", f"{said}, word for word (refused above gate_refuse_overlap = {limits.refuse_overlap:g})"
        elif enough and max(item.certain, item.mixed_certain) > limits.refuse_overlap:
            limit = f"refused above gate_refuse_overlap = {limits.refuse_overlap:g}"
            yield "refuse", f"{_pair(report, item)}: they can hardly be told apart ({_overlap(item)}, {limit})"
        elif max(item.certain, item.mixed_certain) > limits.flag_overlap:
            limit = f"flagged above gate_flag_overlap = {limits.flag_overlap:g}"
            yield "flag", f"{_pair(report, item)} ({_overlap(item)}, {limit})"


def _pair(report: GateReport, item: Confusion) -> str:
    new, old = report.node, item.node
    taken = f"{item.taken:.0%} of {item.rows} held-out requests of {old!r} are nearest to {new!r}"
    if not report.own_rows:
        return taken
    return f"{taken} and {item.given:.0%} of {report.own_rows} of {new!r} nearest to {old!r}"


def _overlap(item: Confusion) -> str:
    if item.certain >= item.mixed_certain:
        return f"overlap {item.overlap:.2f}, surely {item.certain:.2f}"
    return f"mixed {item.mixed:.2f}, surely {item.mixed_certain:.2f}"


def _flips(report: GateReport, limits: Thresholds) -> Iterator[tuple[Verdict, str]]:
    if report.rows < ROWS_MIN or report.flips < FLIPS_MIN:
        return
    share = report.flips / report.rows
    certain = share - CONFIDENCE * standard_error(report.flips, report.rows)
    words = (
        f"{report.flips} of {report.rows} held-out requests ({share:.1%}) lose the right node that they get "
        f"now (accuracy {report.live.accuracy:.1%} to {report.candidate.accuracy:.1%}"
    )
    if certain > limits.refuse_flips:
        yield "refuse", f"{words}; refused above gate_refuse_flips = {limits.refuse_flips:g})"
    elif certain > limits.flag_flips:
        yield "flag", f"{words}; flagged above gate_flag_flips = {limits.flag_flips:g})"


def _figures(report: GateReport, limits: Thresholds) -> Iterator[tuple[Verdict, str]]:
    if report.rows < ROWS_MIN:
        return
    live, new = report.live, report.candidate
    for name, before, after, setting in (
        ("the calibration error", live.calibration_error, new.calibration_error, "flag_calibration"),
        ("the share of held-out requests called out of scope", live.out_of_scope, new.out_of_scope,
         "flag_out_of_scope"),
    ):  # fmt: skip
        limit: float = getattr(limits, setting)
        if before is not None and after is not None and after - before > limit:
            yield "flag", f"{name} rises from {before:.3f} to {after:.3f} (flagged above gate_{setting} = {limit:g})"


def _recent(recent: Recent, limits: Thresholds) -> Iterator[tuple[Verdict, str]]:
    if recent.moved > limits.flag_recent:
        yield (
            "flag",
            (
                f"{recent.moved:.1%} of {recent.texts} recent requests would move between other nodes "
                f"(flagged above gate_flag_recent = {limits.flag_recent:g})"
            ),
        )
    before, after = recent.live_out_of_scope, recent.candidate_out_of_scope
    if after - before > limits.flag_out_of_scope:
        yield (
            "flag",
            f"the share of recent requests called out of scope rises from {before:.1%} to {after:.1%} "
            f"(flagged above gate_flag_out_of_scope = {limits.flag_out_of_scope:g})",
        )
