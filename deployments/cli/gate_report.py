"""Shows what the registration gate says of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from deployments.cli.console import styled, write_table

STYLES = {"apply": "green", "flag": "yellow", "refuse": "bold red"}
SHOWN = 5
"""Existing nodes that are shown, the most confused first."""


def write_report(target: Console, name: str, report: Mapping[str, Any] | None) -> None:
    """Write the verdict, the reasons for it, and the figures behind."""
    if not report:
        return
    verdict = str(report.get("verdict"))
    said = styled(f"gate: {name}: ").append_text(styled(verdict, STYLES.get(verdict, "dim")))
    target.print(said, soft_wrap=True)
    for reason in report.get("reasons") or ():
        target.print(styled(f"  {reason}"), soft_wrap=True)
    live, candidate = report.get("live"), report.get("candidate")
    if not live or not candidate:
        return
    figures = ("accuracy", "calibration_error", "out_of_scope")
    rows = [(key.replace("_", " "), _percent(live.get(key)), _percent(candidate.get(key))) for key in figures]
    rows.append(("negative flips", "", f"{report.get('flips')} of {report.get('rows')}"))
    write_table(target, ("held-out requests", "now", "with it"), rows)
    pairs = [
        (str(item["node"]), _percent(item["taken"]), _percent(item["given"]), f"{item['overlap']:.2f}")
        for item in report.get("confusion", ())[:SHOWN]
    ]
    write_table(target, ("existing node", f"its to {name}", f"{name}'s to it", "overlap"), pairs)
    if recent := report.get("recent"):
        target.print(
            styled(
                f"  of {recent['texts']} recent requests {_percent(recent['taken'])} would go to {name}, "
                f"{_percent(recent['moved'])} would move between others; out of scope "
                f"{_percent(recent['live_out_of_scope'])} now, {_percent(recent['candidate_out_of_scope'])} with it"
            ),
            soft_wrap=True,
        )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
