# ruff: noqa: RUF001  # typographic quotes are meant

"""Plain noun phrases of a request: what is asked about without quotes, digits or capital letters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.planners.clauses import mask
from router.planners.lexicon import VERBS
from router.planners.words import STOP, stems

_TOKEN = re.compile(r"[^\W_](?:[\w'’.-]*[^\W_])?|[^\w\s]")
CUES = frozenset("in at on of for from to with by about near between into as named called titled using like".split())
_CLOSED = (
    STOP
    | VERBS
    | CUES
    | frozenset(
        """between during over under per within without near about called named titled like such more most very really
        am been being did had having was were where when why whom whose while because since until before through against
        their his her he she they let just only now today right currently recent recently latest current possible
        available help know looking interested trying going want wanted wants take takes taking give given find finding
        show tell explain provide considering assuming suppose note also again another other others one ones both each
        every first second third fourth last next same different between among across per via whether there here
        able make made makes happen happened called see seen determine interested using used use got have
        i'd i'm i'll i've what's it's that's let's don't can't won't there's how's who's where's""".split()
    )
)
MAX_WORDS = 5


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand together and name something."""

    text: str
    start: int
    end: int
    cue: str
    """The preposition before it, or nothing."""


def phrases(text: str) -> list[Phrase]:
    """Find the noun phrases of a text, in order: what function words, verbs of asking and punctuation leave over."""
    shown = mask(text)
    found: list[Phrase] = []
    run: list[re.Match[str]] = []
    cue = before = ""
    for match in _TOKEN.finditer(shown):
        word = match[0].lower()
        # a verb of asking is one only where a clause or an infinitive begins: "book a room", "the book"
        closed = word in _CLOSED and not (word in VERBS and word not in STOP and before in ("the", "a", "an", "of"))
        if closed or not (word[0].isalnum() or word[0] == "\ue000"):
            found += _made(text, run, cue)
            cue = word if word in CUES else cue if word in ("the", "a", "an", "my", "some", "all", "any") else ""
            run = []
        else:
            run.append(match)
        before = word
    return found + list(_made(text, run, cue))


def _made(text: str, run: Sequence[re.Match[str]], cue: str) -> Iterator[Phrase]:
    if 0 < len(run) <= MAX_WORDS and not all(match[0].isdigit() for match in run):
        start, end = run[0].start(), run[-1].end()
        yield Phrase(text[start:end], start, end, cue)


_AND = re.compile(r"(?i)\s*(?:,|,?\s*\b(?:and|or)\b|&|\bas well as\b)\s*(?:the\s+|an?\s+)?")


def listed(text: str) -> list[list[Phrase]]:
    """Find the lists of noun phrases that a text spells out: only commas, "and" or "or" stand between their items."""
    found: list[list[Phrase]] = []
    run: list[Phrase] = []
    for phrase in phrases(text):
        if run and _AND.fullmatch(text[run[-1].end : phrase.start]):
            run.append(phrase)
            continue
        found.append(run)
        run = [phrase]
    return [own for own in [*found, run] if len(own) > 1]


def bare(phrase: str, names: Sequence[str]) -> str:
    """Return a phrase without the words at its ends that only name the parameter ("rock genre" is "rock")."""
    words = phrase.split()
    while len(words) > 1 and set(stems(words[-1])) & set(names):
        words = words[:-1]
    while len(words) > 1 and set(stems(words[0])) & set(names):
        words = words[1:]
    return " ".join(words)
