"""The values that a text gives to each parameter of a tool, in order: more than one for some asks for several calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from router.planners.fitting import CONTENT, TOLD, evidence, fit
from router.planners.phrases import CUES, bare, listed
from router.planners.siblings import siblings
from router.planners.toolset import Parameter, Tool
from router.planners.values import Mention, chosen, mentions, runs
from router.planners.words import STOP, stem, stems, told

MEANT = 1.0
"""Fit from which a value is taken for a parameter."""
BREAK = re.compile(r"(?i)[.;?!,]\s+|\s(?:and|then|while|whereas|as well as|or|versus|vs)\s+")
_ANEW = re.compile(r"(?i)[.;?!]\s|\b(?:then|also|another|again|same|repeat\w*|ones?|other|second|finally|lastly)\b")
"""What says that something is asked once more."""
PAIRED = re.compile(r"(?i)\brespectively\b")


@dataclass(slots=True)
class Column:
    """The values that a text gives to one parameter, in order."""

    item: Parameter
    values: list[Mention]
    run: bool
    """Whether one list holds them all."""


def columns_of(tool: Tool, text: str) -> list[Column]:
    """Give the values of a text to the parameters that take one value each, and its lists to those that take lists."""
    scalars = [item for item in tool.parameters if item.type not in ("array", "object", "boolean")]
    found: dict[str, Column] = {}
    spent: list[tuple[int, int]] = []
    for item in scalars:
        values = _chosen(item, text)
        if len({str(value.value) for value in values}) > 1 and BREAK.search(text, values[0].end, values[1].start + 1):
            found[item.name] = Column(item, values, True)
            spent += [(value.start, value.end) for value in values]
    known = [m for m in mentions(text) if m.kind != "list" and _free(m, spent)]
    lists = [run for run in runs(known, text) if re.search(r"(?i)\b(?:and|or)\b|&", text[run[-2].end : run[-1].start])]
    for run in [*lists, *_plain_runs(tool, text, known)]:
        if not all(_free(m, spent) for m in run):
            continue
        columns = _of_run(tool, [item for item in scalars if item.name not in found], run)
        found |= columns
        if columns or _listed(tool):
            spent += [(m.start, m.end) for m in run]
    for mention in known:
        if _free(mention, spent):
            _place(tool, scalars, mention, found, text)
    return [*found.values(), *_arrays(tool, text)]


def _chosen(item: Parameter, text: str) -> list[Mention]:
    """Return the choices of a parameter that a text names: each once, unless it pairs them with other values."""
    values = chosen(item.choices, text) if item.choices else []
    if PAIRED.search(text):
        return values
    return sorted({str(value.value): value for value in values}.values(), key=lambda value: value.start)


def _of_run(tool: Tool, scalars: Sequence[Parameter], run: Sequence[Mention]) -> dict[str, Column]:
    """Return the columns that a list of values makes: of siblings in turn, or of one parameter; none if of neither."""
    if pairs := _in_turn(scalars, run):
        return pairs
    column = _of_one(tool, scalars, run)
    return {} if column is None else {column.name: Column(column, list(run), True)}


def _in_turn(scalars: Sequence[Parameter], run: Sequence[Mention]) -> dict[str, Column]:
    """Return the columns of siblings that a list gives values in turn, more than once: "3 and 4, 5 and 12"."""
    numeric = [item for item in scalars if item.required and item.type in ("integer", "number")]
    family = [item for item in numeric if item is numeric[0] or siblings(item, numeric[0])]
    width = len(family)
    if width < 2 or len(run) < 2 * width or len(run) % width or run[0].kind != "number":
        return {}
    return {item.name: Column(item, list(run[place::width]), False) for place, item in enumerate(family)}


def _arrays(tool: Tool, text: str) -> Iterator[Column]:
    """Yield the columns of parameters that take a list each, where a text spells out lists for more than one call."""
    arrays = [item for item in tool.parameters if item.type == "array" and item.required]
    written = [m for m in mentions(text) if m.kind == "list"]
    nested = any(text[m.start - 1 : m.start] == "[" for m in written)
    if not arrays or nested or len(written) < 2 * len(arrays) or len(written) % len(arrays):
        return
    for place, item in enumerate(arrays):
        yield Column(item, written[place :: len(arrays)], False)


def _place(tool: Tool, scalars: Sequence[Parameter], mention: Mention, found: dict[str, Column], text: str) -> None:
    """Give a value to the parameter that it fits best: to one that has none yet before one that has."""
    scored = [(fit(item, mention, order, tool), item) for order, item in enumerate(scalars) if _admits(item, mention)]
    top, best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    if best is None or top < MEANT:
        return
    counts = {item.name: len(found[item.name].values) if item.name in found else 0 for item in scalars}
    family = [item for _, item in scored if siblings(item, best) and item.required]
    behind = min((item for item in family), key=lambda item: counts[item.name], default=best)
    for score, item in scored:
        if score >= top - 0.3 and score >= MEANT and not counts[item.name] and counts[best.name]:
            best = item
            break
    if counts[behind.name] < counts[best.name]:  # of siblings ("number1", "number2") each has its turn
        best = behind
    if best.name not in found:
        found[best.name] = Column(best, [mention], False)
        return
    column = found[best.name]
    turn = any(counts[item.name] > counts[best.name] for item in family)
    neighbour = max(
        (value for value in column.values if value.start < mention.start), key=lambda v: v.start, default=None
    )
    first, second = (mention, column.values[0]) if neighbour is None else (neighbour, mention)
    if turn or _again(tool, best, first, second, text):
        column.values.append(mention)
        column.values.sort(key=lambda value: value.start)
        column.run = False


def _again(tool: Tool, item: Parameter, first: Mention, second: Mention, text: str) -> bool:
    """Whether a parameter is given again, rather than a value said in passing.

    Something parts the two, and they are said in the same way: after the same words, or in the same unit.
    """
    between = text[first.end : second.start + 1]
    if first.kind != second.kind or not BREAK.search(between):
        return False
    alone = not any(siblings(item, other) for other in tool.parameters)
    if str(first.value).lower() == str(second.value).lower() and alone:
        return False
    anew = _ANEW.search(between) is not None
    if first.kind in ("number", "date", "time"):
        labels = [
            {stem(word) for word in {*m.before[-4:], *m.after[:2], m.unit} - STOP - {""}} for m in (first, second)
        ]
        numeric = [other for other in tool.parameters if other.type in ("integer", "number")]
        bare_or_round = not (labels[0] or labels[1]) or (not alone and item.required)
        return bool(labels[0] & labels[1]) or bare_or_round or (anew and len(numeric) == 1)
    if first.kind == "quoted":
        return True
    cues = [_cue_word(m) for m in (first, second)]
    if cues[0] and cues[1] and (anew or cues[0] == cues[1]):
        return True
    return evidence(item, second) >= TOLD and evidence(item, first) >= TOLD


def _cue_word(mention: Mention) -> str:
    """Return the preposition before a value, or nothing."""
    return next((word for word in reversed(mention.before[-2:]) if word in CUES), "")


def _free(mention: Mention, spent: Sequence[tuple[int, int]]) -> bool:
    return all(mention.end <= start or mention.start >= end for start, end in spent)


def _admits(item: Parameter, mention: Mention) -> bool:
    return not item.choices or str(mention.value).lower() in {str(choice).lower() for choice in item.choices}


def _of_one(tool: Tool, scalars: Sequence[Parameter], run: Sequence[Mention]) -> Parameter | None:
    """Return the one parameter that all values of a list are for; None where they are values of one each."""
    fits = {
        order: [fit(item, m, order, tool) for m in run]
        for order, item in enumerate(scalars)
        if all(_admits(item, m) for m in run)
    }
    fitting = [order for order, own in fits.items() if min(own) >= MEANT - 0.1 and max(own) >= MEANT]
    if not fitting and not _listed(tool):  # an optional one that alone can take them: "in Oslo, Bergen and Rome"
        likely = [order for order, own in fits.items() if max(own) >= MEANT and min(own) > MEANT / 2]
        fitting = likely if len(likely) == 1 else []
    required = [order for order in fitting if scalars[order].required] or fitting
    if not required:
        return None
    ranked = sorted(required, key=lambda order: -max(fits[order]))
    best = scalars[ranked[0]]
    if any(_of_another(scalars, best, m) for m in run):
        return None
    family = 1 + sum(siblings(best, item) for item in tool.parameters)
    most = max(evidence(best, m) for m in run)
    if family >= len(run) or any(
        max(evidence(p, m) for m in run) >= most for p in tool.parameters if p.type == "array"
    ):
        return None
    clear = len(ranked) > 1 and max(fits[ranked[0]]) - max(fits[ranked[1]]) >= 0.4
    return best if len(required) == 1 or clear or len(scalars) < len(run) else None


def _of_another(scalars: Sequence[Parameter], best: Parameter, mention: Mention) -> bool:
    """Whether the words behind a value of a list name another parameter: "a payout of $100 and 50 shares"."""
    mention = replace(mention, before=())
    others = (evidence(item, mention) for item in scalars if item is not best and item.required)
    return max(others, default=0.0) >= max(evidence(best, mention) + 0.3, TOLD)


def _listed(tool: Tool) -> bool:
    """Whether a list may be the value of a parameter that takes a whole list."""
    return any(item.type == "array" for item in tool.parameters)


def _plain_runs(tool: Tool, text: str, known: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Yield lists of plain words after a preposition, as mentions, for a parameter that takes words.

    It is the one whose name stands before the list ("with resistivity of copper and tin"), or the only required one.
    """
    texts = [item for item in tool.parameters if item.type == "string" and not item.choices]
    needed = [item for item in texts if item.required]
    if len(needed) != 1 or CONTENT.search(needed[0].name):
        needed = []
    own = told(tool.name) | told(tool.description)
    spans = [(m.start, m.end) for m in known if m.kind != "proper"]
    for run in listed(text):
        lead = stems(text[: run[0].start])[-2:]
        named = [item for item in texts if item.name and told(item.name) <= set(lead)]
        if len(named or needed) != 1:
            continue
        names = stems((named or needed)[0].name)
        before = (*names, run[0].cue) if named else (run[0].cue,)
        free = all(phrase.end <= start or phrase.start >= end for phrase in run for start, end in spans)
        meant = not any(set(stems(phrase.text)) <= own for phrase in run)
        if free and meant and run[0].cue and re.search(r"(?i)\b(?:and|or)\b|&", text[run[-2].end : run[-1].start]):
            yield [Mention("proper", bare(p.text, names), p.start, p.end, before, ()) for p in run]
