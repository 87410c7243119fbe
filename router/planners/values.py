# ruff: noqa: RUF001  # typographic quotes are meant

"""Finds the values that a request names: quoted texts, numbers, dates, addresses, proper names, lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = r"(?:\d{1,2}:\d{2}(?::\d{2})?(?:\s*[ap]\.?m\b\.?)?|\d{1,2}\s*[ap]\.?m\b\.?|noon\b|midnight\b)"
_DAY = (
    rf"(?:\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}})?)?|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}"
    rf"|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}})?|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b(?:,?\s+\d{{4}})?"
    rf"|{_MONTH}\s+\d{{4}}|today|tomorrow|tonight|yesterday"
    r"|(?:next|this|coming)\s+(?:week(?:end)?|month|year|(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?)\b"
)
_REGIONS = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|"
    "Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|"
    "Montana|Nebraska|Nevada|New (?:Hampshire|Jersey|Mexico)|North Carolina|Ohio|Oklahoma|Oregon|Pennsylvania|"
    "Rhode Island|South Carolina|Tennessee|Texas|Utah|Vermont|Virginia|Wisconsin|USA|England|France|Germany|Italy|"
    "Spain|Japan|China|India|Canada|Australia"
)
_BEHIND = rf"{_REGIONS}|New York|Washington|[A-Z]{{2}}"
"""What follows the name of a town behind a comma; a list of regions begins with one."""
_PROPER = (
    rf"(?:{_REGIONS})(?=\s*,)|[A-Z](?:[\w&'’-]|\.(?=\w))*(?:(?:\s+|,\s+(?=(?:{_BEHIND})\b)|"
    r",\s+(?=[A-Z][a-z]+(?:\s|[.?!]|$))(?![A-Z][\w ]*,?\s+(?:and|or)\s+[A-Z]))"
    r"(?:(?:of|de|the|&)\s+(?=[A-Z]))?(?:[A-Z](?:[\w&'’-]|\.(?=\w))*|\d+\b))*"
)
_LANGUAGES = (
    "English|French|German|Spanish|Italian|Portuguese|Chinese|Japanese|Korean|Russian|Arabic|Hindi|Dutch|Turkish|Polish|"
    "Swedish|Greek|Hebrew|Latin|Mandarin|Vietnamese|Thai|Danish|Norwegian|Finnish|Czech|Ukrainian|Urdu|Bengali|Indonesian"
)
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("list", r"\[[^\[\]\n]{0,2000}\]"),
    ("quoted", r"\"([^\"\n]{1,2000})\"|“([^“”]{1,2000})”|`([^`\n]+)`|"
     r"(?<![\w'’])'((?:[^'\n]|(?<=\w)'(?=\w)){1,500})'(?!\w)|(?<!\w)‘([^’\n]{1,500})’"),
    ("url", r"(?:https?://|www\.)[^\s'\"<>]*[^\s'\"<>.,;:!?)]"),
    ("email", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    ("date", rf"(?i:{_DAY})"),
    ("time", rf"(?i:{_TIME})"),
    ("phone", r"\+?\d{1,3}[-.\s]?\(?\d{3}\)?[-.\s]\d{3,4}(?:[-.\s]?\d{4})?\b|\+\d{8,14}\b|\b\d{3}-\d{4}\b"),
    ("file", r"(?<![\w/])(?:[\w-]{1,100}/){0,16}[\w-]{1,100}"
     r"\.(?:jpe?g|png|gif|wav|mp3|mp4|avi|mov|pdf|docx?|txt|csv|xlsx?|json|py|zip|html?)\b"),
    ("path", r"(?<![\w:/])/(?:[\w.-]+/)*[\w.-]+"),
    ("number", r"(?<![\w.^-])[-+]?[$€£¥]?\s?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE]-?\d+)?"
     r"(?=%|\b|(?:[a-zA-Z]{1,3})\b)(?![xyz](?:\b|\^)|[-:/]\d)"),
    ("language", rf"(?:{_LANGUAGES})\b"),
    ("code", r"\b(?=[A-Za-z-]{0,60}\d)(?=[\d-]{0,60}[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\b"),
    ("proper", f"(?:{_PROPER})"),
)  # fmt: skip
_ALL = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS))
_QUOTED_ONLY = re.compile(
    "|".join(f"(?:{pattern})" for kind, pattern in _PATTERNS if kind in ("list", "quoted", "url", "email"))
)
_START = frozenset(
    """i please can could what how why when where which who find get show give tell calculate generate create book send
    fetch translate search play check then after finally also and the a an is are do does provide make list convert
    schedule analyze retrieve encrypt add set using use help in for on additionally first second third next lastly my
    you we it if identify determine compute draw plot buy reserve record execute let order""".split()
)
_NUMBER_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "twenty": 20, "thirty": 30, "fifty": 50, "hundred": 100,
}  # fmt: skip
_WORDED = re.compile(
    r"(?i)\b(?<!first )(?<!second )(?<!third )(?<!last )(?<!other )(?<!this )(?<!that )(?<!which )one\b"
    r"|\b(?:" + "|".join(word for word in _NUMBER_WORDS if word != "one") + r")\b"
)
"""Numbers in letters; "the first one" is none."""
MOST = 400
"""Values of one text that are told apart: each is held against every parameter, and against others."""
_SCALE = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "k": 1e3}


@dataclass(frozen=True, slots=True)
class Mention:
    """A value in the words of a request."""

    kind: str
    value: Any
    start: int
    end: int
    before: tuple[str, ...]
    """Words before it, lower case, nearest last."""
    after: tuple[str, ...]
    """Words after it, nearest first."""
    unit: str = ""
    """`%` or `$` at a number."""
    spelt: bool = False
    """Whether a number is written in letters."""


def mentions(text: str) -> list[Mention]:
    """Find the first `MOST` values of a text, in order; those that overlap count once, the most certain form first."""
    # a list is copied: it becomes an argument, and what is kept is for every caller
    return [replace(item, value=[*item.value]) if item.kind == "list" else item for item in _mentions(text)]


@lru_cache(maxsize=64)  # one draft asks for the same few texts dozens of times
def _mentions(text: str) -> tuple[Mention, ...]:
    found = [item for match in islice(_matches(text), MOST) if (item := _mention(text, match)) is not None]
    taken = [(item.start, item.end) for item in found]
    found += [
        replace(_made(text, "number", _NUMBER_WORDS[match[0].lower()], match.start(), match.end()), spelt=True)
        for match in islice(_WORDED.finditer(text), MOST)
        if all(match.end() <= start or match.start() >= end for start, end in taken)
    ]
    return tuple(sorted(found, key=lambda item: item.start)[:MOST])


def _matches(text: str) -> Iterator[re.Match[str]]:
    """Yield what may be a value; a verb before a number ("Convert 100 euros") begins no name."""
    position = 0
    while match := _ALL.search(text, position):
        first, *others = match[0].split() if match.lastgroup == "proper" else ("",)
        if others and others[0].isdigit() and _begins(first):
            position = match.start() + len(first)
            continue
        yield match
        position = max(match.end(), match.start() + 1)


def _mention(text: str, match: re.Match[str]) -> Mention | None:
    kind, raw, start, end = str(match.lastgroup), match[0], match.start(), match.end()
    if kind == "quoted":
        return _made(text, kind, next(g for g in match.groups()[2:7] if g is not None), start, end)
    if kind == "list":
        return _made(text, kind, _list(raw), start, end)
    if kind == "number":
        return _number(text, raw, start, end)
    if kind == "date":
        return _made(text, kind, iso(raw), start, end)
    if kind == "proper":
        return _proper(text, raw, start)
    return _made(text, kind, raw, start, end)


def _proper(text: str, raw: str, start: int) -> Mention | None:
    """Leave out the word that only begins a sentence; "Case No 17" is the number."""
    words = raw.split()
    if len(words) > 1 and words[-1].isdigit() and words[-2].lower().strip(".") in ("no", "number", "id", "nr"):
        return _number(text, words[-1], start + raw.rindex(words[-1]), start + len(raw))
    sentence = start == 0 or re.search(r"[.!?:\n]\s*[\"']?$", text[:start]) is not None
    while words and _begins(words[0]) and (sentence or re.match(r"I\b", words[0]) or len(words) == 1):
        start += len(words[0])
        start += len(text[start:]) - len(text[start:].lstrip())
        words = words[1:]
    if not words or (sentence and len(words) == 1 and start == 0 and words[0].lower() not in text[1:].lower()):
        return None
    value = text[start : start + len(" ".join(words)) + 8]
    end = start + _extent(value, words)
    value = text[start:end].rstrip(".,'’ ")
    value = re.sub(r"['’]s$", "", value)
    return _made(text, "proper", value, start, start + len(value)) if value else None


def _begins(word: str) -> bool:
    """Whether a word only begins a sentence: "Find", "I", "I'm", "What's"."""
    word = word.lower().strip(".,'’")
    return word in _START or (re.search(r"['’]", word) is not None and re.split(r"['’]", word)[0] in _START)


def _extent(text: str, words: list[str]) -> int:
    position = 0
    for word in words:
        position = text.index(word, position) + len(word)
    return position


def _number(text: str, raw: str, start: int, end: int) -> Mention:
    start += len(raw) - len(raw.lstrip())
    if re.fullmatch(r"0\d+", raw.strip()):  # as a number it would lose its zeros
        return _made(text, "code", raw.strip(), start, end)
    digits = re.sub(r"[^\d.eE+-]", "", raw)
    value = float(digits)
    unit = "$" if re.search(r"[$€£¥]", raw) else ""
    scale = re.match(
        r"\s*((?i:thousand|million|billion)|k)\b" if not unit else r"(?i)\s*(thousand|million|billion|k)\b", text[end:]
    )
    if scale:
        value *= _SCALE[scale[1].lower()]
        end += scale.end()
    if re.match(r"\s*(?:%|percent)", text[end:]):
        unit = "%"
    elif re.match(r"(?i)\s*(?:dollars|usd|euros?|eur|yuan|pounds sterling)\b", text[end:]):
        unit = "$"
    shown: int | float = int(value) if value.is_integer() and "." not in digits else value
    return _made(text, "number", shown, start, end, unit)


def _made(text: str, kind: str, value: Any, start: int, end: int, unit: str = "") -> Mention:
    before = re.findall(r"[\w']+|[,;.](?=\s)", text[max(0, start - 60) : start].lower())[-7:]
    for index in reversed(range(len(before))):
        if before[index] in ("and", "or", ",", ";", ".", "but"):
            before = before[index + 1 :]
            break
    after = re.findall(r"[\w']+|[,;.](?=\s|$)", text[end : end + 40].lower())[:4]
    stop = next((i for i, word in enumerate(after) if word in ("and", "or", ",", ";", ".", "but")), len(after))
    return Mention(kind, value, start, end, tuple(before), tuple(after[:stop]), unit)


def chosen(choices: Sequence[Any], text: str) -> list[Mention]:
    """Find every place where a text names one of a parameter's choices, the longest first where they overlap."""
    found: list[Mention] = []
    for value in sorted(map(str, choices), key=len, reverse=True):
        if value.isdigit() or value.lower() in ("true", "false") or not value.strip():
            continue
        words = re.escape(value).replace("_", r"[\s_-]").replace("\\ ", r"[\s_-]")
        for match in re.finditer(rf"(?i)(?<!\w){words}s?(?!\w)", text):
            if all(match.end() <= item.start or match.start() >= item.end for item in found):
                found.append(_made(text, "choice", value, match.start(), match.end()))
    return sorted(found, key=lambda item: item.start)


def without_values(text: str) -> str:
    """Return a text without what it quotes, so that only the words that ask for something are left."""
    return " ".join(_QUOTED_ONLY.sub(" ", text).split())


def quoted(text: str) -> list[str]:
    """Return what a text quotes."""
    return [str(item.value) for item in mentions(text) if item.kind == "quoted"]


def without_mentions(text: str) -> str:
    """Return a text without the values in it."""
    for item in reversed(mentions(text)):
        text = text[: item.start] + text[item.end :]
    return text


def _list(raw: str) -> list[Any]:
    try:
        found = json.loads(raw.replace("'", '"'))
    except ValueError:
        found = [item.strip().strip("'\"") for item in raw[1:-1].split(",") if item.strip()]
    return [int(x) if re.fullmatch(r"-?\d+", str(x)) else x for x in found]


def iso(raw: str) -> str:
    """Write a date that names its month and year as 2024-12-31; leave any other as it is."""
    month = re.search(rf"(?i){_MONTH}", raw)
    year, day = re.search(r"\b(\d{4})\b", raw), re.search(r"\b(\d{1,2})(?:st|nd|rd|th)?\b", raw)
    if not month or not year or not day:
        return raw
    return f"{year[1]}-{_MONTHS.index(month[0][:3].lower()) + 1:02d}-{int(day[1]):02d}"


def runs(found: list[Mention], text: str) -> Iterator[list[Mention]]:
    """Yield lists that the text spells out: values of one kind with only commas, "and" or "or" between them."""
    run: list[Mention] = []
    for item in found:
        between = text[run[-1].end : item.start] if run else ""
        joined = re.fullmatch(
            r"(?i)\s*(?:units?|%|dollars|years|days|minutes)?\s*(?:,|;|and|&|or|,\s*and|,\s*or|,\s*followed by)"
            r"\s*(?:the\s+|of\s+)?",
            between,
        )
        if run and joined and item.kind == run[-1].kind:
            run.append(item)
            continue
        if len(run) > 1:
            yield run
        run = [item]
    if len(run) > 1:
        yield run
