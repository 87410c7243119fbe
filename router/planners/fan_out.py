"""How often one part of a request calls its tool: "the weather in Rome, Oslo and Bern" is three calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, product

from graph.plan import Value
from router.planners.fitting import CONTENT, TOLD, cast, evidence, fit
from router.planners.phrases import CUES, bare, listed
from router.planners.siblings import siblings
from router.planners.toolset import Parameter, Tool
from router.planners.values import Mention, chosen, mentions, runs
from router.planners.words import STOP, stems

MAX_CALLS = 64
MAX_LENGTH = 4000
"""Characters from which a text is material to work on: it is one call."""
MEANT = 1.0
"""Fit from which a value is taken for a parameter."""
_BREAK = re.compile(r"(?i)[.;?!,]\s+|\s(?:and|then|while|whereas|as well as|or|versus|vs)\s+")
_ANEW = re.compile(r"(?i)[.;?!]\s|\b(?:then|also|another|again|same|repeat\w*|ones?|other|second|finally|lastly)\b")
"""What says that something is asked once more."""
_PAIRED = re.compile(r"(?i)\brespectively\b")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a text asks for."""

    text: str
    """The words that speak of this call."""
    values: dict[str, Value] = field(default_factory=dict)
    """What is known of its arguments because the text asks for several calls."""


@dataclass(slots=True)
class _Column:
    """The values that a text gives to one parameter, in order."""

    item: Parameter
    values: list[Mention]
    run: bool
    """Whether one list holds them all."""


def fan_out(tool: Tool, text: str) -> list[Asked]:
    """Return the calls that a text asks of a tool: more than one where it gives a parameter more than one value.

    Of two lists, every item of one goes with every item of the other, unless the text says "respectively". Where a
    parameter is given again ("a circle of radius 5 and another of radius 10") values go together in order. What is
    said once is shared. Of more than `MAX_CALLS` in a list it returns one more than that, for the caller to refuse.
    """
    columns = _columns(tool, text) if len(text) <= MAX_LENGTH else []
    several = [column for column in columns if len(column.values) > 1]
    if not several:
        return [Asked(text)]
    picks = _picks(several, text)
    listed_ones = all(column.run for column in several)  # others may be no more than a text with many names in it
    if len(picks) < 2 or (len(picks) > MAX_CALLS and not listed_ones):
        return [Asked(text)]
    shared = {c.item.name: cast(c.item, c.values[0].value) for c in columns if len(c.values) == 1}
    pieces = _pieces(several, picks, text, by_piece=any(item.type == "array" for item in tool.parameters))
    return [
        Asked(
            piece, shared | {c.item.name: cast(c.item, c.values[i].value) for c, i in zip(several, pick, strict=True)}
        )
        for pick, piece in zip(picks, pieces, strict=True)
    ]


def _picks(several: Sequence[_Column], text: str) -> list[tuple[int, ...]]:
    """Return for each call which value of each column it has."""
    if all(column.run for column in several) and (len(several) == 1 or not _PAIRED.search(text)):
        return list(islice(product(*(range(len(column.values)) for column in several)), MAX_CALLS + 1))
    longest = max(several, key=lambda column: len(column.values))
    found = []
    for index, anchor in enumerate(longest.values):
        pick = []
        for column in several:
            before = [i for i, value in enumerate(column.values) if value.start <= anchor.start]
            aligned = len(column.values) == len(longest.values)
            pick.append(index if aligned else max(before, default=0))
        found.append(tuple(pick))
    return found


def _pieces(several: Sequence[_Column], picks: Sequence[tuple[int, ...]], text: str, *, by_piece: bool) -> list[str]:
    """Return the words that speak of each call: its own part of the text, or all of it without the others' values."""
    longest = max(several, key=lambda column: len(column.values))
    if by_piece and not longest.run and len(picks) == len(longest.values):
        starts = [0]
        for one, two in pairwise(longest.values):
            breaks = [match.end() for match in _BREAK.finditer(text, one.end, two.start)]
            starts.append(breaks[-1] if breaks else one.end)
        return [text[start:end].strip() for start, end in pairwise([*starts, len(text)])]
    found = []
    for pick in picks:
        cuts: list[tuple[int, int, str]] = []
        for column, index in zip(several, pick, strict=True):
            own = column.values[index]
            if column.run:
                cuts.append((column.values[0].start, column.values[-1].end, text[own.start : own.end]))
            else:
                cuts += [(value.start, value.end, "") for value in column.values if value is not own]
        words = text
        for start, end, kept in sorted(cuts, reverse=True):
            words = words[:start] + kept + words[end:]
        found.append(_PAIRED.sub("", words))
    return found


def _columns(tool: Tool, text: str) -> list[_Column]:
    """Give the values of a text to the parameters that take one value each."""
    scalars = [item for item in tool.parameters if item.type not in ("array", "object", "boolean")]
    found: dict[str, _Column] = {}
    spent: list[tuple[int, int]] = []
    for item in scalars:
        values = chosen(item.choices, text) if item.choices else []
        if len({str(value.value) for value in values}) > 1 and _BREAK.search(text, values[0].end, values[1].start + 1):
            found[item.name] = _Column(item, values, True)
            spent += [(value.start, value.end) for value in values]
    known = [m for m in mentions(text) if m.kind != "list" and _free(m, spent)]
    lists = [run for run in runs(known, text) if re.search(r"(?i)\b(?:and|or)\b|&", text[run[-2].end : run[-1].start])]
    for run in [*lists, *_plain_runs(tool, text, known)]:
        if not all(_free(m, spent) for m in run):
            continue
        column = _of_one(tool, [item for item in scalars if item.name not in found], run)
        if column is not None:
            found[column.name] = _Column(column, list(run), True)
        if column is not None or _listed(tool, run):
            spent += [(m.start, m.end) for m in run]
    for mention in known:
        if _free(mention, spent):
            _place(tool, scalars, mention, found, text)
    return list(found.values())


def _place(tool: Tool, scalars: Sequence[Parameter], mention: Mention, found: dict[str, _Column], text: str) -> None:
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
        found[best.name] = _Column(best, [mention], False)
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
    if first.kind != second.kind or not _BREAK.search(between):
        return False
    alone = not any(siblings(item, other) for other in tool.parameters)
    if str(first.value).lower() == str(second.value).lower() and alone:
        return False
    anew = _ANEW.search(between) is not None
    if first.kind in ("number", "date", "time"):
        labels = [{*m.before[-4:], *m.after[:2], m.unit} - STOP - {""} for m in (first, second)]
        numeric = [other for other in tool.parameters if other.type in ("integer", "number")]
        bare_or_round = not (labels[0] or labels[1]) or (not alone and item.required)
        return bool(labels[0] & labels[1]) or bare_or_round or (anew and len(numeric) == 1)
    if first.kind == "quoted":
        return True
    cues = [cue_word(m) for m in (first, second)]
    if cues[0] and cues[1] and (anew or cues[0] == cues[1]):
        return True
    return evidence(item, second) >= TOLD and evidence(item, first) >= TOLD


def cue_word(mention: Mention) -> str:
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
    required = [order for order in fitting if scalars[order].required] or fitting
    if not required:
        return None
    ranked = sorted(required, key=lambda order: -max(fits[order]))
    best = scalars[ranked[0]]
    family = 1 + sum(siblings(best, item) for item in tool.parameters)
    told = max(evidence(best, m) for m in run)
    if family >= len(run) or any(
        max(evidence(p, m) for m in run) >= told for p in tool.parameters if p.type == "array"
    ):
        return None
    clear = len(ranked) > 1 and max(fits[ranked[0]]) - max(fits[ranked[1]]) >= 0.4
    return best if len(required) == 1 or clear or len(scalars) < len(run) else None


def _listed(tool: Tool, run: Sequence[Mention]) -> bool:
    """Whether a list is the value of a parameter that takes a whole list."""
    return any(item.type == "array" for item in tool.parameters)


def _plain_runs(tool: Tool, text: str, known: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Yield lists of plain words after a preposition, as mentions, for the only parameter that takes words."""
    texts = [item for item in tool.parameters if item.type == "string" and item.required and not item.choices]
    if len(texts) != 1 or CONTENT.search(texts[0].name):
        return
    names, own = stems(texts[0].name), set(stems(tool.name)) | set(stems(tool.description))
    spans = [(m.start, m.end) for m in known if m.kind != "proper"]
    for run in listed(text):
        free = all(phrase.end <= start or phrase.start >= end for phrase in run for start, end in spans)
        meant = not any(set(stems(phrase.text)) <= own for phrase in run)
        if free and meant and run[0].cue and re.search(r"(?i)\b(?:and|or)\b|&", text[run[-2].end : run[-1].start]):
            yield [Mention("proper", bare(p.text, names), p.start, p.end, (run[0].cue,), ()) for p in run]
