"""Last resort for required parameters: words of the request that nothing else took, each checked for type and form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from graph.plan import Value
from router.planners.fitting import cast, cue_of, fit
from router.planners.phrases import bare, listed, phrases
from router.planners.references import identifies
from router.planners.toolset import Parameter, Tool
from router.planners.values import mentions
from router.planners.words import stems, told

LEFT = 0.6
"""Fit from which a value that no parameter took goes to one that is still missing."""
READ = 4000
"""Characters of a text that are read."""
WORTH = 0.4
"""Score from which a plain noun phrase is taken for a parameter."""
_FORMULA = re.compile(
    r"(?:\b\w+\s*\(\s*\w+\s*\)\s*=\s*)?(?<![\w.])[-+]?[\w.()]{0,60}(?:\s*[-+*/^]{1,2}\s*[-+]?(?:\d[\w.()^]*|\w{1,4}\([^()]*\)|[a-z]\b[\w.()^]*|\([^()]*\)))+"
)
_FORMULAS = re.compile(r"(?i)function|equation|expression|formula|polynomial|integrand")
_STATED = re.compile(
    r"(?i)\b(?:path|url|link|file|image|audio|video|html|json|xml|token|base64|password|timestamp|e-?mail|phone|dates?|time|filters?)\b"
)

_MONEY = re.compile(
    r"(?i)(?P<cue>\b(?:in|to|into)\s+)?(?P<name>\b(?:(?:us|american|canadian|australian|british|japanese|swiss|indian|"
    r"chinese|mexican|norwegian|swedish|danish)\s+)?(?:dollars?|euros?|pounds?(?: sterling)?|yen|yuan|rupees?|francs?|"
    r"kron(?:er|or|a|e)|pesos?|won|zlotys?|reais)\b)"
)
_INTO = re.compile(r"(?i)(?:^|_)(?:to|target|dest\w*|quote|into|converted)(?:_|$)")


def complete(tool: Tool, text: str, arguments: Mapping[str, Value], missing: Iterable[Parameter]) -> dict[str, Value]:
    """Return arguments with what the text still offers for missing parameters; what it does not offer stays missing."""
    found, text = dict(arguments), text[:READ]
    lacking = [item for item in missing if item.name not in found and not identifies(item)]
    said = {str(value).lower() for value in found.values()}
    left = [item for item in mentions(text) if str(item.value).lower() not in said]
    pairs = [
        (score, order, position, item, mention)
        for order, item in enumerate(lacking)
        if item.type in ("string", "integer", "number", "any") and not item.choices and not _formula(item, text)
        for position, mention in enumerate(left)
        if (score := fit(item, mention, order, tool)) >= LEFT
    ]
    spent: set[int] = set()
    for _, _, position, item, mention in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if item.name not in found and position not in spent:
            found[item.name] = cast(item, mention.value)
            spent.add(position)
    taken = [(left[position].start, left[position].end) for position in spent]
    taken += [(m.start, m.end) for m in mentions(text) if str(m.value).lower() in said]
    for item in lacking:
        if item.name not in found:
            value = _worded(item, tool, text, taken)
            if value is not None:
                found[item.name] = value
    return {item.name: found[item.name] for item in tool.parameters if item.name in found}


def _worded(item: Parameter, tool: Tool, text: str, taken: list[tuple[int, int]]) -> Value | None:
    """Read a parameter's value from plain words, and mark them as taken."""
    if item.choices:
        return _chosen(item, text)
    if item.type == "array":
        return _array(item, tool, text, taken)
    if (written := _formula(item, text)) is not None:
        return written
    if item.type not in ("string", "any") or _STATED.search(item.name.replace("_", " ")):
        return None
    return _currency(item, tool, text) or _phrase(item, tool, text, taken)


def _currency(item: Parameter, tool: Tool, text: str) -> str | None:
    """Return the currency that a text names in words: the one behind "into", or the other, by the parameter's name."""
    if not re.search(r"(?i)currenc|exchange", f"{tool.name} {tool.description} {item.name}"):
        return None
    into = _INTO.search(item.name) is not None
    return next((match["name"] for match in _MONEY.finditer(text) if (match["cue"] is not None) == into), None)


def _formula(item: Parameter, text: str) -> str | None:
    """Return the longest formula of a text for a parameter that is named after one."""
    if item.type != "string" or not _FORMULAS.search(item.name):
        return None
    found = max((match[0].strip() for match in _FORMULA.finditer(text)), key=len, default="")
    return found or None


def _chosen(item: Parameter, text: str) -> Value | None:
    """Return the choice whose words the text has, by stem; none where two come as near."""
    said = set(stems(text))
    near = sorted(((len(set(stems(str(value))) & said), str(value), value) for value in item.choices), reverse=True)
    if not near or near[0][0] == 0 or (len(near) > 1 and near[1][0] == near[0][0]):
        return None
    return near[0][2]


def _array(item: Parameter, tool: Tool, text: str, taken: list[tuple[int, int]]) -> Value | None:
    for run in listed(text):
        if all(_free(phrase.start, phrase.end, taken) for phrase in run):
            taken += [(phrase.start, phrase.end) for phrase in run]
            return [phrase.text for phrase in run]
    left = [m for m in mentions(text) if m.kind != "list" and _free(m.start, m.end, taken)]
    if left:
        taken.append((left[0].start, left[0].end))
        return [left[0].value]
    one = _phrase(item, tool, text, taken)
    return None if one is None else [one]


def _phrase(item: Parameter, tool: Tool, text: str, taken: list[tuple[int, int]]) -> str | None:
    """Return the noun phrase that fits a parameter best, by the preposition before it and the words it shares."""
    names = stems(item.name)
    own = {word for text in (tool.name, tool.description, *(p.name for p in tool.parameters)) for word in told(text)}
    described = told(item.description)
    best: tuple[float, int, str] | None = None
    for phrase in phrases(text):
        value = bare(phrase.text, names)
        words = set(stems(value))
        if (
            value.lower().endswith("ing")
            or not words
            or words <= own | set(names)
            or not _free(phrase.start, phrase.end, taken)
        ):
            continue
        score = 0.5 + cue_of(item, phrase.cue) + (0.6 if value != phrase.text else 0.0)
        score += 0.2 * bool(words & described) - 0.6 * len(words & own) / len(words) + 0.15 * bool(phrase.cue)
        if best is None or score > best[0] + 1e-9:
            best = score, phrase.start, value
    if best is None or best[0] < WORTH:
        return None
    taken.append((best[1], best[1] + len(best[2])))
    return best[2]


def _free(start: int, end: int, taken: Collection[tuple[int, int]]) -> bool:
    return all(end <= left or start >= right for left, right in taken)
